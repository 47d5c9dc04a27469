"""The forward pass of training with less to remember: blocks whose activations the backward pass computes again.

What is kept of a block is its input. A block is then computed twice in a step, from the same numbers, with the same
dropout, and batch norm's moving statistics move once: the step is the same, slower and smaller.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.models.fused.optimization_barrier import after
from efficientnet_tpu.models.layers import BatchNormalization, batch_moments, current_dropout_seed, dropout_seed

Forward = Callable[[tf.Tensor], tf.Tensor]


def training_pass(model: keras.Model, rematerialize: str) -> Forward:
    """images [batch, size, size, 3] -> logits [batch, num_classes], in training.

    rematerialize: as --rematerialize; with none, the model itself is called.
    """
    if rematerialize == "none":
        return lambda images: model(images, training=True)
    *body, head = segments(model)

    def forward(images: tf.Tensor) -> tf.Tensor:
        x = tf.cast(images, tf.float32)
        for segment in body:
            x = _recomputed(segment, x)
        return head(x, training=True)  # its backward pass comes first: nothing to be won

    return forward


def segments(model: keras.Model) -> list[keras.Model]:
    """The parts whose chain is the model, sharing its layers: the stem with the first block, every other block, and
    the rest.
    """
    last_of = {match[0]: layer for layer in model.layers if (match := re.match(r"block_\d+_", layer.name))}
    ends = [layer.output for layer in last_of.values()]
    starts = [model.inputs[0], *ends]
    return [
        keras.Model(start, end, name=model.name) for start, end in zip(starts, [*ends, model.outputs[0]], strict=True)
    ]


def _recomputed(segment: keras.Model, x: tf.Tensor) -> tf.Tensor:
    """`segment` of x, in training, of which the backward pass remembers x alone."""
    seed = current_dropout_seed()
    trained, fixed = segment.trainable_variables, segment.non_trainable_variables
    fixed_values = [tf.convert_to_tensor(variable.value) for variable in fixed]

    def run(x: tf.Tensor, values: Sequence[tf.Tensor]) -> tuple[tf.Tensor, dict[str, tuple[tf.Tensor, tf.Tensor]]]:
        mapping = list(zip([*trained, *fixed], [*values, *fixed_values], strict=True))
        with keras.StatelessScope(mapping), dropout_seed(seed), batch_moments() as moments:
            return segment(x, training=True), moments

    @tf.custom_gradient
    def call(x: tf.Tensor, *values: tf.Tensor) -> tuple[Any, Callable]:
        def backwards(gradient: tf.Tensor, *_: tf.Tensor) -> list[tf.Tensor]:
            again, gradient = after(gradient, x)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([again, *values])
                y, _ = run(again, values)
            return tape.gradient(y, [again, *values], gradient, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return run(x, values), backwards

    y, moments = call(x, *(tf.convert_to_tensor(variable.value) for variable in trained))
    for layer in segment.layers:
        if isinstance(layer, BatchNormalization) and layer.name in moments:
            layer.follow(*moments[layer.name])
    return y
