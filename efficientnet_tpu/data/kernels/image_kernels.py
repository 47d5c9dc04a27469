"""The kernels of the augmentation operations: a pass or two over the pixels each, compiled by numba.

TensorFlow's own operations would make five to twenty passes; that augmentation is cheap is due to this. A kernel is
a function of C: addresses of an image uint8 [height, width, 3] and of the one to be written, height, width, and the
address of its numbers, float64 [NUMBERS]: parameters, which an operation of `image_ops` knows, and what an image draws.

Every product is rounded before anything is added to it, as in the originals: decimals are cut off in the end, and the
last bit decides.
"""

from collections.abc import Callable

import numpy as np
from numba import carray

from efficientnet_tpu.data.kernels.numba_compile import compiled, pointer

GREY = 128
PARAMETERS = 6
UNIFORMS = 2  # float32 in [0, 1): the centre of Cutout as a share of height and width
NUMBERS = PARAMETERS + UNIFORMS

_float32, _int32, _uint8 = np.float32, np.int32, np.uint8


@compiled
def _images(image_at, out_at, height, width):
    """uint8 [height, width, 3], both."""
    shape = (height, width, 3)
    return carray(pointer(image_at), shape, np.uint8), carray(pointer(out_at), shape, np.uint8)


@compiled
def _rows(image_at, out_at, height, width):
    """uint8 [height, 3 * width], both."""
    shape = (height, 3 * width)
    return carray(pointer(image_at), shape, np.uint8), carray(pointer(out_at), shape, np.uint8)


@compiled
def _numbers(at):
    return carray(pointer(at), (NUMBERS,), np.float64)


@compiled
def _copy(image_at, out_at, height, width):
    source, target = (
        carray(pointer(image_at), 3 * height * width, np.uint8),
        carray(pointer(out_at), 3 * height * width, np.uint8),
    )
    for i in range(source.size):
        target[i] = source[i]


# ---- Level by level


def _change_levels(image_at, out_at, height, width, numbers_at):
    """Posterize, SolarizeAdd, Solarize and Invert: mask, what to add below 128, where to invert from."""
    numbers = _numbers(numbers_at)
    mask, added, threshold = int(numbers[0]), int(numbers[1]), int(numbers[2])
    table = np.empty(256, np.uint8)
    for level in range(256):
        changed = level & mask
        if changed < 128:
            changed = min(changed + added, 255)
        table[level] = changed if changed < threshold else 255 - changed
    rows, out = _rows(image_at, out_at, 1, height * width)
    for i in range(rows.size):
        out[0, i] = table[rows[0, i]]


@compiled
def _blended(start, level, factor):
    """Between `start` (factor 0) and `level` (1), and beyond; decimals are cut off. float32 -> uint8."""
    value = start + factor * (level - start)
    return _uint8(_int32(min(max(value, _float32(0)), _float32(255))))


@compiled
def _blend_all(image_at, out_at, height, width, start, factor):
    rows, out = _rows(image_at, out_at, 1, height * width)
    for i in range(rows.size):
        out[0, i] = _blended(start, _float32(rows[0, i]), factor)


def _blend_with_level(image_at, out_at, height, width, numbers_at):
    """Brightness, and Contrast where the level is known beforehand: factor, level."""
    numbers = _numbers(numbers_at)
    _blend_all(image_at, out_at, height, width, _float32(numbers[1]), _float32(numbers[0]))


@compiled
def _pil_grey(red, green, blue):
    return (19595 * _int32(red) + 38470 * _int32(green) + 7471 * _int32(blue) + 32768) >> 16


def _pil_contrast(image_at, out_at, height, width, numbers_at):
    """Blends with the mean grey level, rounded: factor."""
    rows, _ = _rows(image_at, out_at, 1, height * width)
    total, num_pixels = 0, height * width
    for x in range(num_pixels):
        total += _pil_grey(rows[0, 3 * x], rows[0, 3 * x + 1], rows[0, 3 * x + 2])
    mean = (2 * total + num_pixels) // (2 * num_pixels)
    _blend_all(image_at, out_at, height, width, _float32(mean), _float32(_numbers(numbers_at)[0]))


@compiled
def _blend_with_row(row, start, factor, out):
    """start: float32, as long as the row."""
    for i in range(row.size):
        out[i] = _blended(start[i], _float32(row[i]), factor)


def _reference_color(image_at, out_at, height, width, numbers_at):
    """Blends with tf.image.rgb_to_grayscale of uint8, which is to 0..1, weighted, times 255.5: factor."""
    rows, out = _rows(image_at, out_at, height, width)
    grey, factor, unit = np.empty(3 * width, np.float32), _float32(_numbers(numbers_at)[0]), _float32(1 / 255)
    for y in range(height):
        row = rows[y]
        for x in range(width):
            red = _float32(row[3 * x]) * unit
            green = _float32(row[3 * x + 1]) * unit
            blue = _float32(row[3 * x + 2]) * unit
            weighted = red * _float32(0.2989) + green * _float32(0.5870) + blue * _float32(0.1140)
            grey[3 * x] = grey[3 * x + 1] = grey[3 * x + 2] = _float32(_int32(weighted * _float32(255.5)))
        _blend_with_row(row, grey, factor, out[y])


def _pil_color(image_at, out_at, height, width, numbers_at):
    """Blends with the grey image: factor."""
    rows, out = _rows(image_at, out_at, height, width)
    grey, factor = np.empty(3 * width, np.float32), _float32(_numbers(numbers_at)[0])
    for y in range(height):
        row = rows[y]
        for x in range(width):
            level = _float32(_pil_grey(row[3 * x], row[3 * x + 1], row[3 * x + 2]))
            grey[3 * x] = grey[3 * x + 1] = grey[3 * x + 2] = level
        _blend_with_row(row, grey, factor, out[y])


# ---- By the histogram


@compiled
def _histogram(image):
    """int64 [3, 256]: how often each level occurs in each channel."""
    height, width, _ = image.shape
    # Two counts in turn, since one that was just written is waited for.
    even, odd = np.zeros((3, 256), np.int64), np.zeros((3, 256), np.int64)
    for y in range(height):
        for x in range(0, width - 1, 2):
            for channel in range(3):
                even[channel, image[y, x, channel]] += 1
                odd[channel, image[y, x + 1, channel]] += 1
        if width % 2:
            for channel in range(3):
                even[channel, image[y, width - 1, channel]] += 1
    return even + odd


@compiled
def _look_up(image, tables, out):
    """Every level in the table of its channel, uint8 [3, 256]."""
    height, width, _ = image.shape
    red, green, blue = tables[0], tables[1], tables[2]
    for y in range(height):
        for x in range(width):
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = red[image[y, x, 0]], green[image[y, x, 1]], blue[image[y, x, 2]]


@compiled
def _extremes(counts):
    """The lowest and the highest level that occurs."""
    low, high = 0, 255
    while counts[low] == 0:
        low += 1
    while counts[high] == 0:
        high -= 1
    return low, high


@compiled
def _stretch(image, out, number):
    """The lowest level of a channel goes to 0, the highest to 255; computed in the type `number`."""
    histogram, tables = _histogram(image), np.empty((3, 256), np.uint8)
    for channel in range(3):
        low, high = _extremes(histogram[channel])
        # A channel of one level has no scale, and stays as it is.
        scale = number(255) / number(high - low) if high > low else number(1)
        offset = number(-low) * scale if high > low else number(0)
        for level in range(256):
            stretched = number(level) * scale + offset
            tables[channel, level] = _uint8(_int32(min(max(stretched, number(0)), number(255))))
    _look_up(image, tables, out)


def _reference_autocontrast(image_at, out_at, height, width, numbers_at):
    image, out = _images(image_at, out_at, height, width)
    _stretch(image, out, np.float32)


def _pil_autocontrast(image_at, out_at, height, width, numbers_at):
    image, out = _images(image_at, out_at, height, width)
    _stretch(image, out, np.float64)


def _equalize(image_at, out_at, height, width, numbers_at):
    """Every level as frequent as any other, as far as levels can be moved whole."""
    image, out = _images(image_at, out_at, height, width)
    histogram, tables = _histogram(image), np.empty((3, 256), np.uint8)
    for channel in range(3):
        counts = histogram[channel]
        step = (height * width - counts[_extremes(counts)[1]]) // 255
        before = 0
        for level in range(256):
            tables[channel, level] = min((before + step // 2) // step, 255) if step > 0 else level
            before += counts[level]
    _look_up(image, tables, out)


# ---- From neighbours


@compiled
def _neighbours(row):
    """Left, middle and right: slices, since an index that could be negative hinders the compiler."""
    return row[:-6], row[3:-3], row[6:]


def _reference_sharpness(image_at, out_at, height, width, numbers_at):
    """Blends with the mean of 3 x 3 with weight 5 in the centre; the border stays as it is: factor.

    Nine products, each rounded, added row by row. So does TensorFlow's convolution on processors on which it does not
    fuse them; on others, the last bit differs.
    """
    _copy(image_at, out_at, height, width)
    rows, out = _rows(image_at, out_at, height, width)
    factor, weight, centre_weight = _float32(_numbers(numbers_at)[0]), _float32(1 / 13), _float32(5 / 13)
    for y in range(1, height - 1):
        above, row, below, sharpened = rows[y - 1], rows[y], rows[y + 1], out[y, 3:-3]
        (a0, a1, a2), (b0, b1, b2), (c0, c1, c2) = _neighbours(above), _neighbours(row), _neighbours(below)
        for i in range(sharpened.size):
            mean = weight * _float32(a0[i]) + weight * _float32(a1[i]) + weight * _float32(a2[i])
            mean = mean + weight * _float32(b0[i]) + centre_weight * _float32(b1[i]) + weight * _float32(b2[i])
            mean = mean + weight * _float32(c0[i]) + weight * _float32(c1[i]) + weight * _float32(c2[i])
            start = _float32(_int32(min(max(mean, _float32(0)), _float32(255))))
            sharpened[i] = _blended(start, _float32(b1[i]), factor)


def _pil_sharpness(image_at, out_at, height, width, numbers_at):
    """The same of the mean rounded."""
    _copy(image_at, out_at, height, width)
    rows, out = _rows(image_at, out_at, height, width)
    factor = _float32(_numbers(numbers_at)[0])
    for y in range(1, height - 1):
        above, row, below, sharpened = rows[y - 1], rows[y], rows[y + 1], out[y, 3:-3]
        (a0, a1, a2), (b0, b1, b2), (c0, c1, c2) = _neighbours(above), _neighbours(row), _neighbours(below)
        for i in range(sharpened.size):
            total = _int32(a0[i]) + a1[i] + a2[i] + b0[i] + 5 * _int32(b1[i]) + b2[i] + c0[i] + c1[i] + c2[i]
            sharpened[i] = _blended(_float32((2 * total + 13) // 26), _float32(b1[i]), factor)


# ---- From elsewhere


@compiled
def _take(image, rows, columns, out):
    """A row of the pixels at these places, int32 [width] each; grey outside of the image."""
    height, width, _ = image.shape
    for x in range(width):
        row, column = rows[x], columns[x]
        if 0 <= row < height and 0 <= column < width:
            out[x, 0], out[x, 1], out[x, 2] = image[row, column, 0], image[row, column, 1], image[row, column, 2]
        else:
            out[x, 0] = out[x, 1] = out[x, 2] = GREY


@compiled
def _rounded(value):
    """C's round(), half away from zero. float32 -> int32."""
    whole = _int32(value)
    rest = value - _float32(whole)
    return _int32(whole + _int32(rest >= _float32(0.5)) - _int32(rest <= _float32(-0.5)))


def _reference_transform(image_at, out_at, height, width, numbers_at):
    """Takes a pixel from column a0 x + a1 y + a2 and row b0 x + b1 y + b2: a0, a1, a2, b0, b1, b2."""
    image, out = _images(image_at, out_at, height, width)
    numbers = _numbers(numbers_at)
    a0, a1, a2 = _float32(numbers[0]), _float32(numbers[1]), _float32(numbers[2])
    b0, b1, b2 = _float32(numbers[3]), _float32(numbers[4]), _float32(numbers[5])
    rows, columns = np.empty(width, np.int32), np.empty(width, np.int32)
    for y in range(height):
        for x in range(width):
            columns[x] = _rounded(a0 * _float32(x) + a1 * _float32(y) + a2)
            rows[x] = _rounded(b0 * _float32(x) + b1 * _float32(y) + b2)
        _take(image, rows, columns, out[y])


def _pil_transform(image_at, out_at, height, width, numbers_at):
    """The same in 16.16 fixed point."""
    image, out = _images(image_at, out_at, height, width)
    numbers = _numbers(numbers_at)
    a0, a1, a2 = int(numbers[0]), int(numbers[1]), int(numbers[2])
    b0, b1, b2 = int(numbers[3]), int(numbers[4]), int(numbers[5])
    rows, columns = np.empty(width, np.int32), np.empty(width, np.int32)
    for y in range(height):
        for x in range(width):
            columns[x] = (a0 * x + a1 * y + a2) >> 16
            rows[x] = (b0 * x + b1 * y + b2) >> 16
        _take(image, rows, columns, out[y])


def _cutout(image_at, out_at, height, width, numbers_at):
    """A grey square around the drawn point, cut off at the borders: half its side."""
    _copy(image_at, out_at, height, width)
    _, out = _images(image_at, out_at, height, width)
    numbers = _numbers(numbers_at)
    half_side = int(numbers[0])
    row = int(_float32(numbers[PARAMETERS]) * _float32(height))
    column = int(_float32(numbers[PARAMETERS + 1]) * _float32(width))
    for y in range(max(row - half_side, 0), min(row + half_side, height)):
        for x in range(max(column - half_side, 0), min(column + half_side, width)):
            out[y, x, 0] = out[y, x, 1] = out[y, x, 2] = GREY


KERNELS: dict[str, Callable] = {
    "levels": _change_levels,
    "blend": _blend_with_level,
    "pil_contrast": _pil_contrast,
    "autocontrast": _reference_autocontrast,
    "pil_autocontrast": _pil_autocontrast,
    "equalize": _equalize,
    "color": _reference_color,
    "pil_color": _pil_color,
    "sharpness": _reference_sharpness,
    "pil_sharpness": _pil_sharpness,
    "transform": _reference_transform,
    "pil_transform": _pil_transform,
    "cutout": _cutout,
}
