"""Which of timm's EfficientNets are the paper's: those named tf_efficientnet_*, and what their config.json tells.

The others (efficientnet_b0, ...) have the same tensors by the same names, but pad convolutions on all sides and add
1e-5 instead of 1e-3 to variances: imported, they would run and be wrong.
"""

import math
import os
import re
from typing import Any

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD

NOT_TOLD = (
    "note: the file cannot tell which of timm's models it is; taken for a tf_efficientnet_*, and for AdvProp's weights "
    "if its name has _ap in it. A directory with config.json tells."
)
_OTHER_MODEL = re.compile(r"(?<!tf_)(efficientnet_(b\d|l2|lite\d|em|es|el|cc)|mixnet|mnasnet|fbnet|spnasnet)")


def require_tensorflows(path: str) -> None:
    """Refuses a path that names one of timm's other models."""
    name = os.path.basename(path.rstrip("/"))
    if _OTHER_MODEL.search(name):
        raise UserError(_refusal(path, name))


def architecture_name(model: str) -> str:
    """tf_efficientnet_b0 of efficientnet-b0."""
    return f"tf_{model.replace('-', '_')}"


def options_of(path: str, config: Any) -> dict[str, Any]:
    """Flags of the preprocessing that a config.json states: resolution, eval_crop_padding and, where it is not the
    model's own, normalization.

    Raises UserError for another network or another normalisation, ValueError for another file.
    """
    if not isinstance(config, dict):
        raise ValueError("config.json is not a configuration of timm")
    name = config.get("architecture")
    if not isinstance(name, str) or not name.startswith("tf_efficientnet_"):
        raise UserError(_refusal(path, str(name)[:100]))
    stated = config.get("pretrained_cfg")
    if not isinstance(stated, dict):
        return {}
    normalization = _normalization(path, name, stated)
    size, share = stated.get("input_size"), stated.get("crop_pct")
    if not (isinstance(size, list) and _is_size(size) and isinstance(share, float) and 0.5 <= share <= 1):
        return normalization
    resolution = size[-1]
    # timm states the share, in three digits, that TensorFlow's padding of 32 pixels leaves.
    padding = round(resolution / share) - resolution
    return normalization | {"resolution": resolution, "eval_crop_padding": 32 if abs(padding - 32) <= 2 else padding}


def _is_size(size: list[Any]) -> bool:
    return len(size) == 3 and type(size[-1]) is int and 16 <= size[-1] <= 4096


def _normalization(path: str, name: str, stated: dict[str, Any]) -> dict[str, Any]:
    """Lite was trained with (x - 127) / 128, which timm rounds to a mean and deviation of one half; the others with
    ImageNet's, and with exactly one half where they are AdvProp's.
    """
    imagenets = {"mean": [m / 255 for m in IMAGENET_MEAN], "std": [s / 255 for s in IMAGENET_STD]}
    halves = {"mean": [0.5] * 3, "std": [0.5] * 3}
    own = halves if "_lite" in name else imagenets
    values = {key: stated.get(key, own[key]) for key in own}
    if _are(values, own):
        return {}
    if _are(values, halves):
        return {"normalization": "advprop"}
    raise UserError(
        f"{path}: these weights expect images normalised with {values}, our {name.removeprefix('tf_')} normalises with "
        f"{own}, or with halves for AdvProp's weights. Others are not supported."
    )


def _are(values: dict[str, Any], wanted: dict[str, list[float]]) -> bool:
    for key, numbers in wanted.items():
        value = values[key]
        found = value if isinstance(value, list) and len(value) == 3 else [math.nan] * 3
        if not all(isinstance(a, int | float) and abs(a - b) < 1e-6 for a, b in zip(found, numbers, strict=True)):
            return False
    return True


def _refusal(path: str, name: str) -> str:
    return (
        f"{path}: {name} is not one of timm's tf_efficientnet_*. The others pad their convolutions in another way and "
        "have another epsilon in batch norm, so that the same weights compute something else here."
    )
