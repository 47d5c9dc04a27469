"""AutoAugment and RandAugment as tables: which operations, how often, how strongly.

Data only, no TensorFlow. Sources: `imagenet` is policy v0 of the reference implementation (tensorflow/tpu,
models/official/efficientnet), with which the published weights were trained; it is not the ImageNet table of the
AutoAugment paper. `cifar10` and `svhn` are that paper's tables (Cubuk et al. 2019, arXiv:1805.09501, appendix). The 16
operations and their order are the reference's RandAugment (Cubuk et al. 2020, arXiv:1909.13719, has 14).

Arguments are the same under both semantics of the operations, the reference's and PIL's. What they do differs at the
ends: Posterize to 0 bits keeps the top bit in the reference and nothing in PIL, to more than 8 bits the top bit again
and everything; Solarize from a threshold of 256 on takes it modulo 256 in the reference and changes nothing in PIL.
"""

from dataclasses import dataclass

MAX_LEVEL = 10

# In the reference's order. AutoAugment draws from its policy, RandAugment uniformly from all of these.
RANDAUGMENT_OPERATIONS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Cutout",
    "SolarizeAdd",
)
# Their argument is negated with probability 1/2.
SIGNED = frozenset({"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"})

# (translate_pixels, cutout_pixels): what Translate and Cutout do at MAX_LEVEL, whatever the size of the image.
AUTOAUGMENT_PIXELS = (250.0, 100.0)
RANDAUGMENT_PIXELS = (100.0, 40.0)
# The same for the CIFAR-10 and SVHN policies, as a share of the image's side: 10 pixels of 32 in the program published
# with the paper. The reference's 250 pixels would push most images out of the picture.
SMALL_IMAGE_SHARE = 10 / 32

_AT_MAX_LEVEL = {
    "AutoContrast": 0.0,
    "Equalize": 0.0,
    "Invert": 0.0,
    "Rotate": 30.0,
    "Posterize": 4.0,
    "Solarize": 256.0,
    "SolarizeAdd": 110.0,
    "Color": 1.8,
    "Contrast": 1.8,
    "Brightness": 1.8,
    "Sharpness": 1.8,
    "ShearX": 0.3,
    "ShearY": 0.3,
}
_AT_LEVEL_0 = {"Color": 0.1, "Contrast": 0.1, "Brightness": 0.1, "Sharpness": 0.1}
_WHOLE = frozenset({"Posterize", "Solarize", "SolarizeAdd", "Cutout"})


@dataclass(frozen=True)
class Operation:
    """One step of a sub-policy: applied with `probability`, at `level` 0..MAX_LEVEL (see `argument`)."""

    name: str
    probability: float
    level: float


# Applied one after the other; each drawn for itself.
SubPolicy = tuple[Operation, Operation]

IMAGENET: tuple[SubPolicy, ...] = (
    (Operation("Equalize", 0.8, 1), Operation("ShearY", 0.8, 4)),
    (Operation("Color", 0.4, 9), Operation("Equalize", 0.6, 3)),
    (Operation("Color", 0.4, 1), Operation("Rotate", 0.6, 8)),
    (Operation("Solarize", 0.8, 3), Operation("Equalize", 0.4, 7)),
    (Operation("Solarize", 0.4, 2), Operation("Solarize", 0.6, 2)),
    (Operation("Color", 0.2, 0), Operation("Equalize", 0.8, 8)),
    (Operation("Equalize", 0.4, 8), Operation("SolarizeAdd", 0.8, 3)),
    (Operation("ShearX", 0.2, 9), Operation("Rotate", 0.6, 8)),
    (Operation("Color", 0.6, 1), Operation("Equalize", 1.0, 2)),
    (Operation("Invert", 0.4, 9), Operation("Rotate", 0.6, 0)),
    (Operation("Equalize", 1.0, 9), Operation("ShearY", 0.6, 3)),
    (Operation("Color", 0.4, 7), Operation("Equalize", 0.6, 0)),
    (Operation("Posterize", 0.4, 6), Operation("AutoContrast", 0.4, 7)),
    (Operation("Solarize", 0.6, 8), Operation("Color", 0.6, 9)),
    (Operation("Solarize", 0.2, 4), Operation("Rotate", 0.8, 9)),
    (Operation("Rotate", 1.0, 7), Operation("TranslateY", 0.8, 9)),
    (Operation("ShearX", 0.0, 0), Operation("Solarize", 0.8, 4)),
    (Operation("ShearY", 0.8, 0), Operation("Color", 0.6, 4)),
    (Operation("Color", 1.0, 0), Operation("Rotate", 0.6, 2)),
    (Operation("Equalize", 0.8, 4), Operation("Equalize", 0.0, 8)),
    (Operation("Equalize", 1.0, 4), Operation("AutoContrast", 0.6, 2)),
    (Operation("ShearY", 0.4, 7), Operation("SolarizeAdd", 0.6, 7)),
    (Operation("Posterize", 0.8, 2), Operation("Solarize", 0.6, 10)),
    (Operation("Solarize", 0.6, 8), Operation("Equalize", 0.6, 1)),
    (Operation("Color", 0.8, 6), Operation("Rotate", 0.4, 5)),
)

CIFAR10: tuple[SubPolicy, ...] = (
    (Operation("Invert", 0.1, 7), Operation("Contrast", 0.2, 6)),
    (Operation("Rotate", 0.7, 2), Operation("TranslateX", 0.3, 9)),
    (Operation("Sharpness", 0.8, 1), Operation("Sharpness", 0.9, 3)),
    (Operation("ShearY", 0.5, 8), Operation("TranslateY", 0.7, 9)),
    (Operation("AutoContrast", 0.5, 8), Operation("Equalize", 0.9, 2)),
    (Operation("ShearY", 0.2, 7), Operation("Posterize", 0.3, 7)),
    (Operation("Color", 0.4, 3), Operation("Brightness", 0.6, 7)),
    (Operation("Sharpness", 0.3, 9), Operation("Brightness", 0.7, 9)),
    (Operation("Equalize", 0.6, 5), Operation("Equalize", 0.5, 1)),
    (Operation("Contrast", 0.6, 7), Operation("Sharpness", 0.6, 5)),
    (Operation("Color", 0.7, 7), Operation("TranslateX", 0.5, 8)),
    (Operation("Equalize", 0.3, 7), Operation("AutoContrast", 0.4, 8)),
    (Operation("TranslateY", 0.4, 3), Operation("Sharpness", 0.2, 6)),
    (Operation("Brightness", 0.9, 6), Operation("Color", 0.2, 8)),
    (Operation("Solarize", 0.5, 2), Operation("Invert", 0.0, 3)),
    (Operation("Equalize", 0.2, 0), Operation("AutoContrast", 0.6, 0)),
    (Operation("Equalize", 0.2, 8), Operation("Equalize", 0.6, 4)),
    (Operation("Color", 0.9, 9), Operation("Equalize", 0.6, 6)),
    (Operation("AutoContrast", 0.8, 4), Operation("Solarize", 0.2, 8)),
    (Operation("Brightness", 0.1, 3), Operation("Color", 0.7, 0)),
    (Operation("Solarize", 0.4, 5), Operation("AutoContrast", 0.9, 3)),
    (Operation("TranslateY", 0.9, 9), Operation("TranslateY", 0.7, 9)),
    (Operation("AutoContrast", 0.9, 2), Operation("Solarize", 0.8, 3)),
    (Operation("Equalize", 0.8, 8), Operation("Invert", 0.1, 3)),
    (Operation("TranslateY", 0.7, 9), Operation("AutoContrast", 0.9, 1)),
)

SVHN: tuple[SubPolicy, ...] = (
    (Operation("ShearX", 0.9, 4), Operation("Invert", 0.2, 3)),
    (Operation("ShearY", 0.9, 8), Operation("Invert", 0.7, 5)),
    (Operation("Equalize", 0.6, 5), Operation("Solarize", 0.6, 6)),
    (Operation("Invert", 0.9, 3), Operation("Equalize", 0.6, 3)),
    (Operation("Equalize", 0.6, 1), Operation("Rotate", 0.9, 3)),
    (Operation("ShearX", 0.9, 4), Operation("AutoContrast", 0.8, 3)),
    (Operation("ShearY", 0.9, 8), Operation("Invert", 0.4, 5)),
    (Operation("ShearY", 0.9, 5), Operation("Solarize", 0.2, 6)),
    (Operation("Invert", 0.9, 6), Operation("AutoContrast", 0.8, 1)),
    (Operation("Equalize", 0.6, 3), Operation("Rotate", 0.9, 3)),
    (Operation("ShearX", 0.9, 4), Operation("Solarize", 0.3, 3)),
    (Operation("ShearY", 0.8, 8), Operation("Invert", 0.7, 4)),
    (Operation("Equalize", 0.9, 5), Operation("TranslateY", 0.6, 6)),
    (Operation("Invert", 0.9, 4), Operation("Equalize", 0.6, 7)),
    (Operation("Contrast", 0.3, 3), Operation("Rotate", 0.8, 4)),
    (Operation("Invert", 0.8, 5), Operation("TranslateY", 0.0, 2)),
    (Operation("ShearY", 0.7, 6), Operation("Solarize", 0.4, 8)),
    (Operation("Invert", 0.6, 4), Operation("Rotate", 0.8, 4)),
    (Operation("ShearY", 0.3, 7), Operation("TranslateX", 0.9, 3)),
    (Operation("ShearX", 0.1, 6), Operation("Invert", 0.6, 5)),
    (Operation("Solarize", 0.7, 2), Operation("TranslateY", 0.6, 7)),
    (Operation("ShearY", 0.8, 4), Operation("Invert", 0.8, 8)),
    (Operation("ShearX", 0.7, 9), Operation("TranslateY", 0.8, 3)),
    (Operation("ShearY", 0.8, 5), Operation("AutoContrast", 0.7, 3)),
    (Operation("ShearX", 0.7, 2), Operation("Invert", 0.1, 5)),
)

POLICIES: dict[str, tuple[SubPolicy, ...]] = {"imagenet": IMAGENET, "cifar10": CIFAR10, "svhn": SVHN}
# --augment names a policy like this; the reference calls `autoaugment` v0.
AUTOAUGMENT_FLAGS = {"autoaugment": "imagenet", "autoaugment-cifar10": "cifar10", "autoaugment-svhn": "svhn"}


def autoaugment_pixels(policy: str, size: int) -> tuple[float, float]:
    """(translate_pixels, cutout_pixels) of `policy` in POLICIES on images of `size` x `size` pixels."""
    if policy == "imagenet":
        return AUTOAUGMENT_PIXELS
    return SMALL_IMAGE_SHARE * size, SMALL_IMAGE_SHARE * size


def argument(name: str, level: float, translate_pixels: float, cutout_pixels: float) -> float:
    """What the operation `name` is called with at `level`, before its sign is drawn (SIGNED).

    Rotate: degrees. Shear: ratio. Translate: pixels. Cutout: half the square's side, in whole pixels. Color, Contrast,
    Brightness, Sharpness: factor, of which 1 changes nothing. Posterize: bits kept. Solarize: first grey level that is
    inverted. SolarizeAdd: what is added to levels below 128. The others take none: 0.

    Any level >= 0: fractions count, and above MAX_LEVEL nothing is clipped, as in the reference. KeyError for a name
    that is not one of RANDAUGMENT_OPERATIONS.
    """
    at_max_level = {"TranslateX": translate_pixels, "TranslateY": translate_pixels, "Cutout": cutout_pixels}
    # The reference's order of operations, so that truncation falls on the same integers.
    value = level / MAX_LEVEL * (at_max_level | _AT_MAX_LEVEL)[name] + _AT_LEVEL_0.get(name, 0.0)
    return float(int(value)) if name in _WHOLE else value
