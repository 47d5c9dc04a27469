"""Writes files for comparing and testing imports. Run by a Python with PyTorch and timm; nothing of ours is needed:

python torch_weights.py random NAME PHOTOS FILE   a timm network with random weights and batch norm, as safetensors
python torch_weights.py photos SIZE FILE          photographs of scikit-image and scikit-learn, as uint8 .npy
python torch_weights.py golden DIRECTORY          the small files in tests/golden/weights
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

PHOTOS = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
TINY = {"width": 0.1, "depth": 0.3, "num_classes": 3}


def randomize(model: torch.nn.Module, images: np.ndarray, largest_logit: float | None = None) -> torch.nn.Module:
    """Assigns random weights under which the logits depend on the image and on every tensor.

    Fresh batch norm is the identity, which would hide mistakes in its mapping, and a fresh network in inference mode
    gives nearly the same logits for all images. Here its statistics are those of some pictures, perturbed.

    images: uint8 [batch, height, width, 3], 0..255, for the statistics.
    """
    torch.manual_seed(1)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.6, 1.4)
        torch.nn.init.uniform_(norm.bias, -0.4, 0.4)
        norm.momentum = 1.0
    normalised = torch.from_numpy(images.transpose(0, 3, 1, 2) / 64 - 2).float()
    with torch.no_grad():
        model.train()(normalised)
        for norm in norms:
            norm.running_mean += norm.running_var.sqrt() * torch.empty_like(norm.running_mean).uniform_(-0.2, 0.2)
            # A channel may be nearly constant on a few pictures; two programs that divide by that would not agree.
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)
            norm.running_var += 0.02
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and module.bias is not None:
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=2 / module.in_features**0.5)
    with torch.no_grad():
        if largest_logit:
            scale = largest_logit / model.eval()(normalised).abs().max()
            model.get_classifier().weight *= scale
            model.get_classifier().bias *= scale
    return model.eval()


def pictures(count: int, height: int, width: int) -> np.ndarray:
    """Returns pictures of blocks of colors with noise, uint8 [count, height, width, 3], 0..255."""
    random = np.random.default_rng(0)
    colors = random.integers(0, 220, (count, 5, 5, 3))
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 5 // width
    noise = random.integers(0, 36, (count, height, width, 3))
    return (colors[:, rows][:, :, columns] + noise).astype(np.uint8)


def random_weights(name: str, photos: str, path: str) -> None:
    """Saves timm's network of this name, untrained, with logits of up to about 10, as trained ones have."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(randomize(timm.create_model(name), np.load(photos), 10.0).state_dict(), path, {"format": "pt"})


def photos(size: int, path: str) -> None:
    """Saves five photographs, uint8 [5, size, size, 3], 0..255."""
    import skimage
    import sklearn.datasets
    from PIL import Image

    files = [Path(skimage.__file__).parent / "data" / name for name in PHOTOS]
    files.append(Path(sklearn.datasets.__file__).parent / "images" / "china.jpg")
    images = []
    for file in files:
        image = Image.open(file).convert("RGB")
        side = round(0.875 * min(image.size))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        images.append(np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)))
    np.save(path, np.stack(images))


def golden(directory: str) -> None:
    """Writes tiny networks with their own logits, and files with every kind of tensor."""
    from efficientnet_lite_pytorch import EfficientNet
    from safetensors.torch import save_file
    from timm.models.efficientnet import _gen_efficientnet

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    timm_tiny = _gen_efficientnet(
        "tf_efficientnet_b0",
        channel_multiplier=TINY["width"],
        depth_multiplier=TINY["depth"],
        pad_type="same",
        bn_eps=1e-3,
        num_classes=TINY["num_classes"],
    )
    lite_tiny = EfficientNet.from_name(
        "efficientnet-lite0",
        width_coefficient=TINY["width"],
        depth_coefficient=TINY["depth"],
        num_classes=TINY["num_classes"],
    )
    # Lite's package pads for even sizes only.
    sizes = {"timm_tiny": (45, 38), "lite_tiny": (64, 64)}
    answers: dict[str, Any] = {}
    for name, model in (("timm_tiny", timm_tiny), ("lite_tiny", lite_tiny)):
        state = {key: to_half(value) for key, value in randomize(model, pictures(16, 96, 96)).state_dict().items()}
        model.load_state_dict(state)
        images = pictures(3, *sizes[name])
        np.save(folder / f"{name}.npy", images)
        mean, std = ((127, 127, 127), (128, 128, 128)) if name == "lite_tiny" else IMAGENET
        normalised = torch.from_numpy(((images - np.array(mean)) / std).transpose(0, 3, 1, 2)).float()
        with torch.no_grad():
            answers[name] = [[round(float(value), 7) for value in row] for row in model(normalised)]
        if name == "timm_tiny":
            # The path has to say which of timm's models it is.
            save_file(state, folder / "tf_efficientnet_b0_tiny.safetensors", {"format": "pt"})
        else:
            torch.save(state, folder / f"{name}.pth", _use_new_zipfile_serialization=False)
    (folder / "logits.json").write_text(json.dumps(answers, indent=1) + "\n")
    kinds = tensors_of_all_kinds()
    torch.save(kinds, folder / "kinds_zip.pth")
    torch.save(kinds, folder / "kinds_legacy.pth", _use_new_zipfile_serialization=False)
    save_file(
        {name: value.detach().contiguous().clone() for name, value in kinds.items()}, folder / "kinds.safetensors"
    )
    names = {
        name: tensor_shapes(name) for name in ("tf_efficientnet_b0", "tf_efficientnet_b3", "tf_efficientnet_lite0")
    }
    text = json.dumps(names, separators=(",", ":")).replace('],"', '],\n"')
    (folder / "timm_tensors.json").write_text(text + "\n")


IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def to_half(value: torch.Tensor) -> torch.Tensor:
    """Converts floats to float16 and leaves other types as they are; any shape, [...]."""
    return value.half() if value.is_floating_point() else value


def tensors_of_all_kinds() -> dict[str, torch.Tensor]:
    """Returns tensors of every number type, views of shared storages, parameters and a scalar."""
    base = torch.arange(24, dtype=torch.float32)
    return {
        "float32": base.reshape(2, 3, 4),
        "part": base[6:18].reshape(3, 4),
        "transposed": base.reshape(4, 6).t(),
        "expanded": base[1:2].expand(5),
        "float16": base.half() / 8,
        "bfloat16": base.bfloat16() * 3,
        "float64": base.double() / 3,
        "int64": base.long() - 5,
        "parameter": torch.nn.Parameter(base[:4] + 0.5),
        "scalar": torch.tensor(7),
    }


def tensor_shapes(name: str) -> dict[str, list[int]]:
    """Returns the shapes of a network's tensors by name."""
    import timm

    return {key: list(value.shape) for key, value in timm.create_model(name).state_dict().items()}


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "random":
        random_weights(*arguments)
    elif command == "photos":
        photos(int(arguments[0]), arguments[1])
    elif command == "golden":
        golden(*arguments)
    else:
        sys.exit(__doc__)
