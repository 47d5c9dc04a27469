"""Putting the tensors of a source into a model: all, by name, each checked on its way."""

import keras
import numpy as np

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.weights.name_mapping import Mapping
from efficientnet_tpu.weights.readers.stored_tensor import READ_ERRORS, Tensors


def weights_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """Every weight of one of our models, by layer/variable."""
    return {f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights}


def fill(model: keras.Model, path: str, tensors: Tensors, mapping: Mapping) -> None:
    """Assigns every mapped tensor, one at a time; the others of the model's weights are left as they are.

    Raises UserError for tensors that cannot be read or hold what no trained weight is.
    """
    weights = weights_by_name(model)
    for ours, stored in mapping.pairs.items():
        try:
            array = stored.as_ours(tensors[stored.name].read())
        except READ_ERRORS as error:
            raise UserError(f"{path}: {stored.name} cannot be read: {error}") from error
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {stored.name} holds values that are no finite numbers.")
        if ours.endswith("/moving_variance") and array.min() < 0:
            raise UserError(f"{path}: {stored.name}, a variance, holds negative values.")
        weights[ours].assign(array)
