"""Parameters, multiply-adds and activations, counted from the block records: no model is built, no TensorFlow.

One multiply-add is what the paper calls one FLOP. Convolutions, squeeze-and-excitation and the classifier are counted;
batch norm, activations, pooling and biases are not, as in the paper.
"""

import functools
from dataclasses import dataclass

from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.models.architecture import (
    NUM_IMAGENET_CLASSES,
    Architecture,
    BottleneckSpec,
    MBConvSpec,
    SeparableSpec,
)
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.compound_scaling import configured_architecture, configured_variant


@dataclass(frozen=True)
class Complexity:
    """Cost of one image. Multiply-adds are split by kind of layer; activations are the elements convolutions write."""

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


def output_size(size: int, strides: int) -> int:
    """Side of a SAME convolution's output, in pixels."""
    return -(-size // strides)


@functools.lru_cache(maxsize=1024)  # searches and plans ask for the same network again and again
def count(architecture: Architecture, resolution: int | None = None) -> Complexity:
    """Complexity of a network at an image side of `resolution` pixels (None: the network's own)."""
    size = output_size(resolution or architecture.resolution, 2)
    total = _conv_bn(architecture.stem_kernel_size, 3, architecture.stem_filters, size)
    size = output_size(size, 2) if architecture.stem_pool else size
    for block in architecture.blocks:
        total += _block(block, size)
        size = output_size(size, block.strides)
    features = architecture.blocks[-1].filters
    if architecture.head_filters:
        total += _conv_bn(1, features, architecture.head_filters, size)
        features = architecture.head_filters
    weights = features * architecture.num_classes
    return total + Complexity(
        trainable_params=weights + architecture.num_classes,
        dense_multiply_adds=weights,
        activations=architecture.num_classes,
    )


def _block(block: MBConvSpec | SeparableSpec | BottleneckSpec, size: int) -> Complexity:
    match block:
        case MBConvSpec():
            return _mbconv(block, size)
        case SeparableSpec():
            after = output_size(size, block.strides)
            depthwise = _depthwise_bn(block.kernel_size, block.input_filters, after)
            return depthwise + _conv_bn(1, block.input_filters, block.filters, after)
        case BottleneckSpec():
            return _bottleneck(block, size)


def _bottleneck(block: BottleneckSpec, size: int) -> Complexity:
    after = output_size(size, block.strides)
    total = _conv_bn(1, block.input_filters, block.inner_filters, size)
    total += _conv_bn(block.kernel_size, block.inner_filters, block.inner_filters, after)
    total += _conv_bn(1, block.inner_filters, block.filters, after)
    if block.has_projection:
        total += _conv_bn(1, block.input_filters, block.filters, after)
    return total


def _mbconv(block: MBConvSpec, size: int) -> Complexity:
    expanded = block.expanded_filters
    total = Complexity()
    if block.expand_ratio != 1:
        total += _conv_bn(1, block.input_filters, expanded, size)
    size = output_size(size, block.strides)
    total += _depthwise_bn(block.kernel_size, expanded, size)
    if block.se_filters:
        weights = 2 * expanded * block.se_filters
        total += Complexity(
            trainable_params=weights + block.se_filters + expanded,
            se_multiply_adds=weights,
            activations=block.se_filters + expanded,
        )
    return total + _conv_bn(1, expanded, block.filters, size)


def _conv_bn(kernel_size: int, input_filters: int, filters: int, size: int) -> Complexity:
    weights = kernel_size**2 * input_filters * filters
    return Complexity(
        trainable_params=weights + 2 * filters,
        moving_params=2 * filters,
        conv_multiply_adds=weights * size**2,
        activations=filters * size**2,
    )


def _depthwise_bn(kernel_size: int, filters: int, size: int) -> Complexity:
    weights = kernel_size**2 * filters
    return Complexity(
        trainable_params=weights + 2 * filters,
        moving_params=2 * filters,
        depthwise_multiply_adds=weights * size**2,
        activations=filters * size**2,
    )


def models_table(asked: ModelConfig) -> str:
    """The text `main.py models` prints: a row per model at 1000 classes; one more for a model of the user's own."""
    models = {name: ModelConfig(model=name) for name in MODELS}
    if asked != ModelConfig():
        models["as asked for"] = asked
    header = (
        f"{'model':<19}{'width':>6}{'depth':>6}{'resolution':>11}{'blocks':>7}{'parameters':>12}{'multiply-adds':>16}"
        f"{'activations':>14}{'dropout':>8}{'max drop rate':>14}"
    )
    lines = [header, "-" * len(header), *(_row(name, config) for name, config in models.items())]
    lines += [
        "",
        "parameters: trainable. multiply-adds: the paper's FLOPs, of one image. activations: what convolutions write.",
        "max drop rate: stochastic depth of the last residual block. For a model of your own, here as in training:",
        "--model=efficientnet-phi2.5, or --width_coefficient, --depth_coefficient, --resolution.",
    ]
    return "\n".join(lines)


def _row(name: str, config: ModelConfig) -> str:
    variant, architecture = configured_variant(config), configured_architecture(config, NUM_IMAGENET_CLASSES)
    cost = count(architecture)
    width, depth = round(variant.width_coefficient, 3), round(variant.depth_coefficient, 3)
    return (
        f"{name:<19}{width:>6}{depth:>6}{variant.resolution:>11}"
        f"{len(architecture.blocks):>7}{cost.trainable_params:>12,}{cost.multiply_adds:>16,}{cost.activations:>14,}"
        f"{round(variant.dropout_rate, 3):>8}{max(block.drop_rate for block in architecture.blocks):>14.4f}"
    )
