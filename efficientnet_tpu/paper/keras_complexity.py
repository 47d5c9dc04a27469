"""Multiply-adds of any Keras model, counted layer by layer: a check on `complexity`, and the way to other networks."""

import math

import keras

from efficientnet_tpu.models.complexity import Complexity


def count_model(model: keras.Model, resolution: int) -> Complexity:
    """Complexity at an image side of `resolution` pixels, by the rules of `complexity`: convolutions and dense layers.

    Multiply-adds are not told apart: all count as those of convolutions. Raises ValueError at a layer that has weights
    and is of no known kind.
    """
    # A model of this very side: Keras then knows the size of every map.
    inputs = keras.Input((resolution, resolution, 3))
    fixed = keras.models.clone_model(model, input_tensors=inputs)
    multiply_adds = sum(_multiply_adds(layer) for layer in fixed.layers)
    trainable = sum(math.prod(weight.shape) for weight in fixed.trainable_weights)
    return Complexity(trainable, fixed.count_params() - trainable, conv_multiply_adds=multiply_adds)


def _multiply_adds(layer: keras.layers.Layer) -> int:
    layers = keras.layers
    if isinstance(layer, layers.SeparableConv2D):
        positions = math.prod(layer.output.shape[1:3])
        return positions * (_size(layer.depthwise_kernel) + _size(layer.pointwise_kernel))
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        return math.prod(layer.output.shape[1:3]) * _size(layer.kernel)
    if isinstance(layer, layers.Dense):
        return _size(layer.kernel)
    if layer.weights and "normalization" not in type(layer).__name__.lower():
        raise ValueError(f"{layer.name}: cannot count a {type(layer).__name__}")
    return 0


def _size(weight: keras.Variable) -> int:
    return math.prod(weight.shape)
