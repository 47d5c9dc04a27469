"""What a training step computes, by class of operation, counted from the network's records. No TensorFlow.

A step counts every multiply-add of the forward pass three times: for the output, for the gradient of the input and for
that of the weights; the stem's input needs no gradient. A multiply-add is two FLOP. Matrix units work on squares of
128 x 128 (256 x 256 on v6e): where a convolution has fewer channels, the rest of the square is idle.
"""

import math
from dataclasses import dataclass

from efficientnet_tpu.models.architecture import Architecture, MBConvSpec, SeparableSpec
from efficientnet_tpu.models.complexity import count, output_size

BYTES_PER_PARAMETER = 4
ON_VECTOR_UNITS = {"depthwise", "squeeze-excite"}  # which are no matter for matrix units, or too small for them


@dataclass(frozen=True)
class MatrixProduct:
    """A convolution as a product of matrices: [positions, inputs] x [inputs, outputs]."""

    name: str
    positions: int
    inputs: int
    outputs: int

    @property
    def multiply_adds(self) -> int:
        return self.positions * self.inputs * self.outputs

    def share_of_mxu(self, mxu_size: int) -> float:
        """Part of the matrix unit that is not idle, 0..1, in the forward pass and in the backward ones."""
        return math.prod(size / (-(-size // mxu_size) * mxu_size) for size in (self.inputs, self.outputs))


def matrix_products(architecture: Architecture) -> list[MatrixProduct]:
    """Of one image: all convolutions but depthwise ones and squeeze-and-excitation's, and the classifier."""
    size = output_size(architecture.resolution, 2)
    products = [MatrixProduct("stem", size**2, 3 * architecture.stem_kernel_size**2, architecture.stem_filters)]
    size = output_size(size, 2) if architecture.stem_pool else size
    for block in architecture.blocks:
        after = output_size(size, block.strides)
        if isinstance(block, MBConvSpec):
            if block.expand_ratio != 1:
                products.append(MatrixProduct("pointwise", size**2, block.input_filters, block.expanded_filters))
            products.append(MatrixProduct("pointwise", after**2, block.expanded_filters, block.filters))
        elif isinstance(block, SeparableSpec):
            products.append(MatrixProduct("pointwise", after**2, block.input_filters, block.filters))
        else:
            inner, kernel = block.inner_filters, block.kernel_size**2
            products.append(MatrixProduct("pointwise", size**2, block.input_filters, inner))
            products.append(MatrixProduct("convolution", after**2, kernel * inner, inner))
            products.append(MatrixProduct("pointwise", after**2, inner, block.filters))
            if block.has_projection:
                products.append(MatrixProduct("pointwise", after**2, block.input_filters, block.filters))
        size = after
    features = architecture.blocks[-1].filters
    if architecture.head_filters:
        products.append(MatrixProduct("pointwise", size**2, features, architecture.head_filters))
        features = architecture.head_filters
    return [*products, MatrixProduct("classifier and loss", 1, features, architecture.num_classes)]


def step_flops(architecture: Architecture) -> dict[str, float]:
    """FLOP of one image in a training step, convolutions and the classifier only, by class of `compiled_program`."""
    flops: dict[str, float] = {}
    for product in matrix_products(architecture):
        passes = 2 if product.name == "stem" else 3
        flops[product.name] = flops.get(product.name, 0.0) + 2 * passes * product.multiply_adds
    cost = count(architecture)
    return flops | {"depthwise": 6.0 * cost.depthwise_multiply_adds, "squeeze-excite": 6.0 * cost.se_multiply_adds}


def mxu_share(architecture: Architecture, mxu_size: int) -> float:
    """The part of matrix units' work that is not padding, over all matrix products."""
    products = matrix_products(architecture)
    padded = sum(product.multiply_adds / product.share_of_mxu(mxu_size) for product in products)
    return sum(product.multiply_adds for product in products) / padded


# Slots of a size with the weights, by optimizer; adamw, without amsgrad, has two.
SLOTS = {"rmsprop": 2, "momentum": 1, "sgd": 0, "lars": 1, "adamw": 2}


@dataclass(frozen=True)
class StateBytes:
    """What a core holds all the time, in bytes, unpadded."""

    weights: int
    average: int
    slots: int

    @property
    def total(self) -> int:
        return self.weights + self.average + self.slots


def state_bytes(architecture: Architecture, optimizer: str) -> StateBytes:
    """Of weights (batch norm's statistics included), their average and the optimizer's slots, all of them float32."""
    cost = count(architecture)
    weights = cost.total_params * BYTES_PER_PARAMETER
    return StateBytes(weights, weights, SLOTS[optimizer] * cost.trainable_params * BYTES_PER_PARAMETER)


def gradient_bytes(architecture: Architecture) -> int:
    """What every core contributes to the sum of gradients, float32."""
    return count(architecture).trainable_params * BYTES_PER_PARAMETER
