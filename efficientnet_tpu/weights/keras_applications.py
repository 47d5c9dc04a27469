"""keras.applications' EfficientNets: their normalization, their download, and their model to compare with.

A model of keras.applications computes (x / 255 - mean) / sqrt(std), because its Normalization layer takes the standard
deviation as variance. With weights="imagenet" a layer Rescaling(1 / sqrt(std)) behind it corrects that. Our model has
the right constants from the beginning, so an import drops both layers.
"""

from typing import Any

import keras
import numpy as np

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD, NUM_IMAGENET_CLASSES, Architecture
from efficientnet_tpu.weights.readers.stored_tensor import StoredTensors, in_memory

_MEAN, _STD = np.array(IMAGENET_MEAN) / 255, np.array(IMAGENET_STD) / 255


def require_same_normalization(path: str, tensors: StoredTensors, architecture: Architecture) -> None:
    """Raises UserError for weights trained on images that were normalized in another way than this model's."""
    if architecture.mean != IMAGENET_MEAN or architecture.std != IMAGENET_STD:
        raise UserError(f"{path}: keras.applications has B0 to B7; --model={architecture.name} normalises otherwise.")
    statistics = {}
    for name, tensor in tensors.items():
        layer, _, variable = name.rpartition("/")
        if layer.partition("_")[0] == "normalization" and variable in ("mean", "variance"):
            if int(np.prod(tensor.shape)) != 3:
                raise ValueError(f"{name} has the shape {tensor.shape}")
            statistics[variable] = np.asarray(tensor.read(), np.float64).reshape(3)
    if len(statistics) != 2:
        raise ValueError("the layer normalization of keras.applications is missing")
    mean, variance = statistics["mean"], statistics["variance"]
    if np.allclose(mean, _MEAN, atol=1e-4) and (
        np.allclose(variance, _STD, atol=1e-4) or np.allclose(variance, _STD**2, atol=1e-4)
    ):
        return
    raise UserError(
        f"{path}: these weights expect images normalised as (x / 255 - mean) / sqrt(variance) with mean "
        f"{mean.tolist()} and variance {variance.tolist()}, not by ImageNet's statistics. So keras.applications trains "
        "models built with weights=None; they cannot be imported, because this model normalises otherwise."
    )


def build(architecture: Architecture, num_classes: int, weights: str | None = None) -> Any:
    """Builds keras.applications' model of the same name. It returns logits."""
    make = getattr(keras.applications, f"EfficientNet{architecture.name.removeprefix('efficientnet-').upper()}", None)
    if make is None:
        raise UserError(f"--model={architecture.name}: keras.applications has B0 to B7 only.")
    return make(weights=weights, classes=num_classes, classifier_activation=None)


def download(architecture: Architecture) -> StoredTensors:
    """Returns the ImageNet weights that keras.applications downloads, or has downloaded before."""
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


def load(file: str, architecture: Architecture, num_classes: int) -> tuple[keras.Model, np.ndarray]:
    """Loads a file into keras.applications' own model.

    Returns the model and the variance of its Normalization layer, float64 [3], for `images_without_rescaling`.
    """
    model = build(architecture, num_classes)
    model.load_weights(file)
    normalization = next(layer for layer in model.layers if layer.name.startswith("normalization"))
    return model, np.asarray(normalization.variance, np.float64).reshape(3)


def images_without_rescaling(images: np.ndarray, variance: np.ndarray = _STD) -> np.ndarray:
    """Returns images that (x / 255 - mean) / sqrt(variance) turns into (image / 255 - mean) / std.

    A model that is built to load a file lacks the layer Rescaling, which would do the rest.

    images: uint8 [batch, height, width, 3], 0..255.
    variance: float64 [3], of the Normalization layer.
    Returns float32 [batch, height, width, 3].
    """
    return (255 * (_MEAN + (images / 255 - _MEAN) / _STD * np.sqrt(variance))).astype(np.float32)
