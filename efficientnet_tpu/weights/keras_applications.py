"""keras.applications' EfficientNets: its normalisation, its download, and its own answer to compare with.

Its models compute (x / 255 - mean) / sqrt(std), because the layer Normalization was given the standard deviation as
variance; with weights="imagenet" a layer Rescaling(1 / sqrt(std)) behind makes it what it should be. Ours has the right
constants from the beginning, so that the two layers fold into what is there already.
"""

from typing import Any

import numpy as np

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD, NUM_IMAGENET_CLASSES, Architecture
from efficientnet_tpu.weights.logits import logits_of
from efficientnet_tpu.weights.readers.stored_tensor import Tensors, in_memory

_MEAN, _STD = np.array(IMAGENET_MEAN) / 255, np.array(IMAGENET_STD) / 255


def require_same_normalization(path: str, tensors: Tensors, architecture: Architecture) -> None:
    """Refuses weights that were trained on images normalised in another way than this model's."""
    if architecture.mean != IMAGENET_MEAN or architecture.std != IMAGENET_STD:
        raise UserError(f"{path}: keras.applications has B0 to B7; --model={architecture.name} normalises otherwise.")
    mean, variance = _statistics(tensors)
    if np.allclose(mean, _MEAN, atol=1e-4) and (
        np.allclose(variance, _STD, atol=1e-4) or np.allclose(variance, _STD**2, atol=1e-4)
    ):
        return
    raise UserError(
        f"{path}: these weights expect images normalised as (x / 255 - mean) / sqrt(variance) with mean "
        f"{mean.tolist()} and variance {variance.tolist()}, not by ImageNet's statistics. So keras.applications trains "
        "models built with weights=None; they cannot be imported, because this model normalises otherwise."
    )


def _statistics(tensors: Tensors) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [3] of the layer Normalization."""
    found = {}
    for name, tensor in tensors.items():
        layer, _, variable = name.rpartition("/")
        if layer.partition("_")[0] == "normalization" and variable in ("mean", "variance"):
            if int(np.prod(tensor.shape)) != 3:
                raise ValueError(f"{name} has the shape {tensor.shape}")
            found[variable] = np.asarray(tensor.read(), np.float64).reshape(3)
    if len(found) != 2:
        raise ValueError("the layer normalization of keras.applications is missing")
    return found["mean"], found["variance"]


def build(architecture: Architecture, num_classes: int, weights: str | None = None) -> Any:
    """keras.applications' model of the same name, giving logits."""
    import keras

    make = getattr(keras.applications, f"EfficientNet{architecture.name.removeprefix('efficientnet-').upper()}", None)
    if make is None:
        raise UserError(f"--model={architecture.name}: keras.applications has B0 to B7 only.")
    return make(weights=weights, classes=num_classes, classifier_activation=None)


def downloaded(architecture: Architecture) -> Tensors:
    """The weights for ImageNet that keras.applications downloads, or has downloaded before."""
    try:
        model = build(architecture, NUM_IMAGENET_CLASSES, "imagenet")
    except UserError:
        raise
    except Exception as error:  # of whatever kind Keras and the network raise
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"--from=imagenet: keras.applications cannot download these weights: {reason:.300}. Without a network, "
            "name a file."
        ) from error
    return {
        f"{layer.name}/{weight.name}": in_memory(np.asarray(weight))
        for layer in model.layers
        for weight in layer.weights
    }


def logits(file: str, architecture: Architecture, num_classes: int, images: np.ndarray) -> np.ndarray:
    """What keras.applications itself computes of uint8 [n, size, size, 3] with the weights in `file`."""
    model = build(architecture, num_classes)
    model.load_weights(file)
    normalization = next(layer for layer in model.layers if layer.name.startswith("normalization"))
    variance = np.asarray(normalization.variance, np.float64).reshape(3)
    return logits_of(model, as_without_rescaling(images, variance))


def as_without_rescaling(images: np.ndarray, variance: np.ndarray = _STD) -> np.ndarray:
    """float32 images that (x / 255 - mean) / sqrt(variance) turns into (image / 255 - mean) / std.

    A model that is built to load a file has no layer Rescaling, which would do the rest.
    """
    return (255 * (_MEAN + (images / 255 - _MEAN) / _STD * np.sqrt(variance))).astype(np.float32)
