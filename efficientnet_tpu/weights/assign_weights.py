"""Assigns the tensors of a weight file to a model: all of them, by name, each checked first."""

from collections.abc import Iterator

import keras
import numpy as np

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.weights.name_mapping import NameMapping
from efficientnet_tpu.weights.readers.stored_tensor import READ_ERRORS, StoredTensors


def weights_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns every weight of one of our models by layer/variable."""
    return {f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights}


def assign_weights(model: keras.Model, path: str, tensors: StoredTensors, mapping: NameMapping) -> None:
    """Assigns every mapped tensor, one at a time, and leaves the model's other weights as they are.

    path: the weight file's, for messages. Raises UserError as `read_weights` does.
    """
    weights = weights_by_name(model)
    for name, array in read_weights(path, tensors, mapping):
        weights[name].assign(array)


def read_weights(path: str, tensors: StoredTensors, mapping: NameMapping) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every mapped tensor by the name that we have for it, one at a time: float arrays in Keras' layout, [...].

    path: the weight file's, for messages. Raises UserError for tensors that cannot be read, are not finite, or hold
    negative variances.
    """
    for ours, stored in mapping.pairs.items():
        try:
            array = stored.to_keras_layout(tensors[stored.name].read())
        except READ_ERRORS as error:
            raise UserError(f"{path}: {stored.name} cannot be read: {error}") from error
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {stored.name} holds values that are no finite numbers.")
        if ours.endswith("/moving_variance") and array.min() < 0:
            raise UserError(f"{path}: {stored.name}, a variance, holds negative values.")
        yield ours, array
