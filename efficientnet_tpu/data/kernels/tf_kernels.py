"""Preparation of images, and the kernels, by TensorFlow's own operations: to the bit what `prepare_image_op` returns.

Exported models and evaluation resize with them. Training uses the rest where `prepare_image_op` cannot be used: slower,
because every operation makes a pass over the pixels.

Grappler may reorder sums and move constant factors, which changes last bits. So products of pixels and constants come
from tables where the original rounds them, and the addends of a sum have equal shapes.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.kernels.kernel_calls import KERNEL_NAMES, NUM_PARAMETERS, KernelCalls

_GRAY = 128


def prepare_image(
    image: tf.Tensor,
    size: Sequence[int],
    mirrored: tf.Tensor,
    truncate: bool,
    calls: KernelCalls,
    interpolation: str = "bicubic",
) -> tf.Tensor:
    """Prepares an image as `prepare_image.prepare_image` does.

    image: uint8 [height, width, 3]; mirrored: bool scalar. Returns uint8 [*size, 3].
    """
    ordered = [KERNELS[name] for name in KERNEL_NAMES]  # as KERNEL_NUMBERS counts them
    prepared = resize(image, size, truncate, interpolation)
    prepared = tf.cond(mirrored, lambda: prepared[:, ::-1], lambda: prepared)
    for number, parameters in zip(tf.unstack(calls.kernels), tf.unstack(calls.parameters), strict=True):
        branches = [functools.partial(kernel, prepared, parameters) for kernel in (_no_op, *ordered)]
        prepared = tf.ensure_shape(tf.switch_case(number, branches), [*size, 3])
    return prepared


def resize(image: tf.Tensor, size: Sequence[int], truncate: bool = False, interpolation: str = "bicubic") -> tf.Tensor:
    """Resizes with a kernel of TensorFlow 1, with which the published weights were trained.

    image: uint8 [height, width, 3]; size: height and width of the result; truncate: whether decimals are truncated,
    instead of rounded to the nearest level; interpolation: one of INTERPOLATIONS. Returns uint8 [*size, 3]: overshoot
    is clipped to 0..255.
    """
    # Its first pixel lies on the image's first, not center on center as in TensorFlow 2.
    operation = {"bicubic": tf.raw_ops.ResizeBicubic, "bilinear": tf.raw_ops.ResizeBilinear}[interpolation]
    resized = operation(images=image[tf.newaxis], size=list(size), half_pixel_centers=False)[0]
    if truncate:
        levels = tf.cast(tf.clip_by_value(resized, 0, 255), tf.uint8)
    else:
        # Rounds, clips and converts in one pass over the pixels instead of three.
        quantized = tf.raw_ops.QuantizeV2(
            input=resized,
            min_range=0.0,
            max_range=255.0,
            T=tf.quint8,
            mode="MIN_COMBINED",
            round_mode="HALF_AWAY_FROM_ZERO",
        ).output
        levels = tf.bitcast(quantized, tf.uint8)
    return tf.ensure_shape(levels, [*size, 3])


# A kernel: (image uint8 [height, width, 3], parameters float64 [NUM_PARAMETERS]) -> uint8 [height, width, 3].
# Not inlined: tf.data visits every operation of a branch that is not taken.
_kernel = tf.function(
    input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([NUM_PARAMETERS], tf.float64)],
    autograph=False,
    experimental_attributes={"_noinline": True},
)


def _no_op(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    return image


def _look_up(image: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Replaces every level by the entry in its channel's table. tables: [3, 256], or [256] for all channels."""
    places = tf.cast(image, tf.int32)
    if tables.shape.rank == 2:
        places += [0, 256, 512]
    return tf.gather(tf.reshape(tables, [-1]), places)


def _to_levels(values: tf.Tensor) -> tf.Tensor:
    """Clips to 0..255 and truncates: float -> uint8 of the same shape."""
    return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)


def _blend(start: tf.Tensor, levels: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Blends from `start` (factor 0) to `levels` (1) and beyond: float32 of the same shape -> uint8."""
    return _to_levels(start + tf.cast(parameters[0], tf.float32) * (levels - start))


def _all_levels(kind: tf.DType) -> tf.Tensor:
    return tf.cast(tf.range(256), kind)


# ---- Level by level


@_kernel
def levels(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Posterizes, adds, and inverts: uint8 [height, width, 3] -> the same shape."""
    mask, added, threshold = tf.unstack(tf.cast(parameters[:3], tf.int32))
    changed = tf.bitwise.bitwise_and(tf.range(256), mask)
    changed = tf.where(changed < 128, tf.minimum(changed + added, 255), changed)
    return _look_up(image, tf.cast(tf.where(changed < threshold, changed, 255 - changed), tf.uint8))


@_kernel
def blend(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Blends with one level: uint8 [height, width, 3] -> the same shape."""
    start = tf.fill([256], tf.cast(parameters[1], tf.float32))
    return _look_up(image, _blend(start, _all_levels(tf.float32), parameters))


def _pil_gray(image: tf.Tensor) -> tf.Tensor:
    """Returns Pillow's gray levels, int32 [height, width, 1]."""
    weighted = tf.reduce_sum(tf.cast(image, tf.int32) * [19595, 38470, 7471], axis=-1, keepdims=True)
    return tf.bitwise.right_shift(weighted + 32768, 16)


@_kernel
def pil_contrast(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Blends with the mean gray level: uint8 [height, width, 3] -> the same shape."""
    num_pixels = tf.cast(tf.size(image) // 3, tf.int64)
    total = tf.reduce_sum(tf.cast(_pil_gray(image), tf.int64))
    mean = (2 * total + num_pixels) // (2 * num_pixels)
    start = tf.fill([256], tf.cast(mean, tf.float32))
    return _look_up(image, _blend(start, _all_levels(tf.float32), parameters))


@_kernel
def color(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Blends with TensorFlow's gray image: uint8 [height, width, 3] -> the same shape."""
    unit = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
    tables = np.stack([unit * np.float32(weight) for weight in (0.2989, 0.5870, 0.1140)])
    red, green, blue = tf.unstack(_look_up(image, tf.constant(tables)), axis=-1)
    gray = tf.floor((red + green + blue) * np.float32(255.5))[..., tf.newaxis]
    return _blend(tf.repeat(gray, 3, axis=-1), tf.cast(image, tf.float32), parameters)


@_kernel
def pil_color(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Blends with Pillow's gray image: uint8 [height, width, 3] -> the same shape."""
    gray = tf.cast(_pil_gray(image), tf.float32)
    return _blend(tf.repeat(gray, 3, axis=-1), tf.cast(image, tf.float32), parameters)


# ---- By the histogram


def _stretch(image: tf.Tensor, kind: tf.DType) -> tf.Tensor:
    """Moves the lowest level of a channel to 0 and the highest to 255, computed in float32 or float64."""
    low, high = (tf.cast(reduce(image, [0, 1]), tf.int32) for reduce in (tf.reduce_min, tf.reduce_max))
    is_flat = low == high
    scale = tf.where(is_flat, tf.ones([3], kind), tf.constant(255, kind) / tf.cast(high - low, kind))
    offset = tf.where(is_flat, tf.zeros([3], kind), tf.cast(-low, kind) * scale)
    stretched = _all_levels(kind) * scale[:, tf.newaxis] + tf.repeat(offset[:, tf.newaxis], 256, axis=1)
    return _look_up(image, _to_levels(stretched))


@_kernel
def autocontrast(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Stretches each channel in float32: uint8 [height, width, 3] -> the same shape."""
    return _stretch(image, tf.float32)


@_kernel
def pil_autocontrast(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Stretches each channel in float64: uint8 [height, width, 3] -> the same shape."""
    return _stretch(image, tf.float64)


@_kernel
def equalize(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Equalizes each channel's histogram: uint8 [height, width, 3] -> the same shape."""
    places = tf.reshape(tf.cast(image, tf.int32) + tf.constant([0, 256, 512]), [-1])
    counts = tf.reshape(tf.math.bincount(places, minlength=768, maxlength=768), [3, 256])
    highest = tf.cast(tf.reduce_max(image, [0, 1]), tf.int32)
    step = (tf.size(image) // 3 - tf.gather(counts, highest, batch_dims=1))[:, tf.newaxis] // 255
    before = tf.cumsum(counts, axis=1, exclusive=True)
    equalized = tf.minimum((before + step // 2) // tf.maximum(step, 1), 255)
    return _look_up(image, tf.cast(tf.where(step > 0, equalized, tf.range(256)), tf.uint8))


# ---- From neighbors


def _sharpen(image: tf.Tensor, mean: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Blends the inner pixels with `mean`, float32 [height - 2, width - 2, 3]; the border stays as it is."""
    sharpened = _blend(mean, tf.cast(image[1:-1, 1:-1], tf.float32), parameters)
    rows = tf.concat([image[1:-1, :1], sharpened, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], rows, image[-1:]], axis=0)


def _has_inner_pixels(image: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(tf.shape(image)[:2] > 2)


@_kernel
def sharpness(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Blends with the mean of 3 x 3: uint8 [height, width, 3] -> the same shape."""

    def sharpen() -> tf.Tensor:
        shape = tf.shape(image) - [2, 2, 0]
        levels = np.arange(256, dtype=np.float32)
        outer = _look_up(image, tf.constant(levels * np.float32(1 / 13)))
        inner = _look_up(image[1:-1, 1:-1], tf.constant(levels * np.float32(5 / 13)))
        total = None
        for row in range(3):
            for column in range(3):
                product = inner if row == column == 1 else tf.slice(outer, [row, column, 0], shape)
                total = product if total is None else total + product
        return _sharpen(image, tf.floor(tf.clip_by_value(total, 0, 255)), parameters)

    return tf.cond(_has_inner_pixels(image), sharpen, lambda: image)


@_kernel
def pil_sharpness(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Blends with the rounded mean of 3 x 3: uint8 [height, width, 3] -> the same shape."""

    def sharpen() -> tf.Tensor:
        levels = tf.cast(image, tf.int32)
        rows = levels[:-2] + levels[1:-1] + levels[2:]
        total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * levels[1:-1, 1:-1]
        return _sharpen(image, tf.cast((2 * total + 13) // 26, tf.float32), parameters)

    return tf.cond(_has_inner_pixels(image), sharpen, lambda: image)


# ---- From other places


def _grid(image: tf.Tensor, kind: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the x and the y of every pixel, [height, width] each."""
    height, width = tf.unstack(tf.shape(image)[:2])
    x, y = tf.meshgrid(tf.range(width), tf.range(height))
    return tf.cast(x, kind), tf.cast(y, kind)


def _take(image: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns the pixels at these places, int [height, width] each; gray outside of the image."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], rows.dtype))
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    pixels = tf.concat([tf.reshape(image, [-1, 3]), tf.fill([1, 3], tf.constant(_GRAY, tf.uint8))], axis=0)
    return tf.gather(pixels, tf.where(inside, rows * width + columns, height * width))


def _round_half_away(values: tf.Tensor) -> tf.Tensor:
    """Rounds as C's round() does: float32 -> int32."""
    whole = tf.cast(values, tf.int32)
    rest = values - tf.cast(whole, tf.float32)
    return whole + tf.cast(rest >= 0.5, tf.int32) - tf.cast(rest <= -0.5, tf.int32)


@_kernel
def transform(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Takes pixels from the places of a float32 transform: uint8 [height, width, 3] -> the same shape."""
    x, y = _grid(image, tf.float32)

    def places(a0: tf.Tensor, a1: tf.Tensor, a2: tf.Tensor) -> tf.Tensor:
        return _round_half_away(a0 * x + a1 * y + tf.fill(tf.shape(x), a2))

    a0, a1, a2, b0, b1, b2 = tf.unstack(tf.cast(parameters[:6], tf.float32))
    return _take(image, places(b0, b1, b2), places(a0, a1, a2))


@_kernel
def pil_transform(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Takes pixels from the places of a fixed-point transform: uint8 [height, width, 3] -> the same shape."""
    x, y = _grid(image, tf.int64)
    a0, a1, a2, b0, b1, b2 = tf.unstack(tf.cast(parameters[:6], tf.int64))
    columns, rows = (tf.bitwise.right_shift(total, 16) for total in (a0 * x + a1 * y + a2, b0 * x + b1 * y + b2))
    return _take(image, rows, columns)


@_kernel
def cutout(image: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Draws a gray square: uint8 [height, width, 3] -> the same shape."""
    height, width = tf.unstack(tf.shape(image)[:2])
    half_side = tf.cast(parameters[0], tf.int32)

    def between(uniform: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        center = tf.cast(tf.cast(uniform, tf.float32) * tf.cast(size, tf.float32), tf.int32)
        places = tf.range(size)
        return (places >= center - half_side) & (places < center + half_side)

    rows, columns = between(parameters[-2], height), between(parameters[-1], width)
    inside = rows[:, tf.newaxis, tf.newaxis] & columns[:, tf.newaxis]
    return tf.where(inside, tf.constant(_GRAY, tf.uint8), image)


KERNELS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "levels": levels,
    "blend": blend,
    "pil_contrast": pil_contrast,
    "autocontrast": autocontrast,
    "pil_autocontrast": pil_autocontrast,
    "equalize": equalize,
    "color": color,
    "pil_color": pil_color,
    "sharpness": sharpness,
    "pil_sharpness": pil_sharpness,
    "transform": transform,
    "pil_transform": pil_transform,
    "cutout": cutout,
}
