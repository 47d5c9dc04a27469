"""EfficientNet as tables: the stages of B0, the family's members, and the records scaling makes of them.

Data only, no TensorFlow; `baselines` has the tables of the other networks that the paper scales. Sources: Tan & Le
2019, Table 1 (stages) and the coefficients of the reference implementation (tensorflow/tpu,
models/official/efficientnet), which the paper does not print.
"""

from dataclasses import dataclass

# Channel statistics of ImageNet, in units of the 0..255 pixel range (B series).
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@dataclass(frozen=True)
class Stage:
    """A row of Table 1: `repeats` blocks, of which the first takes the stride and the change of width."""

    repeats: int
    kernel_size: int
    strides: int
    expand_ratio: int
    filters: int


@dataclass(frozen=True)
class Baseline:
    """A network to scale: a stem that halves the image, stages of one kind of block, perhaps a head, the classifier."""

    block: str  # mbconv, separable (MobileNetV1's) or bottleneck (ResNet's)
    stem_filters: int
    stages: tuple[Stage, ...]
    head_filters: int  # of the 1x1 convolution before pooling; 0: there is none
    stem_kernel_size: int = 3
    stem_pool: bool = False  # whether the stem halves the image a second time, by pooling


STEM_FILTERS = 32
HEAD_FILTERS = 1280
NUM_IMAGENET_CLASSES = 1000

B0_STAGES = (
    Stage(repeats=1, kernel_size=3, strides=1, expand_ratio=1, filters=16),
    Stage(repeats=2, kernel_size=3, strides=2, expand_ratio=6, filters=24),
    Stage(repeats=2, kernel_size=5, strides=2, expand_ratio=6, filters=40),
    Stage(repeats=3, kernel_size=3, strides=2, expand_ratio=6, filters=80),
    Stage(repeats=3, kernel_size=5, strides=1, expand_ratio=6, filters=112),
    Stage(repeats=4, kernel_size=5, strides=2, expand_ratio=6, filters=192),
    Stage(repeats=1, kernel_size=3, strides=1, expand_ratio=6, filters=320),
)
B0 = Baseline("mbconv", STEM_FILTERS, B0_STAGES, HEAD_FILTERS)


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


@dataclass(frozen=True)
class MBConvSpec:
    """One MBConv block after scaling; what the builder lays and the complexity counts."""

    stage: int  # 1..7
    input_filters: int
    filters: int
    kernel_size: int
    strides: int
    expand_ratio: int
    se_filters: int  # 0: no squeeze-and-excitation
    drop_rate: float  # stochastic depth; 0 where there is no residual

    @property
    def expanded_filters(self) -> int:
        return self.input_filters * self.expand_ratio

    @property
    def has_residual(self) -> bool:
        return self.strides == 1 and self.input_filters == self.filters


@dataclass(frozen=True)
class SeparableSpec:
    """One block of MobileNetV1 after scaling: depthwise, then 1x1."""

    stage: int
    input_filters: int
    filters: int
    kernel_size: int
    strides: int
    drop_rate: float = 0.0

    @property
    def has_residual(self) -> bool:
        return False


@dataclass(frozen=True)
class BottleneckSpec:
    """One block of a ResNet after scaling: 1x1 to `inner_filters`, k x k with the stride, 1x1 to `filters`."""

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
        """Whether the shortcut is a 1x1 convolution, because the block changes the shape."""
        return self.strides != 1 or self.input_filters != self.filters


@dataclass(frozen=True)
class Architecture:
    """A whole scaled network: everything the builder needs, nothing left to decide."""

    name: str
    resolution: int
    stem_filters: int
    blocks: tuple[MBConvSpec | SeparableSpec | BottleneckSpec, ...]
    head_filters: int  # 0: no head
    num_classes: int
    dropout_rate: float
    activation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    batch_norm_momentum: float = 0.99
    batch_norm_epsilon: float = 1e-3
    block: str = "mbconv"  # kind of the blocks, by which the builder is chosen
    stem_kernel_size: int = 3
    stem_pool: bool = False


def _lite(width: float, depth: float, resolution: int, dropout_rate: float) -> Variant:
    """A Lite member: no squeeze-and-excitation, ReLU6 and (x - 127) / 128, for integer hardware."""
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
