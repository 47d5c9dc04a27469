"""Records of networks: stages of a table, members of a family, and the blocks that scaling makes of them.

Data only, no TensorFlow. `baselines` has the tables of the other networks that the paper scales. Sources: Tan & Le
2019, Table 1 (stages), and the coefficients of the reference implementation (tensorflow/tpu,
models/official/efficientnet), which the paper does not print.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

# Channel statistics of ImageNet, in units of the 0..255 pixel range (B series).
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


# What a block adds to its output where the shapes allow it: its input, the 3 x 3 averages of its input, or nothing
# (Tan et al. 2019, section 4.1).
Skip = Literal["identity", "pool", "none"]


@dataclass(frozen=True)
class Stage:
    """A row of Table 1: `repeats` blocks, of which the first takes the stride and the change of width."""

    repeats: int
    kernel_size: int
    strides: int
    expand_ratio: int
    filters: int
    block: str = "mbconv"  # kind of the blocks, a key of BLOCKS
    se_ratio: float | None = None  # None: the variant's
    skip: Skip = "identity"  # of the blocks mbconv and fused_mbconv


@dataclass(frozen=True)
class Baseline:
    """A network to scale: a stem that halves the image, stages of blocks, perhaps a head, the classifier."""

    stem_filters: int
    stages: tuple[Stage, ...]
    head_filters: int  # of the 1x1 convolution before pooling; 0: no head
    stem_kernel_size: int = 3
    stem_pool: bool = False  # whether the stem halves the image a second time, by pooling


STEM_FILTERS = 32
HEAD_FILTERS = 1280
NUM_IMAGENET_CLASSES = 1000
BATCH_NORM_MOMENTUM = 0.99  # the reference's

B0_STAGES = (
    Stage(repeats=1, kernel_size=3, strides=1, expand_ratio=1, filters=16),
    Stage(repeats=2, kernel_size=3, strides=2, expand_ratio=6, filters=24),
    Stage(repeats=2, kernel_size=5, strides=2, expand_ratio=6, filters=40),
    Stage(repeats=3, kernel_size=3, strides=2, expand_ratio=6, filters=80),
    Stage(repeats=3, kernel_size=5, strides=1, expand_ratio=6, filters=112),
    Stage(repeats=4, kernel_size=5, strides=2, expand_ratio=6, filters=192),
    Stage(repeats=1, kernel_size=3, strides=1, expand_ratio=6, filters=320),
)
B0 = Baseline(STEM_FILTERS, B0_STAGES, HEAD_FILTERS)


@dataclass(frozen=True)
class Variant:
    """A member of a family: how far the baseline is scaled, and what the family changes in every block."""

    width_coefficient: float
    depth_coefficient: float
    resolution: int
    dropout_rate: float
    activation: str = "silu"
    se_ratio: float = 0.25
    # Lite: stem and head keep their width, the first and last stage their repeats.
    fix_head_stem: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    baseline: Baseline = B0
    survival_prob: float = 0.8  # stochastic depth, of the last block; 1: none
    interpolation: str = "bicubic"  # of images that are resized


ConvolutionKind = Literal["stem", "convolution", "depthwise", "squeeze_excite", "classifier"]


@dataclass(frozen=True)
class Convolution:
    """A layer that multiplies by a kernel: a convolution of the stem, a block or the head, or the classifier."""

    name: str  # of the layer; inside a block without the prefix block_<index>_
    input_filters: int
    filters: int
    kernel_size: int = 1
    strides: int = 1
    kind: ConvolutionKind = "convolution"
    batch_norm: bool = True  # whether a batch norm follows; expand_conv is followed by expand_bn
    use_bias: bool = False
    linear: bool = False  # whether no activation follows the batch norm
    # The map that it writes, by its side: before or after the strides of its block, or 1 x 1, pooled.
    writes: Literal["before", "after", "pooled"] = "after"

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Returns the kernel's shape in Keras' layout: [height, width, inputs, outputs], or [inputs, outputs]."""
        if self.kind == "classifier":
            return self.input_filters, self.filters
        outputs = 1 if self.kind == "depthwise" else self.filters
        return self.kernel_size, self.kernel_size, self.input_filters, outputs

    @property
    def num_weights(self) -> int:
        """Returns the size of the kernel, which is also the number of multiply-adds at each position of the output."""
        return math.prod(self.kernel_shape)


def squeeze_excite_convolutions(filters: int, se_filters: int) -> tuple[Convolution, ...]:
    """Returns the two 1x1 convolutions of a squeeze-and-excitation over `filters` channels; none for 0 se_filters."""
    if not se_filters:
        return ()
    # No batch norm follows, so that they have biases of their own.
    return (
        Convolution(
            "se_reduce", filters, se_filters, kind="squeeze_excite", batch_norm=False, use_bias=True, writes="pooled"
        ),
        Convolution(
            "se_expand", se_filters, filters, kind="squeeze_excite", batch_norm=False, use_bias=True, writes="pooled"
        ),
    )


@dataclass(frozen=True)
class MBConvSpec:
    """An MBConv block after scaling (Sandler et al. 2018; Tan & Le 2019): 1x1 expansion, depthwise, 1x1 projection."""

    kind: ClassVar[str] = "mbconv"
    network: ClassVar[str] = "efficientnet"

    stage: int  # counted from 1
    input_filters: int
    filters: int
    kernel_size: int
    strides: int
    expand_ratio: int
    se_filters: int  # 0: no squeeze-and-excitation
    drop_rate: float  # stochastic depth; 0 where there is no residual
    skip: Skip = "identity"

    @property
    def expanded_filters(self) -> int:
        return self.input_filters * self.expand_ratio

    @property
    def has_residual(self) -> bool:
        """Returns whether something is added to the block's output. Pooling follows the block's strides."""
        same_size = self.strides == 1 or self.skip == "pool"
        return self.skip != "none" and same_size and self.input_filters == self.filters

    def convolutions(self) -> tuple[Convolution, ...]:
        """Returns the block's convolutions in the order of the data; the last one writes the block's output."""
        expanded = self.expanded_filters
        expand = (Convolution("expand_conv", self.input_filters, expanded, writes="before"),)
        return (
            *(expand if self.expand_ratio != 1 else ()),
            Convolution("depthwise_conv", expanded, expanded, self.kernel_size, self.strides, "depthwise"),
            *squeeze_excite_convolutions(expanded, self.se_filters),
            Convolution("project_conv", expanded, self.filters, linear=True),
        )


@dataclass(frozen=True)
class FusedMBConvSpec:
    """A Fused-MBConv block after scaling (Tan & Le 2021, Figure 2): k x k expansion with the stride, 1x1 projection.

    With an expand_ratio of 1 the block is a single k x k convolution, as in the reference (google/automl,
    efficientnetv2).
    """

    kind: ClassVar[str] = "fused_mbconv"
    network: ClassVar[str] = "efficientnet"

    stage: int
    input_filters: int
    filters: int
    kernel_size: int
    strides: int
    expand_ratio: int
    se_filters: int  # 0: no squeeze-and-excitation
    drop_rate: float  # stochastic depth; 0 where there is no residual
    skip: Skip = "identity"

    @property
    def expanded_filters(self) -> int:
        return self.input_filters * self.expand_ratio

    @property
    def has_residual(self) -> bool:
        """Returns whether something is added to the block's output. Pooling follows the block's strides."""
        same_size = self.strides == 1 or self.skip == "pool"
        return self.skip != "none" and same_size and self.input_filters == self.filters

    def convolutions(self) -> tuple[Convolution, ...]:
        """Returns the block's convolutions in the order of the data; the last one writes the block's output."""
        inputs, expanded = self.input_filters, self.expanded_filters
        excite = squeeze_excite_convolutions(expanded, self.se_filters)
        if self.expand_ratio == 1:
            return (*excite, Convolution("project_conv", inputs, self.filters, self.kernel_size, self.strides))
        expand = Convolution("expand_conv", inputs, expanded, self.kernel_size, self.strides)
        return (expand, *excite, Convolution("project_conv", expanded, self.filters, linear=True))


@dataclass(frozen=True)
class SeparableSpec:
    """A block of MobileNetV1 after scaling (Howard et al. 2017): depthwise, then 1x1."""

    kind: ClassVar[str] = "separable"
    network: ClassVar[str] = "mobilenet"

    stage: int
    input_filters: int
    filters: int
    kernel_size: int
    strides: int
    drop_rate: float = 0.0

    @property
    def has_residual(self) -> bool:
        return False

    def convolutions(self) -> tuple[Convolution, ...]:
        """Returns the block's convolutions in the order of the data; the last one writes the block's output."""
        inputs = self.input_filters
        return (
            Convolution("depthwise_conv", inputs, inputs, self.kernel_size, self.strides, "depthwise"),
            Convolution("project_conv", inputs, self.filters),
        )


@dataclass(frozen=True)
class BottleneckSpec:
    """A block of a ResNet after scaling: 1x1 to `inner_filters`, k x k with the stride, 1x1 to `filters`."""

    kind: ClassVar[str] = "bottleneck"
    network: ClassVar[str] = "resnet"

    stage: int
    input_filters: int
    inner_filters: int
    filters: int
    kernel_size: int
    strides: int
    drop_rate: float = 0.0

    @property
    def has_residual(self) -> bool:
        return True

    @property
    def has_projection(self) -> bool:
        """Returns whether the shortcut is a 1x1 convolution, because the block changes the shape."""
        return self.strides != 1 or self.input_filters != self.filters

    def convolutions(self) -> tuple[Convolution, ...]:
        """Returns the block's convolutions in the order of the data; the last one writes the block's output."""
        inner = self.inner_filters
        shortcut = (Convolution("shortcut_conv", self.input_filters, self.filters, strides=self.strides, linear=True),)
        return (
            Convolution("reduce_conv", self.input_filters, inner, writes="before"),
            Convolution("spatial_conv", inner, inner, self.kernel_size, self.strides),
            *(shortcut if self.has_projection else ()),
            Convolution("expand_conv", inner, self.filters, linear=True),
        )


Block = MBConvSpec | FusedMBConvSpec | SeparableSpec | BottleneckSpec
# The kinds of blocks by the names that a table of stages gives them.
BLOCKS: dict[str, type[Block]] = {
    "mbconv": MBConvSpec,
    "fused_mbconv": FusedMBConvSpec,
    "separable": SeparableSpec,
    "bottleneck": BottleneckSpec,
}


def output_size(size: int, strides: int) -> int:
    """Returns the side of a SAME convolution's output, in pixels."""
    return -(-size // strides)


@dataclass(frozen=True)
class PlacedConvolution:
    """A convolution at its place in a network, with the sides of the maps that it reads and writes, in pixels."""

    convolution: Convolution
    block: int | None  # index of its block from 0; None: stem, head or classifier
    input_size: int
    output_size: int

    @property
    def layer_name(self) -> str:
        name = self.convolution.name
        return name if self.block is None else f"block_{self.block}_{name}"


def placed_convolutions(block: Block, index: int, size: int) -> list[PlacedConvolution]:
    """Returns the convolutions of block `index` for a map of side `size`, in pixels."""
    sides = {"before": size, "after": output_size(size, block.strides), "pooled": 1}
    return [
        PlacedConvolution(row, index, size if row.strides > 1 else sides[row.writes], sides[row.writes])
        for row in block.convolutions()
    ]


@dataclass(frozen=True)
class Architecture:
    """A whole scaled network: everything the builder needs, nothing left to decide."""

    name: str
    resolution: int
    stem_filters: int
    blocks: tuple[Block, ...]
    head_filters: int  # 0: no head
    num_classes: int
    dropout_rate: float
    activation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    batch_norm_momentum: float = BATCH_NORM_MOMENTUM
    batch_norm_epsilon: float = 1e-3
    stem_kernel_size: int = 3
    stem_pool: bool = False
    interpolation: str = "bicubic"

    def convolutions(self, resolution: int | None = None) -> tuple[PlacedConvolution, ...]:
        """Returns all convolutions and the classifier in the order of the data.

        resolution: side of the images in pixels; None: the network's own.
        """
        size = resolution or self.resolution
        rows = [self.stem(size)]
        size = self.stem_output_size(size)
        for index, block in enumerate(self.blocks):
            rows += placed_convolutions(block, index, size)
            size = output_size(size, block.strides)
        return (*rows, *self.head(self.blocks[-1].filters, size))

    def stem(self, size: int) -> PlacedConvolution:
        """Returns the first convolution, for images of side `size`, in pixels."""
        stem = Convolution("stem_conv", 3, self.stem_filters, self.stem_kernel_size, 2, "stem")
        return PlacedConvolution(stem, None, size, output_size(size, 2))

    def stem_output_size(self, size: int) -> int:
        """Returns the side of the map that the first block takes, for images of side `size`, in pixels."""
        return output_size(size, 4 if self.stem_pool else 2)

    def head(self, filters: int, size: int) -> tuple[PlacedConvolution, ...]:
        """Returns what follows the last block, whose map has `filters` channels and side `size`, in pixels."""
        rows: tuple[PlacedConvolution, ...] = ()
        if self.head_filters:
            rows = (PlacedConvolution(Convolution("head_conv", filters, self.head_filters), None, size, size),)
        classifier = Convolution(
            "classifier",
            self.head_filters or filters,
            self.num_classes,
            kind="classifier",
            batch_norm=False,
            use_bias=True,
            writes="pooled",
        )
        return (*rows, PlacedConvolution(classifier, None, 1, 1))


def _lite(width: float, depth: float, resolution: int, dropout_rate: float) -> Variant:
    """A Lite member: no squeeze-and-excitation, ReLU6, (x - 127) / 128 and bilinear resizing, for integer hardware."""
    return Variant(
        width,
        depth,
        resolution,
        dropout_rate,
        activation="relu6",
        se_ratio=0.0,
        fix_head_stem=True,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        interpolation="bilinear",
    )


VARIANTS = {
    "efficientnet-b0": Variant(1.0, 1.0, 224, 0.2),
    "efficientnet-b1": Variant(1.0, 1.1, 240, 0.2),
    "efficientnet-b2": Variant(1.1, 1.2, 260, 0.3),
    "efficientnet-b3": Variant(1.2, 1.4, 300, 0.3),
    "efficientnet-b4": Variant(1.4, 1.8, 380, 0.4),
    "efficientnet-b5": Variant(1.6, 2.2, 456, 0.4),
    "efficientnet-b6": Variant(1.8, 2.6, 528, 0.5),
    "efficientnet-b7": Variant(2.0, 3.1, 600, 0.5),
    "efficientnet-b8": Variant(2.2, 3.6, 672, 0.5),
    "efficientnet-l2": Variant(4.3, 5.3, 800, 0.5),
    "efficientnet-lite0": _lite(1.0, 1.0, 224, 0.2),
    "efficientnet-lite1": _lite(1.0, 1.1, 240, 0.2),
    "efficientnet-lite2": _lite(1.1, 1.2, 260, 0.3),
    "efficientnet-lite3": _lite(1.2, 1.4, 280, 0.3),
    "efficientnet-lite4": _lite(1.4, 1.8, 300, 0.3),
    # Ours, not the paper's: small enough to train from scratch on a laptop within minutes.
    "efficientnet-nano": Variant(0.35, 0.3, 32, 0.2),
}
