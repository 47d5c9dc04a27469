"""The operations on images that exist: what a level means for each.

Data only, no TensorFlow. `image_ops` computes them, `policies` says which of them AutoAugment and RandAugment apply.
Levels and arguments are those of the reference implementation (tensorflow/tpu, models/official/efficientnet).

Arguments are the same under both semantics, the reference's and PIL's. The results differ at the ends: Posterize to 0
bits keeps the top bit in the reference and nothing in PIL, to more than 8 bits the top bit again and everything;
Solarize takes a threshold of 256 or more modulo 256 in the reference and changes nothing in PIL.
"""

from dataclasses import dataclass
from typing import Literal

MAX_LEVEL = 10


@dataclass(frozen=True)
class Operation:
    """An operation, with the argument that a level from 0 to MAX_LEVEL stands for. The default takes no argument."""

    at_max_level: float = 0.0
    at_level_0: float = 0.0
    pixels: Literal["", "translate", "cutout"] = ""  # the policy's number of pixels instead of at_max_level
    is_whole: bool = False  # truncated to a whole number
    is_signed: bool = False  # negated with probability 1/2
    caption: str = ""  # how pictures show the argument


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": Operation(),
    "Equalize": Operation(),
    "Invert": Operation(),
    "Rotate": Operation(30.0, is_signed=True, caption="{:+.3g}\N{DEGREE SIGN}"),
    "Posterize": Operation(4.0, is_whole=True, caption="{:g} bits"),
    "Solarize": Operation(256.0, is_whole=True, caption="from {:g}"),
    "Color": Operation(1.8, at_level_0=0.1, caption="x {:.2g}"),
    "Contrast": Operation(1.8, at_level_0=0.1, caption="x {:.2g}"),
    "Brightness": Operation(1.8, at_level_0=0.1, caption="x {:.2g}"),
    "Sharpness": Operation(1.8, at_level_0=0.1, caption="x {:.2g}"),
    "ShearX": Operation(0.3, is_signed=True, caption="{:+.2g}"),
    "ShearY": Operation(0.3, is_signed=True, caption="{:+.2g}"),
    "TranslateX": Operation(pixels="translate", is_signed=True, caption="{:+.3g} px"),
    "TranslateY": Operation(pixels="translate", is_signed=True, caption="{:+.3g} px"),
    "Cutout": Operation(pixels="cutout", is_whole=True),
    "SolarizeAdd": Operation(110.0, is_whole=True, caption="+{:g}"),
}


def argument(name: str, level: float, translate_pixels: float, cutout_pixels: float) -> float:
    """Returns the argument of an operation at `level`, before its sign is drawn.

    Rotate: degrees. Shear: ratio. Translate: pixels. Cutout: half the square's side, in whole pixels. Color, Contrast,
    Brightness, Sharpness: factor, of which 1 changes nothing. Posterize: bits kept. Solarize: first gray level that is
    inverted. SolarizeAdd: the addition to levels below 128. The others take none: 0.

    Any level >= 0: fractions count, and nothing is clipped above MAX_LEVEL, as in the reference. KeyError for a name
    that is not in OPERATIONS.
    """
    operation = OPERATIONS[name]
    at_max_level = {"": operation.at_max_level, "translate": translate_pixels, "cutout": cutout_pixels}
    # The reference's order of operations, so that truncation falls on the same integers.
    value = level / MAX_LEVEL * at_max_level[operation.pixels] + operation.at_level_0
    return float(int(value)) if operation.is_whole else value
