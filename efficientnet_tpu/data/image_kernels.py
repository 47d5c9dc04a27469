"""The kernels of the augmentation operations: one pass over the pixels each, compiled by XLA.

(image uint8 [height, width, 3] of static shape, parameters float64 [7], uniforms float32 [2]) -> uint8, same shape.
TensorFlow's own operations would make five to twenty passes; that augmentation is cheap is due to this. What the
parameters are, an operation of `image_ops` knows. The last is always 0 (see `_zero`).
"""

from collections.abc import Callable

import tensorflow as tf

GREY = 128
PARAMETERS = 7
CHANNEL_OFFSETS = (0, 256, 512)

Kernel = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def _compiled(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    return tf.function(function, jit_compile=True, autograph=False)


def _keep(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    return image


@_compiled
def _change_levels(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Posterize, SolarizeAdd, Solarize and Invert: mask, what to add below 128, where to invert from."""
    mask, added, threshold = tf.unstack(tf.cast(parameters[:3], tf.int32))
    levels = tf.bitwise.bitwise_and(tf.cast(image, tf.int32), mask)
    levels = tf.where(levels < 128, tf.minimum(levels + added, 255), levels)
    return tf.cast(tf.where(levels < threshold, levels, 255 - levels), tf.uint8)


@_compiled
def _blend_with_level(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Brightness, and Contrast where the level is known beforehand: factor, level."""
    factor, level = tf.unstack(tf.cast(parameters[:2], tf.float32))
    return _blend(level, image, factor, _zero(parameters))


@_compiled
def _pil_contrast(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    height, width = image.shape[:2]
    total = tf.reduce_sum(tf.cast(_pil_grey(image, _zero(parameters)), tf.int32))
    mean = (2 * total + height * width) // (2 * height * width)  # rounded; the compiler's own division is not exact
    return _blend(tf.cast(mean, tf.float32), image, tf.cast(parameters[0], tf.float32), _zero(parameters))


def _color(grey: Callable[..., tf.Tensor]) -> Kernel:
    """Blends with the grey image that `grey` makes."""

    @_compiled
    def color(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
        zero = _zero(parameters)
        return _blend(grey(image, zero), image, tf.cast(parameters[0], tf.float32), zero)

    return color


def _blend(start: tf.Tensor, image: tf.Tensor, factor: tf.Tensor, zero: tf.Tensor) -> tf.Tensor:
    """Between `start` (factor 0) and `image` (1), and beyond; decimals are cut off. start: float32, whole numbers."""
    change = _rounded(factor * (tf.cast(image, tf.float32) - start), zero)
    return tf.cast(tf.clip_by_value(start + change, 0.0, 255.0), tf.uint8)


def _rounded(product: tf.Tensor, zero: tf.Tensor) -> tf.Tensor:
    """Keeps the compiler from adding to the product before it is rounded to its type (a fused multiply-add). The
    originals round, and in the end decimals are cut off, where the last bit decides. zero: see `_zero`.
    """
    bits = tf.int32 if product.dtype == tf.float32 else tf.int64
    return tf.bitcast(tf.bitwise.bitwise_xor(tf.bitcast(product, bits), tf.cast(zero, bits)), product.dtype)


def _zero(parameters: tf.Tensor) -> tf.Tensor:
    """int32 0, of which the compiler does not know that it is."""
    return tf.cast(parameters[-1], tf.int32)


def _reference_grey(image: tf.Tensor, zero: tf.Tensor) -> tf.Tensor:
    """tf.image.rgb_to_grayscale of uint8: to 0..1, weighted, times 255.5. float32 [height, width, 1], whole numbers."""
    red, green, blue = tf.unstack(tf.cast(image, tf.float32) * (1 / 255), axis=-1)
    grey = _rounded(red * 0.2989, zero) + _rounded(green * 0.5870, zero) + _rounded(blue * 0.1140, zero)
    return tf.floor(grey * 255.5)[..., tf.newaxis]


def _pil_grey(image: tf.Tensor, zero: tf.Tensor) -> tf.Tensor:
    """float32 [height, width, 1], whole numbers."""
    red, green, blue = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    grey = tf.bitwise.right_shift(19595 * red + 38470 * green + 7471 * blue + 32768, 16)
    return tf.cast(grey, tf.float32)[..., tf.newaxis]


def _by_table(table_of: Callable[[tf.Tensor], tf.Tensor]) -> Kernel:
    """Looks levels up in the table that `table_of` makes of their histogram (int32 -> uint8, both [3, 256]).

    Two passes, so that the table is not computed again for every pixel.
    """
    table_pass = _compiled(lambda image: table_of(_histogram(image)))

    def by_table(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
        return _look_up(image, table_pass(image))

    return by_table


def _histogram(image: tf.Tensor) -> tf.Tensor:
    """int32 [3, 256]: how often each level occurs in each channel."""
    ones, positions = tf.ones(image.shape, tf.int32), tf.cast(image, tf.int32) + CHANNEL_OFFSETS
    return tf.reshape(tf.math.unsorted_segment_sum(ones, positions, num_segments=768), [3, 256])


@_compiled
def _look_up(image: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.reshape(table, [-1]), tf.cast(image, tf.int32) + CHANNEL_OFFSETS)


def _stretch_table(dtype: tf.DType) -> Callable[[tf.Tensor], tf.Tensor]:
    """The lowest level of a channel goes to 0, the highest to 255; computed in `dtype`."""

    def table(histogram: tf.Tensor) -> tf.Tensor:
        present, levels = histogram > 0, tf.range(256)
        low = tf.cast(tf.reduce_min(tf.where(present, levels, 255), axis=1, keepdims=True), dtype)
        high = tf.cast(tf.reduce_max(tf.where(present, levels, 0), axis=1, keepdims=True), dtype)
        scale = 255 / (high - low)
        levels = tf.cast(levels, dtype)
        # The zero: what the compiler does not know. A count is never negative.
        zero = tf.cast(tf.reduce_min(histogram) < 0, tf.int32)
        stretched = _rounded(levels * scale, zero) + _rounded(-low * scale, zero)
        # A channel of one level has no scale.
        return tf.cast(tf.where(high > low, tf.clip_by_value(stretched, 0, 255), levels), tf.uint8)

    return table


def _equalize_table(histogram: tf.Tensor) -> tf.Tensor:
    levels = tf.range(256)
    last = tf.reduce_max(tf.where(histogram > 0, levels, 0), axis=1, keepdims=True)
    others = tf.reduce_sum(tf.where(levels < last, histogram, 0), axis=1, keepdims=True)
    step = others // 255
    before = tf.cumsum(histogram, axis=1, exclusive=True)
    table = tf.minimum((before + step // 2) // tf.maximum(step, 1), 255)
    return tf.cast(tf.where(step == 0, levels, table), tf.uint8)


@_compiled
def _reference_sharpness(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Of the mean of 3 x 3 with weight 5 in the centre: nine products, each rounded, added row by row.

    So does TensorFlow's convolution on processors on which it does not fuse them; on others, the last bit differs.
    """
    height, width = image.shape[:2]
    zero, levels = _zero(parameters), tf.cast(image, tf.float32)
    blurred = tf.zeros([height - 2, width - 2, 3])
    for row in range(3):
        for column in range(3):
            weight = (5 if row == column == 1 else 1) / 13
            blurred += _rounded(weight * levels[row : height - 2 + row, column : width - 2 + column], zero)
    return _sharpen(image, blurred, parameters)


@_compiled
def _pil_sharpness(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Of the mean of 3 x 3 with weight 5 in the centre, rounded."""
    height, width = image.shape[:2]
    levels = tf.cast(image, tf.int32)
    total = 4 * levels[1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total += levels[row : height - 2 + row, column : width - 2 + column]
    return _sharpen(image, tf.cast((2 * total + 13) // 26, tf.float32), parameters)


@_compiled
def _sharpen(image: tf.Tensor, blurred: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """blurred: float32 [height - 2, width - 2, 3]. The border, which has none, stays as it is."""
    start, factor = tf.floor(tf.clip_by_value(blurred, 0.0, 255.0)), tf.cast(parameters[0], tf.float32)
    inside = _blend(start, image[1:-1, 1:-1], factor, _zero(parameters))
    middle = tf.concat([image[1:-1, :1], inside, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], middle, image[-1:]], axis=0)


def _transform(positions: Callable[[tf.Tensor, int, int], tf.Tensor]) -> Kernel:
    """Takes pixels from where `positions` says. Two passes: in one, they would be computed for each channel again."""
    positions_pass = tf.function(positions, jit_compile=True, autograph=False)

    def transform(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
        return _take(image, positions_pass(parameters, *image.shape[:2]))

    return transform


def _reference_positions(parameters: tf.Tensor, height: int, width: int) -> tf.Tensor:
    zero, (a0, a1, a2, b0, b1, b2) = _zero(parameters), tf.unstack(tf.cast(parameters[:6], tf.float32))
    x, y = tf.range(float(width)), tf.range(float(height))[:, tf.newaxis]
    columns = _rounded(a0 * x, zero) + _rounded(a1 * y, zero) + a2
    rows = _rounded(b0 * x, zero) + _rounded(b1 * y, zero) + b2
    return _positions(_round_half_away(rows), _round_half_away(columns), height, width)


def _round_half_away(values: tf.Tensor) -> tf.Tensor:
    """C's round(), as int32."""
    whole = tf.cast(values, tf.int32)
    rest = values - tf.cast(whole, tf.float32)
    return whole + tf.cast(rest >= 0.5, tf.int32) - tf.cast(rest <= -0.5, tf.int32)


def _pil_positions(parameters: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """From coefficients in 16.16 fixed point."""
    a0, a1, a2, b0, b1, b2 = tf.unstack(tf.cast(parameters[:6], tf.int32))
    x, y = tf.range(width), tf.range(height)[:, tf.newaxis]
    rows, columns = b0 * x + b1 * y + b2, a0 * x + a1 * y + a2
    return _positions(tf.bitwise.right_shift(rows, 16), tf.bitwise.right_shift(columns, 16), height, width)


def _positions(rows: tf.Tensor, columns: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """int32 [height, width]: number of the pixel at these rows and columns; -1 outside of the image."""
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    return tf.where(inside, rows * width + columns, -1)


@_compiled
def _take(image: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """The pixels of these numbers, grey for -1."""
    height, width = image.shape[:2]
    # Rows of all channels' values, over which the compiler's loop runs on.
    values = tf.reshape(tf.maximum(positions, 0)[..., tf.newaxis] * 3 + [0, 1, 2], [height, width * 3])
    taken = tf.reshape(tf.gather(tf.reshape(image, [-1]), values), image.shape)
    return tf.where((positions >= 0)[..., tf.newaxis], taken, tf.constant(GREY, tf.uint8))


@_compiled
def _cutout(image: tf.Tensor, parameters: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """A grey square around a point of the image, cut off at the borders."""
    height, width = image.shape[:2]
    half_side = tf.cast(parameters[0], tf.int32)
    centre = tf.cast(uniforms * [float(height), float(width)], tf.int32)
    below, right = tf.range(height) - centre[0], tf.range(width) - centre[1]
    inside_rows, inside_columns = (
        (below >= -half_side) & (below < half_side),
        (right >= -half_side) & (right < half_side),
    )
    inside = inside_rows[:, tf.newaxis] & inside_columns
    return tf.where(inside[..., tf.newaxis], tf.constant(GREY, tf.uint8), image)


KERNELS: dict[str, Kernel] = {
    "keep": _keep,
    "levels": _change_levels,
    "blend": _blend_with_level,
    "pil_contrast": _pil_contrast,
    "autocontrast": _by_table(_stretch_table(tf.float32)),
    "pil_autocontrast": _by_table(_stretch_table(tf.float64)),
    "equalize": _by_table(_equalize_table),
    "color": _color(_reference_grey),
    "pil_color": _color(_pil_grey),
    "sharpness": _reference_sharpness,
    "pil_sharpness": _pil_sharpness,
    "transform": _transform(_reference_positions),
    "pil_transform": _transform(_pil_positions),
    "cutout": _cutout,
}
