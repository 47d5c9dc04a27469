"""The operations of `operations` on a uint8 image, as the reference or as Pillow computes them.

`reference` is what the published weights were trained with, three surprises included: Contrast takes the number of
pixels over 256 for the mean, Solarize's threshold is taken modulo 256, Posterize keeps the top bit when asked for none.
`pil` is Pillow, bit for bit (which refuses to keep no bit, here black, or more than 8, here all).

An operation is a kernel (see `image_kernels`) and coefficients, which are computed here from its argument in operations
that round like the originals. Its definition in NumPy or Pillow, to be read, is an oracle of the tests.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from efficientnet_tpu.data.kernels.kernel_calls import NUM_COEFFICIENTS, NUM_UNIFORMS, KernelCalls
from efficientnet_tpu.data.kernels.prepare_image import kernel_number, prepare_image

# (argument float32 scalar, height, width) -> float64 [NUM_COEFFICIENTS], exact for float32 and int32.
Coefficients = Callable[[tf.Tensor, int, int], tf.Tensor]


@dataclass(frozen=True)
class ImageOp:
    """An operation under one of the two semantics."""

    kernel: str  # one of kernel_calls.KERNEL_NAMES
    coefficients: Coefficients
    oracle: str  # the readable definition: a function of tests/support/image_op_oracles.py


def apply(
    name: str,
    image: tf.Tensor,
    argument: float | tf.Tensor,
    semantics: str = "reference",
    uniforms: tf.Tensor | None = None,
) -> tf.Tensor:
    """Applies one operation to an image.

    image: uint8 [height, width, 3], of static shape.
    argument: scalar, see `operations.argument`, with its sign.
    uniforms: float32 [2] in [0, 1), the center of Cutout as a share of height and width; zeros if None.

    Returns uint8 [height, width, 3]. KeyError for an unknown name.
    """
    height, width = image.shape[:2]
    uniforms = tf.zeros([NUM_UNIFORMS]) if uniforms is None else uniforms
    number, coefficients = make_call(name, argument, semantics, height, width)
    parameters = tf.concat([coefficients, _float64(uniforms)], axis=0)
    calls = KernelCalls(tf.constant([number]), parameters[tf.newaxis])
    return prepare_image(image, (height, width), calls=calls)


def make_call(name: str, argument: float | tf.Tensor, semantics: str, height: int, width: int) -> tuple[int, tf.Tensor]:
    """Returns the number of an operation's kernel and its coefficients, float64 [NUM_COEFFICIENTS].

    argument: scalar; height, width: of the images.
    """
    op = IMAGE_OPS[semantics][name]
    return kernel_number(op.kernel), op.coefficients(tf.cast(argument, tf.float32), height, width)


def _padded(*values: Any) -> tf.Tensor:
    """Returns the values and zeros behind them, float64 [NUM_COEFFICIENTS]."""
    return tf.stack([_float64(value) for value in (*values, *[0.0] * (NUM_COEFFICIENTS - len(values)))])


def _float64(value: Any) -> tf.Tensor:
    return tf.cast(value, tf.float64)


def no_coefficients(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns zeros, float64 [NUM_COEFFICIENTS], for a kernel without coefficients. argument: float32 scalar."""
    return _padded()


def argument_alone(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns the argument, a float32 scalar, as the only coefficient: float64 [NUM_COEFFICIENTS]."""
    return _padded(argument)


def reference_contrast(factor: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns factor, a float32 scalar, and the number of pixels / 256: float64 [NUM_COEFFICIENTS]."""
    return _padded(factor, math.floor(min(height * width / 256, 255)))


# ---- Coefficients of the kernel `levels`


def _levels(mask: Any = 255, added: Any = 0, threshold: Any = 256) -> tf.Tensor:
    """Returns the kernel's coefficients; the defaults change nothing."""
    return _padded(mask, added, threshold)


def invert(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns the levels' coefficients that invert all: float64 [NUM_COEFFICIENTS]. argument: float32 scalar."""
    return _levels(threshold=0)


def solarize_add(addition: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns the levels' coefficients for an addition, a float32 scalar: float64 [NUM_COEFFICIENTS]."""
    return _levels(added=tf.minimum(tf.floor(addition), 255))


def _posterize(shift: tf.Tensor) -> tf.Tensor:
    return _levels(mask=tf.bitwise.bitwise_and(tf.bitwise.left_shift(255, shift), 255))


def reference_posterize(bits: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns the levels' coefficients that keep `bits`, a float32 scalar: float64 [NUM_COEFFICIENTS]."""
    return _posterize(tf.minimum(tf.math.floormod(8 - tf.cast(bits, tf.int32), 256), 7))


def pil_posterize(bits: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns the levels' coefficients that keep `bits`, a float32 scalar: float64 [NUM_COEFFICIENTS]."""
    return _posterize(8 - tf.clip_by_value(tf.cast(bits, tf.int32), 0, 8))


# ---- Coefficients [a0, a1, a2, b0, b1, b2] lead from a pixel of the output to one of the input:
# column = a0 x + a1 y + a2, row = b0 x + b1 y + b2.

_AFFINE: dict[str, Callable[[tf.Tensor], list]] = {
    "ShearX": lambda ratio: [1.0, ratio, 0.0, 0.0, 1.0, 0.0],
    "ShearY": lambda ratio: [1.0, 0.0, 0.0, ratio, 1.0, 0.0],
    "TranslateX": lambda pixels: [1.0, 0.0, pixels, 0.0, 1.0, 0.0],
    "TranslateY": lambda pixels: [1.0, 0.0, 0.0, 0.0, 1.0, pixels],
}


def reference_affine(name: str) -> Coefficients:
    """Returns the coefficients of an operation in _AFFINE, rounded to float32."""
    return lambda argument, height, width: _padded(*_AFFINE[name](argument))


def pil_affine(name: str) -> Coefficients:
    """Returns the coefficients of an operation in _AFFINE, in fixed point."""
    return lambda argument, height, width: _fixed_point(_AFFINE[name](argument))


def _fixed_point(coefficients: list) -> tf.Tensor:
    """Returns the coefficients for pixels' centers, in Pillow's 16.16 fixed point."""
    a0, a1, a2, b0, b1, b2 = (_float64(value) for value in coefficients)
    centered = [a0, a1, a2 + a0 * 0.5 + a1 * 0.5, b0, b1, b2 + b0 * 0.5 + b1 * 0.5]
    return _padded(*(tf.floor(value * 65536 + 0.5) for value in centered))


def reference_rotate(degrees: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Rotates about the middle of the outermost pixels' centers: float32 scalar -> float64 [NUM_COEFFICIENTS].

    Rounded at every step as in tf.contrib.image.rotate.
    """
    radians = degrees * (math.pi / 180)
    cosine, sine = tf.cos(radians), tf.sin(radians)
    right, bottom = width - 1.0, height - 1.0
    offset_x = (right - (cosine * right - sine * bottom)) / 2
    offset_y = (bottom - (sine * right + cosine * bottom)) / 2
    return _padded(cosine, -sine, offset_x, sine, cosine, offset_y)


def pil_rotate(degrees: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Rotates about the center of the picture's area: float32 scalar -> float64 [NUM_COEFFICIENTS].

    `_fixed_point` adds a pixel's own center, half a pixel in.
    """
    radians = _float64(degrees) * (math.pi / 180)
    cosine, sine = tf.cos(radians), tf.sin(radians)
    right, bottom = width / 2, height / 2
    offset_x = right - (cosine * right - sine * bottom)
    offset_y = bottom - (sine * right + cosine * bottom)
    return _fixed_point([cosine, -sine, offset_x, sine, cosine, offset_y])


# Semantics -> name -> operation.
IMAGE_OPS: dict[str, dict[str, ImageOp]] = {
    "reference": {
        "AutoContrast": ImageOp("autocontrast", no_coefficients, "reference_autocontrast"),
        "Equalize": ImageOp("equalize", no_coefficients, "reference_equalize"),
        "Invert": ImageOp("levels", invert, "reference_invert"),
        "Rotate": ImageOp("transform", reference_rotate, "reference_rotate"),
        "Posterize": ImageOp("levels", reference_posterize, "reference_posterize"),
        "Solarize": ImageOp(
            "levels",
            lambda threshold, height, width: _levels(threshold=tf.math.floormod(tf.floor(threshold), 256)),
            "reference_solarize",
        ),
        "Color": ImageOp("color", argument_alone, "reference_color"),
        "Contrast": ImageOp("blend", reference_contrast, "reference_contrast"),
        "Brightness": ImageOp("blend", argument_alone, "reference_brightness"),
        "Sharpness": ImageOp("sharpness", argument_alone, "reference_sharpness"),
        "ShearX": ImageOp("transform", reference_affine("ShearX"), "reference_shear_x"),
        "ShearY": ImageOp("transform", reference_affine("ShearY"), "reference_shear_y"),
        "TranslateX": ImageOp("transform", reference_affine("TranslateX"), "reference_translate_x"),
        "TranslateY": ImageOp("transform", reference_affine("TranslateY"), "reference_translate_y"),
        "Cutout": ImageOp("cutout", argument_alone, "cutout"),
        "SolarizeAdd": ImageOp("levels", solarize_add, "solarize_add"),
    },
    "pil": {
        "AutoContrast": ImageOp("pil_autocontrast", no_coefficients, "pil_autocontrast"),
        "Equalize": ImageOp("equalize", no_coefficients, "pil_equalize"),
        "Invert": ImageOp("levels", invert, "pil_invert"),
        "Rotate": ImageOp("pil_transform", pil_rotate, "pil_rotate"),
        "Posterize": ImageOp("levels", pil_posterize, "pil_posterize"),
        "Solarize": ImageOp(
            "levels", lambda threshold, height, width: _levels(threshold=tf.floor(threshold)), "pil_solarize"
        ),
        "Color": ImageOp("pil_color", argument_alone, "pil_color"),
        "Contrast": ImageOp("pil_contrast", argument_alone, "pil_contrast"),
        "Brightness": ImageOp("blend", argument_alone, "pil_brightness"),
        "Sharpness": ImageOp("pil_sharpness", argument_alone, "pil_sharpness"),
        "ShearX": ImageOp("pil_transform", pil_affine("ShearX"), "pil_shear_x"),
        "ShearY": ImageOp("pil_transform", pil_affine("ShearY"), "pil_shear_y"),
        "TranslateX": ImageOp("pil_transform", pil_affine("TranslateX"), "pil_translate_x"),
        "TranslateY": ImageOp("pil_transform", pil_affine("TranslateY"), "pil_translate_y"),
        "Cutout": ImageOp("cutout", argument_alone, "cutout"),
        "SolarizeAdd": ImageOp("levels", solarize_add, "solarize_add"),
    },
}
