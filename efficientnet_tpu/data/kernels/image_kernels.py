"""The kernels of the augmentation operations, compiled by numba: one or two passes over the pixels each.

TensorFlow's own operations make five to twenty passes. A kernel writes `out` from `image`, both uint8 [height, width,
3]; parameters: float64 [NUM_PARAMETERS], of which each docstring lists the first ones. `tf_kernels` holds the same
kernels in TensorFlow's operations.

Every product is rounded before anything is added to it, as in the originals: decimals are truncated in the end, so that
the last bit decides.
"""

import numpy as np

from efficientnet_tpu.data.kernels.numba_compile import Kernel, compiled, kernel

_GRAY = 128
_float32, _int32, _uint8 = np.float32, np.int32, np.uint8


@compiled
def _rows(image):
    """Returns the image's levels row by row: uint8 [height, 3 * width]."""
    return image.reshape(image.shape[0], 3 * image.shape[1])


@compiled
def _copy(image, out):
    source, target = image.reshape(image.size), out.reshape(out.size)
    for i in range(source.size):
        target[i] = source[i]


# ---- Level by level


@kernel
def levels(image, out, parameters):
    """Posterizes, then adds below 128, then inverts: mask of bits, addition, first level that is inverted."""
    mask, added, threshold = int(parameters[0]), int(parameters[1]), int(parameters[2])
    table = np.empty(256, np.uint8)
    for level in range(256):
        changed = level & mask
        if changed < 128:
            changed = min(changed + added, 255)
        table[level] = changed if changed < threshold else 255 - changed
    source, target = image.reshape(image.size), out.reshape(out.size)
    for i in range(source.size):
        target[i] = table[source[i]]


@compiled
def _blended(start, level, factor):
    """Blends from `start` (factor 0) to `level` (1) and beyond, truncated: float32 -> uint8."""
    value = start + factor * (level - start)
    return _uint8(_int32(min(max(value, _float32(0)), _float32(255))))


@compiled
def _blend_all(image, out, start, factor):
    source, target = image.reshape(image.size), out.reshape(out.size)
    for i in range(source.size):
        target[i] = _blended(start, _float32(source[i]), factor)


@kernel
def blend(image, out, parameters):
    """Blends with one level, for Brightness and the reference's Contrast: factor, level."""
    _blend_all(image, out, _float32(parameters[1]), _float32(parameters[0]))


@compiled
def _pil_gray(red, green, blue):
    return (19595 * _int32(red) + 38470 * _int32(green) + 7471 * _int32(blue) + 32768) >> 16


@kernel
def pil_contrast(image, out, parameters):
    """Blends with the rounded mean of the gray levels: factor."""
    source = image.reshape(image.size)
    total, num_pixels = 0, image.shape[0] * image.shape[1]
    for x in range(num_pixels):
        total += _pil_gray(source[3 * x], source[3 * x + 1], source[3 * x + 2])
    mean = (2 * total + num_pixels) // (2 * num_pixels)
    _blend_all(image, out, _float32(mean), _float32(parameters[0]))


@compiled
def _blend_with_row(row, start, factor, out):
    for i in range(row.size):
        out[i] = _blended(start[i], _float32(row[i]), factor)


@kernel
def color(image, out, parameters):
    """Blends with the gray image of tf.image.rgb_to_grayscale: factor.

    For uint8, TensorFlow scales to 0..1, weights the channels, and multiplies by 255.5.
    """
    rows, out_rows = _rows(image), _rows(out)
    gray, factor, unit = np.empty(rows.shape[1], np.float32), _float32(parameters[0]), _float32(1 / 255)
    for y in range(image.shape[0]):
        row = rows[y]
        for x in range(image.shape[1]):
            red = _float32(row[3 * x]) * unit
            green = _float32(row[3 * x + 1]) * unit
            blue = _float32(row[3 * x + 2]) * unit
            weighted = red * _float32(0.2989) + green * _float32(0.5870) + blue * _float32(0.1140)
            gray[3 * x] = gray[3 * x + 1] = gray[3 * x + 2] = _float32(_int32(weighted * _float32(255.5)))
        _blend_with_row(row, gray, factor, out_rows[y])


@kernel
def pil_color(image, out, parameters):
    """Blends with Pillow's gray image: factor."""
    rows, out_rows = _rows(image), _rows(out)
    gray, factor = np.empty(rows.shape[1], np.float32), _float32(parameters[0])
    for y in range(image.shape[0]):
        row = rows[y]
        for x in range(image.shape[1]):
            level = _float32(_pil_gray(row[3 * x], row[3 * x + 1], row[3 * x + 2]))
            gray[3 * x] = gray[3 * x + 1] = gray[3 * x + 2] = level
        _blend_with_row(row, gray, factor, out_rows[y])


# ---- By the histogram


@compiled
def _histogram(image):
    """Counts each level of each channel: int64 [3, 256]."""
    height, width, _ = image.shape
    # Two tables in turn: a processor waits before it reads a count that it has just written.
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
    """Replaces every level by the entry in its channel's table. tables: uint8 [3, 256]."""
    height, width, _ = image.shape
    red, green, blue = tables[0], tables[1], tables[2]
    for y in range(height):
        for x in range(width):
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = red[image[y, x, 0]], green[image[y, x, 1]], blue[image[y, x, 2]]


@compiled
def _extremes(counts):
    """Returns the lowest and the highest level that occurs. counts: int64 [256]."""
    low, high = 0, 255
    while counts[low] == 0:
        low += 1
    while counts[high] == 0:
        high -= 1
    return low, high


@compiled
def _stretch(image, out, number):
    """Moves the lowest level of a channel to 0 and the highest to 255, computed in the type `number`."""
    histogram, tables = _histogram(image), np.empty((3, 256), np.uint8)
    for channel in range(3):
        low, high = _extremes(histogram[channel])
        # A channel of one level has no scale and stays as it is.
        scale = number(255) / number(high - low) if high > low else number(1)
        offset = number(-low) * scale if high > low else number(0)
        for level in range(256):
            stretched = number(level) * scale + offset
            tables[channel, level] = _uint8(_int32(min(max(stretched, number(0)), number(255))))
    _look_up(image, tables, out)


@kernel
def autocontrast(image, out, parameters):
    """Stretches each channel, in float32."""
    _stretch(image, out, np.float32)


@kernel
def pil_autocontrast(image, out, parameters):
    """Stretches each channel, in float64."""
    _stretch(image, out, np.float64)


@kernel
def equalize(image, out, parameters):
    """Makes the levels of each channel equally frequent, as far as moving whole levels can."""
    histogram, tables = _histogram(image), np.empty((3, 256), np.uint8)
    for channel in range(3):
        counts = histogram[channel]
        step = (image.shape[0] * image.shape[1] - counts[_extremes(counts)[1]]) // 255
        before = 0
        for level in range(256):
            tables[channel, level] = min((before + step // 2) // step, 255) if step > 0 else level
            before += counts[level]
    _look_up(image, tables, out)


# ---- From neighbors


@compiled
def _neighbors(row):
    """Returns the row's left, middle and right as slices: an index that could be negative prevents vectorization."""
    return row[:-6], row[3:-3], row[6:]


@kernel
def sharpness(image, out, parameters):
    """Blends with the mean of 3 x 3 pixels with weight 5 in the center; the border stays as it is: factor.

    Adds nine products row by row, each rounded. So does TensorFlow's convolution on processors on which it does not
    fuse them; on others, the last bit differs.
    """
    _copy(image, out)
    rows, out_rows = _rows(image), _rows(out)
    factor, weight, center_weight = _float32(parameters[0]), _float32(1 / 13), _float32(5 / 13)
    for y in range(1, image.shape[0] - 1):
        above, row, below, sharpened = rows[y - 1], rows[y], rows[y + 1], out_rows[y, 3:-3]
        (a0, a1, a2), (b0, b1, b2), (c0, c1, c2) = _neighbors(above), _neighbors(row), _neighbors(below)
        for i in range(sharpened.size):
            mean = weight * _float32(a0[i]) + weight * _float32(a1[i]) + weight * _float32(a2[i])
            mean = mean + weight * _float32(b0[i]) + center_weight * _float32(b1[i]) + weight * _float32(b2[i])
            mean = mean + weight * _float32(c0[i]) + weight * _float32(c1[i]) + weight * _float32(c2[i])
            start = _float32(_int32(min(max(mean, _float32(0)), _float32(255))))
            sharpened[i] = _blended(start, _float32(b1[i]), factor)


@kernel
def pil_sharpness(image, out, parameters):
    """Blends with the same mean, rounded to a whole level: factor."""
    _copy(image, out)
    rows, out_rows = _rows(image), _rows(out)
    factor = _float32(parameters[0])
    for y in range(1, image.shape[0] - 1):
        above, row, below, sharpened = rows[y - 1], rows[y], rows[y + 1], out_rows[y, 3:-3]
        (a0, a1, a2), (b0, b1, b2), (c0, c1, c2) = _neighbors(above), _neighbors(row), _neighbors(below)
        for i in range(sharpened.size):
            total = _int32(a0[i]) + a1[i] + a2[i] + b0[i] + 5 * _int32(b1[i]) + b2[i] + c0[i] + c1[i] + c2[i]
            sharpened[i] = _blended(_float32((2 * total + 13) // 26), _float32(b1[i]), factor)


# ---- From other places


@compiled
def _take(image, rows, columns, out):
    """Writes a row of the pixels at these places, int32 [width] each; gray outside of the image."""
    height, width, _ = image.shape
    for x in range(width):
        row, column = rows[x], columns[x]
        if 0 <= row < height and 0 <= column < width:
            out[x, 0], out[x, 1], out[x, 2] = image[row, column, 0], image[row, column, 1], image[row, column, 2]
        else:
            out[x, 0] = out[x, 1] = out[x, 2] = _GRAY


@compiled
def _rounded(value):
    """Rounds half away from zero, as C's round(): float32 -> int32."""
    whole = _int32(value)
    rest = value - _float32(whole)
    return _int32(whole + _int32(rest >= _float32(0.5)) - _int32(rest <= _float32(-0.5)))


@kernel
def transform(image, out, parameters):
    """Takes a pixel from column a0 x + a1 y + a2 and row b0 x + b1 y + b2: a0, a1, a2, b0, b1, b2."""
    height, width, _ = image.shape
    a0, a1, a2 = _float32(parameters[0]), _float32(parameters[1]), _float32(parameters[2])
    b0, b1, b2 = _float32(parameters[3]), _float32(parameters[4]), _float32(parameters[5])
    rows, columns = np.empty(width, np.int32), np.empty(width, np.int32)
    for y in range(height):
        for x in range(width):
            columns[x] = _rounded(a0 * _float32(x) + a1 * _float32(y) + a2)
            rows[x] = _rounded(b0 * _float32(x) + b1 * _float32(y) + b2)
        _take(image, rows, columns, out[y])


@kernel
def pil_transform(image, out, parameters):
    """Takes pixels from the places that `transform` describes, in Pillow's 16.16 fixed point."""
    height, width, _ = image.shape
    a0, a1, a2 = int(parameters[0]), int(parameters[1]), int(parameters[2])
    b0, b1, b2 = int(parameters[3]), int(parameters[4]), int(parameters[5])
    rows, columns = np.empty(width, np.int32), np.empty(width, np.int32)
    for y in range(height):
        for x in range(width):
            columns[x] = (a0 * x + a1 * y + a2) >> 16
            rows[x] = (b0 * x + b1 * y + b2) >> 16
        _take(image, rows, columns, out[y])


@kernel
def cutout(image, out, parameters):
    """Draws a gray square around the drawn center, cut at the borders: half its side."""
    _copy(image, out)
    height, width, _ = image.shape
    half_side = int(parameters[0])
    row, column = int(_float32(parameters[-2]) * _float32(height)), int(_float32(parameters[-1]) * _float32(width))
    for y in range(max(row - half_side, 0), min(row + half_side, height)):
        for x in range(max(column - half_side, 0), min(column + half_side, width)):
            out[y, x, 0] = out[y, x, 1] = out[y, x, 2] = _GRAY


KERNELS: dict[str, Kernel] = {
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
