"""Compound scaling: a baseline table and three coefficients -> one record per block. Pure mathematics, no TensorFlow.

Equation 3 of the paper: depth = alpha^phi, width = beta^phi, resolution = gamma^phi with alpha * beta^2 * gamma^2 ~ 2.
Rounding is the reference implementation's.
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from efficientnet_tpu.config.config import OPTIONS
from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.models import stage_table
from efficientnet_tpu.models.architecture import (
    B0,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NUM_IMAGENET_CLASSES,
    VARIANTS,
    Architecture,
    BottleneckSpec,
    MBConvSpec,
    SeparableSpec,
    Stage,
    Variant,
)
from efficientnet_tpu.models.baselines import MODELS

# The paper's grid search at phi = 1 (section 3.3).
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
FILTER_DIVISOR = 8
MAX_PHI = 20.0
# Mean and deviation by the names of --normalization, in units of the 0..255 pixel range.
NORMALIZATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "lite": ((127.0,) * 3, (128.0,) * 3),
    "advprop": ((127.5,) * 3, (127.5,) * 3),
}
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


def scale_blocks(variant: Variant) -> tuple[MBConvSpec | SeparableSpec | BottleneckSpec, ...]:
    """The blocks of the variant's baseline, scaled by its width and depth.

    Block i of n has the stochastic-depth rate (1 - survival_prob) * i / n, so that the first is never dropped and the
    last not quite at the full rate; blocks without a residual are never dropped.
    """
    stages = variant.baseline.stages
    repeats = [round_repeats(stage.repeats, variant.depth_coefficient) for stage in stages]
    if variant.fix_head_stem:
        repeats[0], repeats[-1] = stages[0].repeats, stages[-1].repeats
    num_blocks = sum(repeats)
    scale_block = _SCALE_BLOCK[variant.baseline.block]
    blocks: list[MBConvSpec | SeparableSpec | BottleneckSpec] = []
    input_filters = _end_filters(variant.baseline.stem_filters, variant)
    for number, (stage, stage_repeats) in enumerate(zip(stages, repeats, strict=True), start=1):
        for repeat in range(stage_repeats):
            strides = stage.strides if repeat == 0 else 1
            block = replace(scale_block(stage, input_filters, strides, variant), stage=number)
            if block.has_residual:
                block = replace(block, drop_rate=(1 - variant.survival_prob) * len(blocks) / num_blocks)
            blocks.append(block)
            input_filters = block.filters
    return tuple(blocks)


def _mbconv(stage: Stage, input_filters: int, strides: int, variant: Variant) -> MBConvSpec:
    return MBConvSpec(
        stage=0,
        input_filters=input_filters,
        filters=round_filters(stage.filters, variant.width_coefficient),
        kernel_size=stage.kernel_size,
        strides=strides,
        expand_ratio=stage.expand_ratio,
        se_filters=max(1, int(input_filters * variant.se_ratio)) if variant.se_ratio else 0,
        drop_rate=0.0,
    )


def _separable(stage: Stage, input_filters: int, strides: int, variant: Variant) -> SeparableSpec:
    filters = round_filters(stage.filters, variant.width_coefficient)
    return SeparableSpec(0, input_filters, filters, stage.kernel_size, strides)


def _bottleneck(stage: Stage, input_filters: int, strides: int, variant: Variant) -> BottleneckSpec:
    inner = round_filters(stage.filters, variant.width_coefficient)
    return BottleneckSpec(0, input_filters, inner, stage.expand_ratio * inner, stage.kernel_size, strides)


_SCALE_BLOCK = {"mbconv": _mbconv, "separable": _separable, "bottleneck": _bottleneck}


def scale(name: str, variant: Variant, num_classes: int) -> Architecture:
    """The whole network of a variant."""
    baseline = variant.baseline
    return Architecture(
        name=name,
        resolution=variant.resolution,
        stem_filters=_end_filters(baseline.stem_filters, variant),
        blocks=scale_blocks(variant),
        head_filters=_end_filters(baseline.head_filters, variant) if baseline.head_filters else 0,
        num_classes=num_classes,
        dropout_rate=variant.dropout_rate,
        activation=variant.activation,
        mean=variant.mean,
        std=variant.std,
        block=baseline.block,
        stem_kernel_size=baseline.stem_kernel_size,
        stem_pool=baseline.stem_pool,
    )


@dataclass(frozen=True)
class Coefficients:
    """How fast depth, width and resolution grow with phi (equation 3)."""

    alpha: float = ALPHA
    beta: float = BETA
    gamma: float = GAMMA

    @property
    def growth(self) -> float:
        """Factor by which one phi multiplies the multiply-adds, before rounding: about 2 in the paper."""
        return self.alpha * self.beta**2 * self.gamma**2


def candidate_coefficients(step: float = 0.05, tolerance: float = 0.1) -> Iterator[Coefficients]:
    """The grid of the paper's STEP 1: all multiples of `step`, none below 1, with |growth - 2| <= tolerance.

    The paper prints neither its step nor its tolerance; with these, its 1.2, 1.1, 1.15 is among the candidates.
    """
    # No factor can be above 2 + tolerance where the others are 1.
    ticks = [round(1 + index * step, 10) for index in range(int((1 + tolerance) / step + 1e-9) + 1)]
    for alpha, beta, gamma in itertools.product(ticks, repeat=3):
        coefficients = Coefficients(alpha, beta, gamma)
        if abs(coefficients.growth - 2) <= tolerance + 1e-9:
            yield coefficients


def compound_variant(
    phi: float, base: Variant = VARIANTS["efficientnet-b0"], coefficients: Coefficients = Coefficients()
) -> Variant:
    """`base` (B0) with its depth times alpha^phi, width times beta^phi, resolution times gamma^phi (equation 3).

    The released B1..B7 are rounded by hand and not exactly any phi; nor does the paper say how to round the
    resolution: here to the base's and a multiple of 8. An EfficientNet's dropout grows linearly, from 0.2 at phi = 0 to
    0.5 at phi = 7 for B0 (section 5.2); other networks keep theirs.
    """
    dropout_rate = base.dropout_rate
    if base.baseline == B0:
        dropout_rate = round(min(0.5, max(0.0, dropout_rate + 0.3 * phi / 7)), 4)
    return replace(
        base,
        width_coefficient=base.width_coefficient * coefficients.beta**phi,
        depth_coefficient=base.depth_coefficient * coefficients.alpha**phi,
        resolution=scaled_resolution(base.resolution, coefficients.gamma**phi),
        dropout_rate=dropout_rate,
    )


def scaled_options(variant: Variant) -> dict[str, Any]:
    """Returns the options that compound scaling computes, by flag name, with the variant's values."""
    return {name: getattr(variant, name) for name, option in OPTIONS.items() if option.scaled}


def scaled_resolution(resolution: int, factor: float) -> int:
    """An image side times `factor`, in steps of 8 pixels from what it was, at least MIN_RESOLUTION."""
    return max(MIN_RESOLUTION, resolution + 8 * round((factor - 1) * resolution / 8))


def find_variant(name: str) -> Variant:
    """The variant of a name: one of MODELS, or `efficientnet-phi<number>` for any compound coefficient."""
    if name in MODELS:
        return MODELS[name]
    match = re.fullmatch(r"efficientnet-phi(-?\d+(?:\.\d+)?)", name)
    if match and abs(float(match[1])) <= MAX_PHI:
        return compound_variant(float(match[1]))
    raise UserError(
        f"--model={name}: no such model.{nearest(name, MODELS)}\n"
        f"Models: {', '.join(MODELS)}; or efficientnet-phi<number> from -20 to 20, for example efficientnet-phi2.5."
    )


def configured_variant(config: ModelConfig) -> Variant:
    """Returns the network of --model or --stage_table, with what the other flags of section Model override."""
    variant = stage_table.read_stage_table(config.stage_table) if config.stage_table else find_variant(config.model)
    return overridden(variant, config)


def network_name(config: ModelConfig) -> str:
    """What the network is called that the flags of section Model describe."""
    return stage_table.table_name(config.stage_table) if config.stage_table else config.model


def overridden(variant: Variant, config: ModelConfig) -> Variant:
    """A variant with what the flags of section Model say in place of its own."""
    overrides = {
        name: getattr(config, name)
        for name in ("width_coefficient", "depth_coefficient", "resolution", "dropout_rate", "survival_prob")
        if getattr(config, name) is not None
    }
    if overrides.get("resolution", MIN_RESOLUTION) < MIN_RESOLUTION:
        raise UserError(
            f"--resolution={config.resolution}: five layers halve the image, so its side must be at least "
            f"{MIN_RESOLUTION} pixels. Leave the flag out for the model's own {variant.resolution}."
        )
    if config.normalization != "model":
        overrides["mean"], overrides["std"] = NORMALIZATIONS[config.normalization]
    return replace(variant, **overrides)


def configured_architecture(config: ModelConfig, num_classes: int) -> Architecture:
    """The network that the flags of section Model describe."""
    return replace(
        scale(network_name(config), configured_variant(config), num_classes),
        batch_norm_momentum=config.batch_norm_momentum,
        batch_norm_epsilon=config.batch_norm_epsilon,
    )


def build_architecture(name: str, num_classes: int = NUM_IMAGENET_CLASSES, **options: Any) -> Architecture:
    """`configured_architecture` a model name with any other flag of section Model as a keyword."""
    return configured_architecture(ModelConfig(model=name, **options), num_classes)


def _end_filters(filters: int, variant: Variant) -> int:
    return filters if variant.fix_head_stem else round_filters(filters, variant.width_coefficient)
