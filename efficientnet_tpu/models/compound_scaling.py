"""Compound scaling, and networks by name. No TensorFlow.

Equation 3 of the paper: depth = alpha^phi, width = beta^phi, resolution = gamma^phi with alpha * beta^2 * gamma^2 ~ 2.
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.models.architecture import (
    B0,
    BATCH_NORM_MOMENTUM,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NUM_IMAGENET_CLASSES,
    VARIANTS,
    Architecture,
    Variant,
)
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.models.stage_table import read_stage_table, table_name

# The paper's grid search at phi = 1 (section 3.3).
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
MAX_PHI = 20.0
# Mean and deviation by the names of --normalization, in units of the 0..255 pixel range.
NORMALIZATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "lite": ((127.0,) * 3, (128.0,) * 3),
    "advprop": ((127.5,) * 3, (127.5,) * 3),
    "unit": ((0.0,) * 3, (255.0,) * 3),
    "imagenet-sqrt-std": (IMAGENET_MEAN, tuple(255 * math.sqrt(std / 255) for std in IMAGENET_STD)),
}
# Five layers halve the image; below this side the last stages would see nothing but padding.
MIN_RESOLUTION = 16
RESOLUTION_STEP = 8  # pixels; the paper does not say how it rounds


@dataclass(frozen=True)
class Coefficients:
    """The factors by which one phi multiplies depth, width and resolution (equation 3).

    resolution_step: the resolution is the base's and a multiple of so many pixels.
    """

    alpha: float = ALPHA
    beta: float = BETA
    gamma: float = GAMMA
    resolution_step: int = RESOLUTION_STEP

    @property
    def growth(self) -> float:
        """Returns the factor by which one phi multiplies the multiply-adds, before rounding: about 2 in the paper."""
        return self.alpha * self.beta**2 * self.gamma**2


def candidate_coefficients(
    step: float = 0.05, tolerance: float = 0.1, resolution_step: int = RESOLUTION_STEP
) -> Iterator[Coefficients]:
    """Yields the grid of the paper's STEP 1: all multiples of `step`, none below 1, with |growth - 2| <= tolerance.

    The paper prints neither its step nor its tolerance; with these, its 1.2, 1.1, 1.15 is among the candidates.
    """
    # No factor can be above 2 + tolerance where the others are 1.
    ticks = [round(1 + index * step, 10) for index in range(int((1 + tolerance) / step + 1e-9) + 1)]
    for alpha, beta, gamma in itertools.product(ticks, repeat=3):
        coefficients = Coefficients(alpha, beta, gamma, resolution_step)
        if abs(coefficients.growth - 2) <= tolerance + 1e-9:
            yield coefficients


def compound_variant(
    phi: float, base: Variant = VARIANTS["efficientnet-b0"], coefficients: Coefficients = Coefficients()
) -> Variant:
    """Returns `base` with depth times alpha^phi, width times beta^phi, resolution times gamma^phi (equation 3).

    The released B1..B7 are rounded by hand and not exactly any phi; nor does the paper say how to round the
    resolution: here to the base's and a multiple of `coefficients.resolution_step`. An EfficientNet's dropout grows
    linearly, from 0.2 at phi = 0 to 0.5 at phi = 7 for B0 (section 5.2); other networks keep theirs.
    """
    dropout_rate = base.dropout_rate
    if base.baseline == B0:
        dropout_rate = round(min(0.5, max(0.0, dropout_rate + 0.3 * phi / 7)), 4)
    return replace(
        base,
        width_coefficient=base.width_coefficient * coefficients.beta**phi,
        depth_coefficient=base.depth_coefficient * coefficients.alpha**phi,
        resolution=scaled_resolution(base.resolution, coefficients.gamma**phi, coefficients.resolution_step),
        dropout_rate=dropout_rate,
    )


def scaled_resolution(resolution: int, factor: float, step: int = RESOLUTION_STEP) -> int:
    """Returns an image side times `factor`, in steps of `step` pixels from what it was, at least MIN_RESOLUTION."""
    return max(MIN_RESOLUTION, resolution + step * round((factor - 1) * resolution / step))


def find_variant(
    name: str,
    stage_table: str = "",
    normalization: str = "model",
    interpolation: str = "model",
    **coefficients: float | None,
) -> Variant:
    """Returns the variant of a name: one of MODELS, or `efficientnet-phi<number>` for any compound coefficient.

    stage_table: a table of stages as JSON, which replaces the name.
    normalization: "model", or a key of NORMALIZATIONS, which replaces the variant's mean and deviation.
    interpolation: "model", or what replaces the variant's own.
    coefficients: fields of Variant by name, which replace its own; None changes nothing.

    Raises UserError for an unknown name, a wrong table or a resolution below MIN_RESOLUTION.
    """
    variant = read_stage_table(stage_table) if stage_table else _named_variant(name)
    changes: dict[str, Any] = {field: value for field, value in coefficients.items() if value is not None}
    if changes.get("resolution", MIN_RESOLUTION) < MIN_RESOLUTION:
        raise UserError(
            f"--resolution={changes['resolution']}: five layers halve the image, so its side must be at least "
            f"{MIN_RESOLUTION} pixels. Leave the flag out for the model's own {variant.resolution}."
        )
    if normalization != "model":
        changes["mean"], changes["std"] = NORMALIZATIONS[normalization]
    if interpolation != "model":
        changes["interpolation"] = interpolation
    return replace(variant, **changes)


def build_architecture(
    name: str,
    num_classes: int = NUM_IMAGENET_CLASSES,
    *,
    stage_table: str = "",
    batch_norm_momentum: float | None = None,
    batch_norm_epsilon: float = 1e-3,
    **options: Any,
) -> Architecture:
    """Returns the scaled network of a model name; keywords are the flags of section Model, as in `find_variant`."""
    return replace(
        scale(
            table_name(stage_table) if stage_table else name, find_variant(name, stage_table, **options), num_classes
        ),
        batch_norm_momentum=BATCH_NORM_MOMENTUM if batch_norm_momentum is None else batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
    )


def _named_variant(name: str) -> Variant:
    if name in MODELS:
        return MODELS[name]
    match = re.fullmatch(r"efficientnet-phi(-?\d+(?:\.\d+)?)", name)
    if match and abs(float(match[1])) <= MAX_PHI:
        return compound_variant(float(match[1]))
    raise UserError(
        f"--model={name}: no such model.{nearest(name, MODELS)}\n"
        f"Models: {', '.join(MODELS)}; or efficientnet-phi<number> from -20 to 20, for example efficientnet-phi2.5."
    )
