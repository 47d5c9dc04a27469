"""AutoAugment and RandAugment as tables: which operations, how often, how strongly.

Data only, no TensorFlow. Sources: `imagenet` is policy v0 of the reference implementation (tensorflow/tpu,
models/official/efficientnet), with which the published weights were trained; it is not the ImageNet table of the
AutoAugment paper. `cifar10` and `svhn` are that paper's tables (Cubuk et al. 2019, arXiv:1805.09501, appendix).
"""

from dataclasses import dataclass

# RandAugment draws uniformly from this part of OPERATIONS: a draw is a place in this list. The reference's 16 in its
# order; the paper (Cubuk et al. 2020, arXiv:1909.13719) has 14.
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

# (translate_pixels, cutout_pixels): what Translate and Cutout do at MAX_LEVEL, on images of any size.
AUTOAUGMENT_PIXELS = (250.0, 100.0)
RANDAUGMENT_PIXELS = (100.0, 40.0)
# The same for the CIFAR-10 and SVHN policies, as a share of the image's side: 10 pixels of 32 in the program published
# with the paper. The reference's 250 pixels would push most images out of the picture.
SMALL_IMAGE_SHARE = 10 / 32


@dataclass(frozen=True)
class PolicyStep:
    """An operation of OPERATIONS that a policy applies with `probability`, at `level` 0..MAX_LEVEL."""

    name: str
    probability: float
    level: float


# Applied one after the other; each is drawn separately.
SubPolicy = tuple[PolicyStep, PolicyStep]

IMAGENET: tuple[SubPolicy, ...] = (
    (PolicyStep("Equalize", 0.8, 1), PolicyStep("ShearY", 0.8, 4)),
    (PolicyStep("Color", 0.4, 9), PolicyStep("Equalize", 0.6, 3)),
    (PolicyStep("Color", 0.4, 1), PolicyStep("Rotate", 0.6, 8)),
    (PolicyStep("Solarize", 0.8, 3), PolicyStep("Equalize", 0.4, 7)),
    (PolicyStep("Solarize", 0.4, 2), PolicyStep("Solarize", 0.6, 2)),
    (PolicyStep("Color", 0.2, 0), PolicyStep("Equalize", 0.8, 8)),
    (PolicyStep("Equalize", 0.4, 8), PolicyStep("SolarizeAdd", 0.8, 3)),
    (PolicyStep("ShearX", 0.2, 9), PolicyStep("Rotate", 0.6, 8)),
    (PolicyStep("Color", 0.6, 1), PolicyStep("Equalize", 1.0, 2)),
    (PolicyStep("Invert", 0.4, 9), PolicyStep("Rotate", 0.6, 0)),
    (PolicyStep("Equalize", 1.0, 9), PolicyStep("ShearY", 0.6, 3)),
    (PolicyStep("Color", 0.4, 7), PolicyStep("Equalize", 0.6, 0)),
    (PolicyStep("Posterize", 0.4, 6), PolicyStep("AutoContrast", 0.4, 7)),
    (PolicyStep("Solarize", 0.6, 8), PolicyStep("Color", 0.6, 9)),
    (PolicyStep("Solarize", 0.2, 4), PolicyStep("Rotate", 0.8, 9)),
    (PolicyStep("Rotate", 1.0, 7), PolicyStep("TranslateY", 0.8, 9)),
    (PolicyStep("ShearX", 0.0, 0), PolicyStep("Solarize", 0.8, 4)),
    (PolicyStep("ShearY", 0.8, 0), PolicyStep("Color", 0.6, 4)),
    (PolicyStep("Color", 1.0, 0), PolicyStep("Rotate", 0.6, 2)),
    (PolicyStep("Equalize", 0.8, 4), PolicyStep("Equalize", 0.0, 8)),
    (PolicyStep("Equalize", 1.0, 4), PolicyStep("AutoContrast", 0.6, 2)),
    (PolicyStep("ShearY", 0.4, 7), PolicyStep("SolarizeAdd", 0.6, 7)),
    (PolicyStep("Posterize", 0.8, 2), PolicyStep("Solarize", 0.6, 10)),
    (PolicyStep("Solarize", 0.6, 8), PolicyStep("Equalize", 0.6, 1)),
    (PolicyStep("Color", 0.8, 6), PolicyStep("Rotate", 0.4, 5)),
)

CIFAR10: tuple[SubPolicy, ...] = (
    (PolicyStep("Invert", 0.1, 7), PolicyStep("Contrast", 0.2, 6)),
    (PolicyStep("Rotate", 0.7, 2), PolicyStep("TranslateX", 0.3, 9)),
    (PolicyStep("Sharpness", 0.8, 1), PolicyStep("Sharpness", 0.9, 3)),
    (PolicyStep("ShearY", 0.5, 8), PolicyStep("TranslateY", 0.7, 9)),
    (PolicyStep("AutoContrast", 0.5, 8), PolicyStep("Equalize", 0.9, 2)),
    (PolicyStep("ShearY", 0.2, 7), PolicyStep("Posterize", 0.3, 7)),
    (PolicyStep("Color", 0.4, 3), PolicyStep("Brightness", 0.6, 7)),
    (PolicyStep("Sharpness", 0.3, 9), PolicyStep("Brightness", 0.7, 9)),
    (PolicyStep("Equalize", 0.6, 5), PolicyStep("Equalize", 0.5, 1)),
    (PolicyStep("Contrast", 0.6, 7), PolicyStep("Sharpness", 0.6, 5)),
    (PolicyStep("Color", 0.7, 7), PolicyStep("TranslateX", 0.5, 8)),
    (PolicyStep("Equalize", 0.3, 7), PolicyStep("AutoContrast", 0.4, 8)),
    (PolicyStep("TranslateY", 0.4, 3), PolicyStep("Sharpness", 0.2, 6)),
    (PolicyStep("Brightness", 0.9, 6), PolicyStep("Color", 0.2, 8)),
    (PolicyStep("Solarize", 0.5, 2), PolicyStep("Invert", 0.0, 3)),
    (PolicyStep("Equalize", 0.2, 0), PolicyStep("AutoContrast", 0.6, 0)),
    (PolicyStep("Equalize", 0.2, 8), PolicyStep("Equalize", 0.6, 4)),
    (PolicyStep("Color", 0.9, 9), PolicyStep("Equalize", 0.6, 6)),
    (PolicyStep("AutoContrast", 0.8, 4), PolicyStep("Solarize", 0.2, 8)),
    (PolicyStep("Brightness", 0.1, 3), PolicyStep("Color", 0.7, 0)),
    (PolicyStep("Solarize", 0.4, 5), PolicyStep("AutoContrast", 0.9, 3)),
    (PolicyStep("TranslateY", 0.9, 9), PolicyStep("TranslateY", 0.7, 9)),
    (PolicyStep("AutoContrast", 0.9, 2), PolicyStep("Solarize", 0.8, 3)),
    (PolicyStep("Equalize", 0.8, 8), PolicyStep("Invert", 0.1, 3)),
    (PolicyStep("TranslateY", 0.7, 9), PolicyStep("AutoContrast", 0.9, 1)),
)

SVHN: tuple[SubPolicy, ...] = (
    (PolicyStep("ShearX", 0.9, 4), PolicyStep("Invert", 0.2, 3)),
    (PolicyStep("ShearY", 0.9, 8), PolicyStep("Invert", 0.7, 5)),
    (PolicyStep("Equalize", 0.6, 5), PolicyStep("Solarize", 0.6, 6)),
    (PolicyStep("Invert", 0.9, 3), PolicyStep("Equalize", 0.6, 3)),
    (PolicyStep("Equalize", 0.6, 1), PolicyStep("Rotate", 0.9, 3)),
    (PolicyStep("ShearX", 0.9, 4), PolicyStep("AutoContrast", 0.8, 3)),
    (PolicyStep("ShearY", 0.9, 8), PolicyStep("Invert", 0.4, 5)),
    (PolicyStep("ShearY", 0.9, 5), PolicyStep("Solarize", 0.2, 6)),
    (PolicyStep("Invert", 0.9, 6), PolicyStep("AutoContrast", 0.8, 1)),
    (PolicyStep("Equalize", 0.6, 3), PolicyStep("Rotate", 0.9, 3)),
    (PolicyStep("ShearX", 0.9, 4), PolicyStep("Solarize", 0.3, 3)),
    (PolicyStep("ShearY", 0.8, 8), PolicyStep("Invert", 0.7, 4)),
    (PolicyStep("Equalize", 0.9, 5), PolicyStep("TranslateY", 0.6, 6)),
    (PolicyStep("Invert", 0.9, 4), PolicyStep("Equalize", 0.6, 7)),
    (PolicyStep("Contrast", 0.3, 3), PolicyStep("Rotate", 0.8, 4)),
    (PolicyStep("Invert", 0.8, 5), PolicyStep("TranslateY", 0.0, 2)),
    (PolicyStep("ShearY", 0.7, 6), PolicyStep("Solarize", 0.4, 8)),
    (PolicyStep("Invert", 0.6, 4), PolicyStep("Rotate", 0.8, 4)),
    (PolicyStep("ShearY", 0.3, 7), PolicyStep("TranslateX", 0.9, 3)),
    (PolicyStep("ShearX", 0.1, 6), PolicyStep("Invert", 0.6, 5)),
    (PolicyStep("Solarize", 0.7, 2), PolicyStep("TranslateY", 0.6, 7)),
    (PolicyStep("ShearY", 0.8, 4), PolicyStep("Invert", 0.8, 8)),
    (PolicyStep("ShearX", 0.7, 9), PolicyStep("TranslateY", 0.8, 3)),
    (PolicyStep("ShearY", 0.8, 5), PolicyStep("AutoContrast", 0.7, 3)),
    (PolicyStep("ShearX", 0.7, 2), PolicyStep("Invert", 0.1, 5)),
)

POLICIES: dict[str, tuple[SubPolicy, ...]] = {"imagenet": IMAGENET, "cifar10": CIFAR10, "svhn": SVHN}
# --augment names a policy like this; the reference calls `autoaugment` v0.
AUTOAUGMENT_FLAGS = {"autoaugment": "imagenet", "autoaugment-cifar10": "cifar10", "autoaugment-svhn": "svhn"}


def autoaugment_pixels(policy: str, size: int) -> tuple[float, float]:
    """Returns (translate_pixels, cutout_pixels) of a policy in POLICIES for images of `size` x `size` pixels."""
    if policy == "imagenet":
        return AUTOAUGMENT_PIXELS
    return SMALL_IMAGE_SHARE * size, SMALL_IMAGE_SHARE * size
