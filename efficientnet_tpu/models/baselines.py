"""The other networks that the paper scales (section 5.1, Table 3), as tables like EfficientNet's; all models by name.

Data only, no TensorFlow. Sources: MobileNetV1 (Howard et al. 2017, Table 1), MobileNetV2 (Sandler et al. 2018, Table
2), ResNet (He et al. 2016, Table 1). A ResNet's stride is in the 3x3 convolution, which gives the paper's 4.1 B, not in
the first 1x1 as in 2016 and in keras.applications (3.9 B).
"""

from efficientnet_tpu.models.architecture import VARIANTS, Baseline, Stage, Variant

MOBILENET_V1 = Baseline(
    stem_filters=32,
    stages=(
        Stage(repeats=1, kernel_size=3, strides=1, expand_ratio=1, filters=64, block="separable"),
        Stage(repeats=2, kernel_size=3, strides=2, expand_ratio=1, filters=128, block="separable"),
        Stage(repeats=2, kernel_size=3, strides=2, expand_ratio=1, filters=256, block="separable"),
        Stage(repeats=6, kernel_size=3, strides=2, expand_ratio=1, filters=512, block="separable"),
        Stage(repeats=2, kernel_size=3, strides=2, expand_ratio=1, filters=1024, block="separable"),
    ),
    head_filters=0,
)

# The blocks of an EfficientNet without squeeze-and-excitation; ReLU6 in place of SiLU.
MOBILENET_V2 = Baseline(
    stem_filters=32,
    stages=(
        Stage(repeats=1, kernel_size=3, strides=1, expand_ratio=1, filters=16),
        Stage(repeats=2, kernel_size=3, strides=2, expand_ratio=6, filters=24),
        Stage(repeats=3, kernel_size=3, strides=2, expand_ratio=6, filters=32),
        Stage(repeats=4, kernel_size=3, strides=2, expand_ratio=6, filters=64),
        Stage(repeats=3, kernel_size=3, strides=1, expand_ratio=6, filters=96),
        Stage(repeats=3, kernel_size=3, strides=2, expand_ratio=6, filters=160),
        Stage(repeats=1, kernel_size=3, strides=1, expand_ratio=6, filters=320),
    ),
    head_filters=1280,
)


def _resnet(*repeats: int) -> Variant:
    """Returns a ResNet of bottlenecks; the filters of a stage are the inner ones, a block puts out 4 times as many."""
    stages = tuple(
        Stage(
            number,
            kernel_size=3,
            strides=1 if filters == 64 else 2,
            expand_ratio=4,
            filters=filters,
            block="bottleneck",
        )
        for number, filters in zip(repeats, (64, 128, 256, 512), strict=True)
    )
    baseline = Baseline(64, stages, head_filters=0, stem_kernel_size=7, stem_pool=True)
    return Variant(1.0, 1.0, 224, 0.0, activation="relu", se_ratio=0.0, baseline=baseline, survival_prob=1.0)


def _mobilenet(baseline: Baseline, dropout_rate: float) -> Variant:
    """Returns a MobileNet: ReLU6, no squeeze-and-excitation, no stochastic depth."""
    return Variant(1.0, 1.0, 224, dropout_rate, activation="relu6", se_ratio=0.0, baseline=baseline, survival_prob=1.0)


# Dropout is that of their authors' own training programs.
BASELINES = {
    "mobilenet-v1": _mobilenet(MOBILENET_V1, 0.001),
    "mobilenet-v2": _mobilenet(MOBILENET_V2, 0.2),
    "resnet-50": _resnet(3, 4, 6, 3),
    "resnet-101": _resnet(3, 4, 23, 3),
    "resnet-152": _resnet(3, 8, 36, 3),
}

# Every name that --model takes, besides efficientnet-phi<number>.
MODELS = {**VARIANTS, **BASELINES}
