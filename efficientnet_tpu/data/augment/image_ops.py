"""The 16 operations of AutoAugment and RandAugment on a uint8 image, as the reference or as Pillow computes them.

`reference` is what the published weights were trained with, three surprises included: Contrast takes the number of
pixels over 256 for the mean, Solarize's threshold is taken modulo 256, Posterize keeps the top bit when asked for none.
`pil` is Pillow, bit for bit (which refuses to keep no bit, here black, or more than 8, here all).

An operation is a kernel (see `image_kernels`) and the numbers that its argument becomes, computed here in operations
that round like the originals.
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from efficientnet_tpu.data.kernels.kernel_calls import NUM_COEFFICIENTS, NUM_UNIFORMS, KernelCalls
from efficientnet_tpu.data.kernels.prepare_image import kernel_number, prepare_image


def apply(
    name: str,
    image: tf.Tensor,
    argument: float | tf.Tensor,
    semantics: str = "reference",
    uniforms: tf.Tensor | None = None,
) -> tf.Tensor:
    """Operation `name` on an image uint8 [height, width, 3], whose shape is static; returns the same shape.

    argument: see `augment_policies.argument`, with its sign. uniforms: float32 [2] in [0, 1), the centre of Cutout as a
    share of height and width. KeyError for an unknown name.
    """
    kernel, parameters_of = OPERATIONS[semantics][name]
    height, width = image.shape[:2]
    uniforms = tf.zeros([NUM_UNIFORMS]) if uniforms is None else uniforms
    numbers = tf.concat([parameters_of(tf.cast(argument, tf.float32), height, width), _float64(uniforms)], axis=0)
    return prepare_image(
        image, (height, width), calls=KernelCalls(tf.constant([kernel_number(kernel)]), numbers[tf.newaxis])
    )


def parameters(name: str, argument: float, semantics: str, height: int, width: int) -> tuple[int, tf.Tensor]:
    """The number of an operation's kernel, and its parameters float64 [NUM_COEFFICIENTS] for images of that size."""
    kernel, parameters_of = OPERATIONS[semantics][name]
    return kernel_number(kernel), parameters_of(tf.constant(argument, tf.float32), height, width)


# ---- Parameters: (argument float32 scalar, height, width) -> float64 [NUM_COEFFICIENTS], exact for float32 and int32.


def _numbers(*values: Any) -> tf.Tensor:
    """The values and zeros behind them."""
    return tf.stack([_float64(value) for value in (*values, *[0.0] * (NUM_COEFFICIENTS - len(values)))])


def _float64(value: Any) -> tf.Tensor:
    return tf.cast(value, tf.float64)


def _none(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return _numbers()


def _argument(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return _numbers(argument)


def _levels(mask: Any = 255, added: Any = 0, threshold: Any = 256) -> tf.Tensor:
    """Of the kernel `levels`, which is the identity by default."""
    return _numbers(mask, added, threshold)


def _invert(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return _levels(threshold=0)


def _solarize_add(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return _levels(added=tf.minimum(tf.floor(argument), 255))


def _reference_solarize(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return _levels(threshold=tf.math.floormod(tf.floor(argument), 256))


def _pil_solarize(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return _levels(threshold=tf.floor(argument))


def _reference_posterize(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    shift = tf.minimum(tf.math.floormod(8 - tf.cast(argument, tf.int32), 256), 7)
    return _levels(mask=tf.bitwise.bitwise_and(tf.bitwise.left_shift(255, shift), 255))


def _pil_posterize(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    shift = 8 - tf.clip_by_value(tf.cast(argument, tf.int32), 0, 8)
    return _levels(mask=tf.bitwise.bitwise_and(tf.bitwise.left_shift(255, shift), 255))


def _reference_contrast(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
    return _numbers(argument, math.floor(min(height * width / 256, 255)))


# Coefficients [a0, a1, a2, b0, b1, b2] lead from a pixel of the output to one of the input:
# column = a0 x + a1 y + a2, row = b0 x + b1 y + b2.


def _shear_x(ratio: tf.Tensor, height: int, width: int) -> list:
    return [1.0, ratio, 0.0, 0.0, 1.0, 0.0]


def _shear_y(ratio: tf.Tensor, height: int, width: int) -> list:
    return [1.0, 0.0, 0.0, ratio, 1.0, 0.0]


def _translate_x(pixels: tf.Tensor, height: int, width: int) -> list:
    return [1.0, 0.0, pixels, 0.0, 1.0, 0.0]


def _translate_y(pixels: tf.Tensor, height: int, width: int) -> list:
    return [1.0, 0.0, 0.0, 0.0, 1.0, pixels]


def _reference_rotate(degrees: tf.Tensor, height: int, width: int) -> list:
    """About the centre between the outermost pixels' centres; rounded at every step as tf.contrib.image.rotate."""
    radians = degrees * (math.pi / 180)
    cosine, sine = tf.cos(radians), tf.sin(radians)
    right, bottom = width - 1.0, height - 1.0
    offset_x = (right - (cosine * right - sine * bottom)) / 2
    offset_y = (bottom - (sine * right + cosine * bottom)) / 2
    return [cosine, -sine, offset_x, sine, cosine, offset_y]


def _pil_rotate(degrees: tf.Tensor, height: int, width: int) -> list:
    """About the centre of the picture's area, to which a pixel's own centre, half a pixel in, is added later."""
    radians = _float64(degrees) * (math.pi / 180)
    cosine, sine = tf.cos(radians), tf.sin(radians)
    right, bottom = width / 2, height / 2
    offset_x = right - (cosine * right - sine * bottom)
    offset_y = bottom - (sine * right + cosine * bottom)
    return [cosine, -sine, offset_x, sine, cosine, offset_y]


def _float_transform(coefficients: Callable[..., list]) -> Callable[..., tf.Tensor]:
    return lambda argument, height, width: _numbers(*coefficients(argument, height, width))


def _fixed_transform(coefficients: Callable[..., list]) -> Callable[..., tf.Tensor]:
    """Of pixels' centres, in Pillow's 16.16 fixed point."""

    def fixed(argument: tf.Tensor, height: int, width: int) -> tf.Tensor:
        row = [_float64(value) for value in coefficients(argument, height, width)]
        a0, a1, a2, b0, b1, b2 = row
        centred = [a0, a1, a2 + a0 * 0.5 + a1 * 0.5, b0, b1, b2 + b0 * 0.5 + b1 * 0.5]
        return _numbers(*(tf.floor(value * 65536 + 0.5) for value in centred))

    return fixed


_SAME = {
    "Equalize": ("equalize", _none),
    "Invert": ("levels", _invert),
    "Brightness": ("blend", _argument),
    "Cutout": ("cutout", _argument),
    "SolarizeAdd": ("levels", _solarize_add),
}
_GEOMETRY = {"ShearX": _shear_x, "ShearY": _shear_y, "TranslateX": _translate_x, "TranslateY": _translate_y}
# Semantics -> name -> kernel and what gives its parameters.
OPERATIONS: dict[str, dict[str, tuple[str, Callable[..., tf.Tensor]]]] = {
    "reference": {
        **_SAME,
        "AutoContrast": ("autocontrast", _none),
        "Posterize": ("levels", _reference_posterize),
        "Solarize": ("levels", _reference_solarize),
        "Color": ("color", _argument),
        "Contrast": ("blend", _reference_contrast),
        "Sharpness": ("sharpness", _argument),
        "Rotate": ("transform", _float_transform(_reference_rotate)),
        **{name: ("transform", _float_transform(coefficients)) for name, coefficients in _GEOMETRY.items()},
    },
    "pil": {
        **_SAME,
        "AutoContrast": ("pil_autocontrast", _none),
        "Posterize": ("levels", _pil_posterize),
        "Solarize": ("levels", _pil_solarize),
        "Color": ("pil_color", _argument),
        "Contrast": ("pil_contrast", _argument),
        "Sharpness": ("pil_sharpness", _argument),
        "Rotate": ("pil_transform", _fixed_transform(_pil_rotate)),
        **{name: ("pil_transform", _fixed_transform(coefficients)) for name, coefficients in _GEOMETRY.items()},
    },
}
