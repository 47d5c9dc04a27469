"""Who takes part in time_to_accuracy.py: the settings of each, and where they come from. Imports none of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

OURS = "ours"


@dataclass(frozen=True)
class Contestant:
    """One way to train the network of a task."""

    epochs: int
    source: str  # of the settings
    recipe: str = ""  # of this project's program; "": a module trains
    module: Literal["", "timm_training", "keras_training"] = ""  # of this folder
    packages: tuple[str, ...] = ()  # that --peer_python has to have
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A network, and the contestants that train it: from weights, or with `stage_table` from random ones."""

    contestants: Mapping[str, Contestant]
    stage_table: str = ""  # in flags/
    fine_tunes: bool = False  # Lite0's published weights


# timm's train.py, where its documentation gives no other value.
_TIMM_DEFAULTS = {
    "momentum": 0.9,
    "weight_decay": 2e-5,
    "warmup_epochs": 5.0,
    "warmup_lr": 1e-5,
    "schedule_steps": False,
    "smoothing": 0.1,
    "scale": (0.08, 1.0),
    "color_jitter": 0.4,
    "interpolation": "random",
    "average_decay": 0.0,
}
_TIMM = {"module": "timm_training", "packages": ("timm", "torch")}

_FLOWERS = {
    OURS: Contestant(4, "flags/finetune.flags", recipe="finetune"),
    "timm": Contestant(
        10,
        "timm's documentation, Scripts, Training Examples: train.py --pretrained --batch-size 32 --epochs 30 --opt "
        "adamw --lr 1e-4 --weight-decay 0.01, its only example from pretrained weights; train.py's defaults beside. "
        "10 epochs of its 30, with as large a share of warm-up",
        settings={
            **_TIMM_DEFAULTS,
            "optimizer": "adamw",
            "lr": 1e-4,
            "weight_decay": 0.01,
            "batch_size": 32,
            "size": 224,
            "warmup_epochs": 10 * 5 / 30,
        },
        **_TIMM,
    ),
    "timm_tuned": Contestant(
        4,
        "a plain loop with timm, tuned on these photographs: SGD with Nesterov momentum, cosine by the step, half an "
        "epoch of warm-up, batch norm trained, an average of the weights, 192 pixels",
        settings={
            **_TIMM_DEFAULTS,
            "optimizer": "sgd",
            "lr": 0.02,
            "batch_size": 32,
            "size": 192,
            "warmup_epochs": 0.5,
            "warmup_lr": 0.0,
            "schedule_steps": True,
            "average_decay": 0.98,
            "scale": (0.35, 1.0),
            "color_jitter": 0.0,
            "interpolation": "bicubic",
        },
        **_TIMM,
    ),
    "keras": Contestant(
        29,
        "keras.io, Image classification via fine-tuning with EfficientNet: 25 epochs of a new top on a frozen network "
        "by Adam at 1e-2, then 4 of its last 20 layers at 1e-5, batches of 64, 224 pixels, its augmentation. The "
        "network is this project's import of Lite0's weights in Keras' own layers: Keras has no Lite0. Read by "
        "tf.data, as earlier versions of the guide do",
        module="keras_training",
        settings={"batch_size": 64, "size": 224, "augmentation": "guide", "learning_rates": (1e-2, 1e-5)},
    ),
}


def _from_scratch(resolution: int) -> Task:
    """Returns the task of training one small EfficientNet on small images."""
    return Task(
        {
            OURS: Contestant(12, "flags/small-images.flags", recipe="small-images", settings={"size": resolution}),
            "timm": Contestant(
                12,
                "train.py's defaults: SGD with Nesterov momentum at 0.1 for 256 images, cosine by the epoch, batches "
                "of 128; evaluated on whole images (--crop-pct 1)",
                settings={
                    **_TIMM_DEFAULTS,
                    "optimizer": "sgd",
                    "lr": 0.1 * 128 / 256,
                    "batch_size": 128,
                    "size": resolution,
                },
                **_TIMM,
            ),
            "keras": Contestant(
                12,
                "keras.io, Image classification from scratch: Adam at its default rate, batches of 128, flips and "
                "rotations by up to a tenth of a turn",
                module="keras_training",
                settings={
                    "batch_size": 128,
                    "size": resolution,
                    "learning_rates": (1e-3,),
                    "augmentation": "flip, rotation",
                },
            ),
        },
        stage_table="search-cifar10.json",
    )


TASKS: dict[str, Task] = {
    "flowers": Task(_FLOWERS, fine_tunes=True),
    "cifar10": _from_scratch(32),
    "fashion": _from_scratch(28),
}
