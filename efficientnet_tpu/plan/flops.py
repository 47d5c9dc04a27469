"""The FLOP of a training step, by class of operation, counted from the list of convolutions. No TensorFlow.

A step counts every multiply-add of the forward pass three times: for the output, for the gradient of the input and for
that of the weights; the stem's input needs no gradient. A multiply-add is two FLOP. Matrix units work on squares of
128 x 128 (256 x 256 on v6e): where a convolution has fewer channels, the rest of the square is idle.
"""

import math
from dataclasses import dataclass

from efficientnet_tpu.models.architecture import Architecture, Convolution
from efficientnet_tpu.models.complexity import count

# Depthwise convolutions do not suit matrix units, and squeeze-and-excitation is too small for them.
ON_VECTOR_UNITS = {"depthwise", "squeeze-excite"}
# The class of an operation by Convolution.kind; a 1x1 convolution is "pointwise".
OPERATION_CLASSES = {
    "stem": "stem",
    "convolution": "convolution",
    "depthwise": "depthwise",
    "squeeze_excite": "squeeze-excite",
    "classifier": "classifier and loss",
}


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
        """Returns the part of the matrix unit that is not idle, 0..1, in the forward pass and in the backward ones."""
        return math.prod(size / (-(-size // mxu_size) * mxu_size) for size in (self.inputs, self.outputs))


def matrix_products(architecture: Architecture) -> list[MatrixProduct]:
    """Returns the matrix products of one image: everything but depthwise convolutions and squeeze-and-excitation."""
    return [
        MatrixProduct(
            operation_class(row.convolution),
            row.output_size**2,
            row.convolution.kernel_size**2 * row.convolution.input_filters,
            row.convolution.filters,
        )
        for row in architecture.convolutions()
        if operation_class(row.convolution) not in ON_VECTOR_UNITS
    ]


def operation_class(convolution: Convolution) -> str:
    """Returns the class of a convolution in `hlo_cost`, whose measured times the counted ones are compared with."""
    if convolution.kind == "convolution" and convolution.kernel_size == 1:
        return "pointwise"
    return OPERATION_CLASSES[convolution.kind]


def step_flops(architecture: Architecture) -> dict[str, float]:
    """Returns the FLOP of one image in a training step by class of `hlo_cost`: convolutions and the classifier only."""
    flops: dict[str, float] = {}
    for product in matrix_products(architecture):
        passes = 2 if product.name == "stem" else 3
        flops[product.name] = flops.get(product.name, 0.0) + 2 * passes * product.multiply_adds
    cost = count(architecture)
    return flops | {"depthwise": 6.0 * cost.depthwise_multiply_adds, "squeeze-excite": 6.0 * cost.se_multiply_adds}


def mxu_share(architecture: Architecture, mxu_size: int) -> float:
    """Returns the part of the matrix units' work that is not padding, 0..1, over all matrix products."""
    products = matrix_products(architecture)
    padded = sum(product.multiply_adds / product.share_of_mxu(mxu_size) for product in products)
    return sum(product.multiply_adds for product in products) / padded
