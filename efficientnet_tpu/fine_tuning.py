"""What of a model is trained, for --freeze and --bn_mode: Keras' own `layer.trainable = False` on the rest.

What is frozen has no gradient, no slot in the optimizer and no L2, and computes as in evaluation: batch norm by its
moving statistics, which stay, and no block is dropped. The dropout before the classifier belongs to the classifier.
"""

import math

import keras

from efficientnet_tpu.config import TrainConfig, UserError
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.layers import BatchNormalization


def frozen_parts(freeze: str, architecture: Architecture) -> list[str]:
    """The parts of a network that --freeze names, of "stem", "block_0", "block_1", ..., "head": the beginnings of the
    names of their layers.

    Raises UserError, with what there is, for anything else.
    """
    blocks = [f"block_{index}" for index in range(len(architecture.blocks))]
    if freeze == "none":
        return []
    if freeze == "backbone":
        return ["stem", *blocks, "head"]
    kind, _, number = freeze.partition(":")
    stages = [block.stage for block in architecture.blocks]
    most = {"stages": stages[-1], "blocks": len(blocks)}.get(kind, 0)
    if not (number.isdecimal() and 1 <= int(number) <= most):
        raise UserError(
            f"--freeze={freeze}: must be none, backbone, stages:K or blocks:N, where {architecture.name} has stages 1 "
            f"to {stages[-1]} and blocks 1 to {len(blocks)}."
        )
    count = int(number) if kind == "blocks" else sum(stage <= int(number) for stage in stages)
    return ["stem", *blocks[:count]]


def freeze(model: keras.Model, architecture: Architecture, train: TrainConfig) -> None:
    """Makes the layers that are not to be trained not trainable; before the optimizer is built."""
    parts = tuple(f"{part}_" for part in frozen_parts(train.freeze, architecture))
    for layer in model.layers:
        is_frozen_statistic = train.bn_mode == "frozen" and isinstance(layer, BatchNormalization)
        if layer.name.startswith(parts) or is_frozen_statistic:
            layer.trainable = False


def parameter_counts(model: keras.Model) -> tuple[int, int]:
    """How many numbers are trained, and how many are frozen. Moving statistics are neither."""
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    total = sum(math.prod(weight.shape) for weight in model.weights if not weight.name.startswith("moving_"))
    return trained, total - trained


def introduction(model: keras.Model, train: TrainConfig) -> str:
    """What is frozen, in a line for people; empty when nothing is."""
    trained, frozen = parameter_counts(model)
    if not frozen:
        return ""
    flags = [f"--freeze={train.freeze}"] * (train.freeze != "none") + ["--bn_mode=frozen"] * (train.bn_mode == "frozen")
    return f"trained are {trained:,} parameters, frozen {frozen:,} ({', '.join(flags)})"
