"""The forward pass of training in less memory: the backward pass computes the activations of each block again.

Only the input of a block is kept. A block is then computed twice in a step, from the same numbers and with the same
dropout, and batch norm's moving statistics move once: the step is the same, slower and smaller (Chen et al. 2016,
Training Deep Nets with Sublinear Memory Cost).
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.models.blocks import part_of
from efficientnet_tpu.models.fused.optimization_barrier import optimization_barrier
from efficientnet_tpu.models.layers import BatchNormalization, batch_moments, current_dropout_seed, dropout_seed

Forward = Callable[[tf.Tensor], tf.Tensor]


def training_pass(model: keras.Model, rematerialize: str) -> Forward:
    """Returns the forward pass of training: images [batch, size, size, 3] -> logits float32 [batch, num_classes].

    rematerialize: as --rematerialize; with none, the model itself is called.
    """
    if rematerialize == "none":
        return lambda images: model(images, training=True)
    *body, head = segments(model)

    def forward(images: tf.Tensor) -> tf.Tensor:
        x = tf.cast(images, tf.float32)
        for segment in body:
            x = _recomputed(segment, x)
        return head(x, training=True)  # its backward pass comes first, so there is no memory to be won

    return forward


def segments(model: keras.Model) -> list[keras.Model]:
    """Cuts a model into parts whose chain it is: the stem with the first block, every other block, and the rest.

    The parts share the layers of the model.
    """
    last_layers = {part_of(layer.name): layer for layer in model.layers}
    ends = [layer.output for part, layer in last_layers.items() if part.startswith("block_")]
    starts = [model.inputs[0], *ends]
    return [
        keras.Model(start, end, name=model.name) for start, end in zip(starts, [*ends, model.outputs[0]], strict=True)
    ]


def _recomputed(segment: keras.Model, x: tf.Tensor) -> tf.Tensor:
    """Returns `segment` of x, both [batch, height, width, channels], in training. The backward pass keeps x alone."""
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
            # Without the barrier XLA finds that this is the forward pass again, and keeps its results instead.
            again, gradient = optimization_barrier(x, after=gradient)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([again, *values])
                y, _ = run(again, values)
            return tape.gradient(y, [again, *values], gradient, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return run(x, values), backwards

    y, moments = call(x, *(tf.convert_to_tensor(variable.value) for variable in trained))
    for layer in segment.layers:
        if isinstance(layer, BatchNormalization) and layer.name in moments:
            layer.update_moving_statistics(*moments[layer.name])
    return y
