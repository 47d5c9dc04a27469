"""The arithmetic of scaling: a table of stages and a variant's coefficients -> one record per block. No TensorFlow.

Rounding is the reference implementation's (tensorflow/tpu, models/official/efficientnet).
"""

import math
from dataclasses import replace

from efficientnet_tpu.models.architecture import (
    Architecture,
    Block,
    BottleneckSpec,
    FusedMBConvSpec,
    MBConvSpec,
    SeparableSpec,
    Stage,
    Variant,
)

FILTER_DIVISOR = 8


def round_filters(filters: int, width_coefficient: float) -> int:
    """Returns the multiple of 8 nearest to filters * width_coefficient, at least 8 and never below 90% of it."""
    scaled = filters * width_coefficient
    rounded = max(FILTER_DIVISOR, int(scaled + FILTER_DIVISOR / 2) // FILTER_DIVISOR * FILTER_DIVISOR)
    return rounded + FILTER_DIVISOR if rounded < 0.9 * scaled else rounded


def round_repeats(repeats: int, depth_coefficient: float) -> int:
    """Returns ceil(repeats * depth_coefficient): a stage never loses its last block."""
    return math.ceil(repeats * depth_coefficient)


def scale_mbconv(number: int, stage: Stage, input_filters: int, strides: int, variant: Variant) -> MBConvSpec:
    """Returns an MBConv block of stage `number`; its squeeze-and-excitation is a share of the input filters."""
    # Of the filters before the expansion: a quarter of the expanded ones would be six times as many.
    se_ratio = variant.se_ratio if stage.se_ratio is None else stage.se_ratio
    return MBConvSpec(
        stage=number,
        input_filters=input_filters,
        filters=round_filters(stage.filters, variant.width_coefficient),
        kernel_size=stage.kernel_size,
        strides=strides,
        expand_ratio=stage.expand_ratio,
        se_filters=max(1, int(input_filters * se_ratio)) if se_ratio else 0,
        drop_rate=0.0,
        skip=stage.skip,
    )


def scale_fused_mbconv(
    number: int, stage: Stage, input_filters: int, strides: int, variant: Variant
) -> FusedMBConvSpec:
    """Returns a Fused-MBConv block of stage `number`, scaled as an MBConv block is."""
    return FusedMBConvSpec(**vars(scale_mbconv(number, stage, input_filters, strides, variant)))


def scale_separable(number: int, stage: Stage, input_filters: int, strides: int, variant: Variant) -> SeparableSpec:
    """Returns a block of MobileNetV1, which has no expansion."""
    filters = round_filters(stage.filters, variant.width_coefficient)
    return SeparableSpec(number, input_filters, filters, stage.kernel_size, strides)


def scale_bottleneck(number: int, stage: Stage, input_filters: int, strides: int, variant: Variant) -> BottleneckSpec:
    """Returns a block of a ResNet; the stage's filters are the inner ones, the width rounded before the expansion."""
    inner = round_filters(stage.filters, variant.width_coefficient)
    return BottleneckSpec(number, input_filters, inner, stage.expand_ratio * inner, stage.kernel_size, strides)


# The scaling rule of every kind of block, by Stage.block.
SCALE_BLOCK = {
    "mbconv": scale_mbconv,
    "fused_mbconv": scale_fused_mbconv,
    "separable": scale_separable,
    "bottleneck": scale_bottleneck,
}


def scaled_repeats(variant: Variant) -> list[int]:
    """Returns the number of blocks of each stage of the variant's baseline, scaled by its depth."""
    stages = variant.baseline.stages
    repeats = [round_repeats(stage.repeats, variant.depth_coefficient) for stage in stages]
    if variant.fix_head_stem:
        repeats[0], repeats[-1] = stages[0].repeats, stages[-1].repeats
    return repeats


def scaled_stem_filters(variant: Variant) -> int:
    """Returns the filters of the stem, scaled by the variant's width."""
    return _scale_stem_or_head(variant.baseline.stem_filters, variant)


def scale_stage(number: int, stage: Stage, repeats: int, input_filters: int, variant: Variant) -> list[Block]:
    """Returns the blocks of stage `number`, scaled by the variant's width, without stochastic depth."""
    blocks: list[Block] = []
    for repeat in range(repeats):
        strides = stage.strides if repeat == 0 else 1
        blocks.append(SCALE_BLOCK[stage.block](number, stage, input_filters, strides, variant))
        input_filters = blocks[-1].filters
    return blocks


def scale_blocks(variant: Variant) -> tuple[Block, ...]:
    """Returns the blocks of the variant's baseline, scaled by its width and depth.

    Block i of n has the stochastic-depth rate (1 - survival_prob) * i / n: the first block is never dropped, the last
    not quite at the full rate. Blocks without a residual are never dropped.
    """
    repeats = scaled_repeats(variant)
    num_blocks = sum(repeats)
    blocks: list[Block] = []
    input_filters = scaled_stem_filters(variant)
    for number, (stage, stage_repeats) in enumerate(zip(variant.baseline.stages, repeats, strict=True), start=1):
        for block in scale_stage(number, stage, stage_repeats, input_filters, variant):
            drop_rate = (1 - variant.survival_prob) * len(blocks) / num_blocks
            blocks.append(replace(block, drop_rate=drop_rate) if block.has_residual else block)
        input_filters = blocks[-1].filters
    return tuple(blocks)


def scale(name: str, variant: Variant, num_classes: int) -> Architecture:
    """Returns the whole network of a variant."""
    baseline = variant.baseline
    return Architecture(
        name=name,
        resolution=variant.resolution,
        stem_filters=scaled_stem_filters(variant),
        blocks=scale_blocks(variant),
        head_filters=_scale_stem_or_head(baseline.head_filters, variant) if baseline.head_filters else 0,
        num_classes=num_classes,
        dropout_rate=variant.dropout_rate,
        activation=variant.activation,
        mean=variant.mean,
        interpolation=variant.interpolation,
        std=variant.std,
        stem_kernel_size=baseline.stem_kernel_size,
        stem_pool=baseline.stem_pool,
    )


def _scale_stem_or_head(filters: int, variant: Variant) -> int:
    return filters if variant.fix_head_stem else round_filters(filters, variant.width_coefficient)
