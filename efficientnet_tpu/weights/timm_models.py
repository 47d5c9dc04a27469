"""timm's models: the paper's EfficientNets are those named tf_efficientnet_*, and config.json states their options.

timm's other models (efficientnet_b0, ...) have the same tensors by the same names. But they pad convolutions on all
sides and add 1e-5 instead of 1e-3 to variances, so an import of them would run and be wrong.
"""

import math
import os
import re
from typing import Any

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD

UNKNOWN_MODEL_NOTE = (
    "note: the file cannot tell which of timm's models it is; taken for a tf_efficientnet_*, and for AdvProp's weights "
    "if its name has _ap in it. A directory with config.json tells."
)
_OTHER_MODEL = re.compile(r"(?<!tf_)(efficientnet_(b\d|l2|lite\d|em|es|el|cc)|mixnet|mnasnet|fbnet|spnasnet)")


def require_tf_efficientnet(path: str) -> None:
    """Raises UserError for a path that names one of timm's other models."""
    name = os.path.basename(path.rstrip("/"))
    if _OTHER_MODEL.search(name):
        raise UserError(_refusal(path, name))


def timm_name(model: str) -> str:
    """Returns timm's name of a model: tf_efficientnet_b0 for efficientnet-b0."""
    return f"tf_{model.replace('-', '_')}"


def read_options(path: str, config: Any) -> dict[str, Any]:
    """Returns the flags of the preprocessing that a config.json states.

    They are resolution, eval_crop_padding and, where it is not the model's own, normalization. Raises UserError for
    another network or another normalization, ValueError for another file.
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
    resolution = size[-1] if isinstance(size, list) and len(size) == 3 else None
    if type(resolution) is not int or not 16 <= resolution <= 4096:
        return normalization
    if not isinstance(share, float) or not 0.5 <= share <= 1:
        return normalization
    # timm states the share, in three digits, that TensorFlow's padding of 32 pixels leaves.
    padding = round(resolution / share) - resolution
    return normalization | {"resolution": resolution, "eval_crop_padding": 32 if abs(padding - 32) <= 2 else padding}


def _normalization(path: str, name: str, stated: dict[str, Any]) -> dict[str, Any]:
    """Returns the --normalization that the config states, if it is not the model's own.

    Lite was trained with (x - 127) / 128, which timm rounds to a mean and deviation of one half. The others were
    trained with ImageNet's statistics, and AdvProp's with exactly one half.
    """
    imagenets = {"mean": [m / 255 for m in IMAGENET_MEAN], "std": [s / 255 for s in IMAGENET_STD]}
    halves = {"mean": [0.5] * 3, "std": [0.5] * 3}
    own = halves if "_lite" in name else imagenets
    values = {key: stated.get(key, own[key]) for key in own}
    if _all_close(values, own):
        return {}
    if _all_close(values, halves):
        return {"normalization": "advprop"}
    raise UserError(
        f"{path}: these weights expect images normalised with {values}, our {name.removeprefix('tf_')} normalises with "
        f"{own}, or with halves for AdvProp's weights. Others are not supported."
    )


def _all_close(values: dict[str, Any], wanted: dict[str, list[float]]) -> bool:
    """Returns whether a config's lists of numbers, which may be anything, are the wanted ones."""
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
