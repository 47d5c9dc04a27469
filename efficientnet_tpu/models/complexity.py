"""Parameters, multiply-adds and activations, counted from the list of convolutions: no model is built, no TensorFlow.

One multiply-add is what the paper calls one FLOP. Convolutions, squeeze-and-excitation and the classifier are counted;
batch norm, activations, pooling and biases are not, as in the paper.
"""

import functools
from dataclasses import dataclass

from efficientnet_tpu.models.architecture import Architecture, PlacedConvolution


@dataclass(frozen=True)
class Complexity:
    """The cost of one image. Multiply-adds are split by kind of layer; activations are what convolutions write."""

    trainable_params: int = 0
    moving_params: int = 0  # batch norm's moving means and variances
    conv_multiply_adds: int = 0
    depthwise_multiply_adds: int = 0
    se_multiply_adds: int = 0
    dense_multiply_adds: int = 0
    activations: int = 0

    @property
    def total_params(self) -> int:
        return self.trainable_params + self.moving_params

    @property
    def multiply_adds(self) -> int:
        return self.conv_multiply_adds + self.depthwise_multiply_adds + self.se_multiply_adds + self.dense_multiply_adds

    def __add__(self, other: "Complexity") -> "Complexity":
        return Complexity(
            *(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True))
        )


# The field of Complexity that takes the multiply-adds of a convolution, by Convolution.kind.
MULTIPLY_ADDS_FIELD = {
    "stem": "conv_multiply_adds",
    "convolution": "conv_multiply_adds",
    "depthwise": "depthwise_multiply_adds",
    "squeeze_excite": "se_multiply_adds",
    "classifier": "dense_multiply_adds",
}


@functools.lru_cache(maxsize=1024)  # searches and plans ask for the same network again and again
def count(architecture: Architecture, resolution: int | None = None) -> Complexity:
    """Returns the complexity of a network for images of `resolution` pixels (None: the network's own)."""
    return sum(map(count_convolution, architecture.convolutions(resolution)), start=Complexity())


def count_convolution(placed: PlacedConvolution) -> Complexity:
    """Returns the complexity of one convolution, with its bias and the batch norm behind it."""
    convolution, positions = placed.convolution, placed.output_size**2
    # Batch norm trains a scale and an offset, and moves a mean and a variance.
    norm_params = 2 * convolution.filters if convolution.batch_norm else 0
    bias_params = convolution.filters if convolution.use_bias else 0
    return Complexity(
        trainable_params=convolution.num_weights + bias_params + norm_params,
        moving_params=norm_params,
        activations=convolution.filters * positions,
        **{MULTIPLY_ADDS_FIELD[convolution.kind]: convolution.num_weights * positions},
    )
