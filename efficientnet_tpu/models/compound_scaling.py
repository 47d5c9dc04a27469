"""Compound scaling: a baseline table and three coefficients -> one record per block. Pure mathematics, no TensorFlow.

Equation 3 of the paper: depth = alpha^phi, width = beta^phi, resolution = gamma^phi with alpha * beta^2 * gamma^2 ~ 2.
Rounding is the reference implementation's.
"""

import math
import re
from dataclasses import replace
from typing import Any

from efficientnet_tpu.config import ModelConfig, UserError, nearest
from efficientnet_tpu.models.architecture import (
    B0_STAGES,
    HEAD_FILTERS,
    NUM_IMAGENET_CLASSES,
    STEM_FILTERS,
    VARIANTS,
    Architecture,
    BlockSpec,
    Variant,
)

# The paper's grid search at phi = 1 (section 3.3).
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
FILTER_DIVISOR = 8
SURVIVAL_PROB = 0.8
# Five layers halve the image; below this side the last stages would see nothing but padding.
MIN_RESOLUTION = 16


def round_filters(filters: int, width_coefficient: float) -> int:
    """Nearest multiple of 8 to filters * width_coefficient, but at least 8 and never below 90% of it."""
    scaled = filters * width_coefficient
    rounded = max(FILTER_DIVISOR, int(scaled + FILTER_DIVISOR / 2) // FILTER_DIVISOR * FILTER_DIVISOR)
    return rounded + FILTER_DIVISOR if rounded < 0.9 * scaled else rounded


def round_repeats(repeats: int, depth_coefficient: float) -> int:
    """ceil(repeats * depth_coefficient): a stage never loses its last block."""
    return math.ceil(repeats * depth_coefficient)


def scale_blocks(variant: Variant, survival_prob: float = SURVIVAL_PROB) -> tuple[BlockSpec, ...]:
    """The blocks of B0, scaled by the variant's width and depth.

    Block i of n has the stochastic-depth rate (1 - survival_prob) * i / n, so that the first is never dropped and the
    last not quite at the full rate; blocks without a residual are never dropped.
    """
    repeats = [round_repeats(stage.repeats, variant.depth_coefficient) for stage in B0_STAGES]
    if variant.fixed_ends:
        repeats[0], repeats[-1] = B0_STAGES[0].repeats, B0_STAGES[-1].repeats
    num_blocks = sum(repeats)
    blocks: list[BlockSpec] = []
    input_filters = _end_filters(STEM_FILTERS, variant)
    for number, (stage, stage_repeats) in enumerate(zip(B0_STAGES, repeats, strict=True), start=1):
        filters = round_filters(stage.filters, variant.width_coefficient)
        for repeat in range(stage_repeats):
            block = BlockSpec(
                stage=number,
                input_filters=input_filters,
                filters=filters,
                kernel_size=stage.kernel_size,
                strides=stage.strides if repeat == 0 else 1,
                expand_ratio=stage.expand_ratio,
                se_filters=max(1, int(input_filters * variant.se_ratio)) if variant.se_ratio else 0,
                drop_rate=0.0,
            )
            if block.has_residual:
                block = replace(block, drop_rate=(1 - survival_prob) * len(blocks) / num_blocks)
            blocks.append(block)
            input_filters = filters
    return tuple(blocks)


def scale(name: str, variant: Variant, num_classes: int, survival_prob: float = SURVIVAL_PROB) -> Architecture:
    """The whole network of a variant."""
    return Architecture(
        name=name,
        resolution=variant.resolution,
        stem_filters=_end_filters(STEM_FILTERS, variant),
        blocks=scale_blocks(variant, survival_prob),
        head_filters=_end_filters(HEAD_FILTERS, variant),
        num_classes=num_classes,
        dropout_rate=variant.dropout_rate,
        activation=variant.activation,
        mean=variant.mean,
        std=variant.std,
    )


def compound_variant(phi: float) -> Variant:
    """B0 scaled by alpha^phi, beta^phi, gamma^phi (equation 3).

    The released B1..B7 are rounded by hand and not exactly any phi; nor does the paper say how to round the
    resolution: here to a multiple of 8. Dropout grows linearly from 0.2 at phi = 0 to 0.5 at phi = 7 (section 5.2).
    """
    return Variant(
        width_coefficient=BETA**phi,
        depth_coefficient=ALPHA**phi,
        resolution=max(MIN_RESOLUTION, 8 * round(224 * GAMMA**phi / 8)),
        dropout_rate=round(min(0.5, max(0.0, 0.2 + 0.3 * phi / 7)), 4),
    )


def find_variant(name: str) -> Variant:
    """The variant of a name: one of VARIANTS, or `efficientnet-phi<number>` for any compound coefficient."""
    if name in VARIANTS:
        return VARIANTS[name]
    match = re.fullmatch(r"efficientnet-phi(-?\d+(?:\.\d+)?)", name)
    if match and abs(float(match[1])) <= 20:
        return compound_variant(float(match[1]))
    raise UserError(
        f"--model={name}: no such model.{nearest(name, VARIANTS)}\n"
        f"Models: {', '.join(VARIANTS)}; or efficientnet-phi<number> from -20 to 20, for example efficientnet-phi2.5."
    )


def variant_of(config: ModelConfig) -> Variant:
    """The coefficients that the flags of section Model describe: the named model's, where not overridden."""
    variant = find_variant(config.model)
    overrides = {
        name: getattr(config, name)
        for name in ("width_coefficient", "depth_coefficient", "resolution", "dropout_rate")
        if getattr(config, name) is not None
    }
    if overrides.get("resolution", MIN_RESOLUTION) < MIN_RESOLUTION:
        raise UserError(
            f"--resolution={config.resolution}: five layers halve the image, so its side must be at least "
            f"{MIN_RESOLUTION} pixels. Leave the flag out for the model's own {variant.resolution}."
        )
    return replace(variant, **overrides)


def architecture_of(config: ModelConfig, num_classes: int) -> Architecture:
    """The network that the flags of section Model describe."""
    return replace(
        scale(config.model, variant_of(config), num_classes, config.survival_prob),
        batch_norm_momentum=config.batch_norm_momentum,
        batch_norm_epsilon=config.batch_norm_epsilon,
    )


def build_architecture(name: str, num_classes: int = NUM_IMAGENET_CLASSES, **options: Any) -> Architecture:
    """`architecture_of` a model name with any other flag of section Model as a keyword."""
    return architecture_of(ModelConfig(model=name, **options), num_classes)


def _end_filters(filters: int, variant: Variant) -> int:
    return filters if variant.fixed_ends else round_filters(filters, variant.width_coefficient)
