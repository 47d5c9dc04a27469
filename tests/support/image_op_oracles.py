"""The augmentation operations once more, slowly and literally: the readable definitions that `image_ops` names.

The functions reference_* do in NumPy, operation by operation in float32, what the reference implementation's TensorFlow
operations compute. The functions pil_* are Pillow itself. An oracle takes a uint8 image [height, width, 3], the
argument (see `operations.argument`, here with its sign) and two uniforms in [0, 1) that only Cutout reads. It returns a
new uint8 image.

Geometry has the same sense in both: a positive angle turns the content counterclockwise, a positive shear or
translation reads from further right or further down, so that content moves left or up.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

GRAY = 128


def apply(name, image, argument, semantics, uniforms=(0.5, 0.5)):
    """The oracle of an operation in 'reference' or 'pil'. The argument is rounded to float32, as TensorFlow gets it."""
    from efficientnet_tpu.data.augment.image_ops import IMAGE_OPS

    oracle = globals()[IMAGE_OPS[semantics][name].oracle]
    return oracle(image, float(np.float32(argument)), uniforms)


# ---- What both agree on by definition: Pillow has no SolarizeAdd and no Cutout of its own.


def solarize_add(image, addition, _):
    brighter = np.clip(image.astype(np.int64) + int(addition), 0, 255).astype(np.uint8)
    return np.where(image < 128, brighter, image)


def cutout(image, half_side, uniforms):
    """Gray square of side 2 x half_side, cut off at the image's borders."""
    height, width, _ = image.shape
    center_y, center_x = (int(np.float32(u) * np.float32(n)) for u, n in zip(uniforms, (height, width), strict=True))
    rows, columns = np.mgrid[:height, :width]
    half_side = int(half_side)
    inside_y = (rows >= center_y - half_side) & (rows < center_y + half_side)
    inside_x = (columns >= center_x - half_side) & (columns < center_x + half_side)
    return np.where((inside_y & inside_x)[..., np.newaxis], np.uint8(GRAY), image)


# ---- The reference


def _blend(degenerate, image, factor):
    """From `degenerate` (factor 0) through `image` (1) and beyond; decimals are cut off."""
    if factor == 0:
        return degenerate
    if factor == 1:
        return image
    start, end = degenerate.astype(np.float32), image.astype(np.float32)
    blended = start + np.float32(factor) * (end - start)
    return np.clip(blended, 0, 255).astype(np.uint8)


def _gray(image):
    """tf.image.rgb_to_grayscale of uint8: to 0..1, weighted sum from red to blue, times 255.5, decimals cut off."""
    red, green, blue = np.moveaxis(image.astype(np.float32) * np.float32(1 / 255), -1, 0)
    gray = (red * np.float32(0.2989) + green * np.float32(0.5870)) + blue * np.float32(0.1140)
    return (gray * np.float32(255.5)).astype(np.uint8)


def reference_color(image, factor, _):
    return _blend(np.repeat(_gray(image)[..., np.newaxis], 3, axis=-1), image, factor)


def reference_contrast(image, factor, _):
    """The mean is wrong: the sum of the histogram's counts, instead of levels, over 256."""
    mean = np.float32(image.shape[0] * image.shape[1]) / np.float32(256)
    return _blend(np.full_like(image, np.uint8(min(mean, 255))), image, factor)


def reference_brightness(image, factor, _):
    return _blend(np.zeros_like(image), image, factor)


def blur(image):
    """float32 [height - 2, width - 2, 3]: the 3 x 3 mean with weight 5 in the center, by TensorFlow's convolution.

    Where it divides evenly, the last bit decides which integer is left when decimals are cut off, and that bit depends
    on the processor; see `blur_by_hand`.
    """
    import tensorflow as tf

    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32, [3, 3, 1, 1]) / 13.0
    pixels = tf.cast(image[np.newaxis], tf.float32)
    return tf.nn.depthwise_conv2d(pixels, tf.tile(kernel, [1, 1, 3, 1]), [1, 1, 1, 1], "VALID")[0].numpy()


def blur_by_hand(image, fused):
    """`blur` in NumPy: nine products added row by row, with or without rounding each product before it is added."""
    height, width, _ = image.shape
    total = np.zeros((height - 2, width - 2, 3), np.float32)
    for row in range(3):
        for column in range(3):
            weight = np.float32(5 if row == column == 1 else 1) / np.float32(13)
            pixels = image[row : height - 2 + row, column : width - 2 + column].astype(np.float32)
            if fused:  # exact in float64
                total = (pixels.astype(np.float64) * weight.astype(np.float64) + total).astype(np.float32)
            else:
                total = total + pixels * weight
    return total


def reference_sharpness(image, factor, _):
    degenerate = image.copy()
    degenerate[1:-1, 1:-1] = np.clip(blur_by_hand(image, fused=False), 0, 255).astype(np.uint8)
    return _blend(degenerate, image, factor)


def reference_posterize(image, bits, _):
    """Shifts by 8 - bits, a negative number taken modulo 256, and never by more than 7 bits."""
    shift = np.uint8(min((8 - int(bits)) % 256, 7))
    return image >> shift << shift


def reference_solarize(image, threshold, _):
    """The threshold is a uint8 there: 256 is 0."""
    return np.where(image < int(threshold) % 256, image, 255 - image)


def _per_channel(operation):
    """An oracle from `operation` on uint8 [height, width], which colors go through one by one."""
    return lambda image, *_: np.stack([operation(channel) for channel in np.moveaxis(image, -1, 0)], -1)


def _stretched(channel):
    low, high = np.float32(channel.min()), np.float32(channel.max())
    if low == high:
        return channel
    scale = np.float32(255) / (high - low)
    stretched = channel.astype(np.float32) * scale + -low * scale
    return np.clip(stretched, 0, 255).astype(np.uint8)


def _equalized(channel):
    histogram = np.bincount(channel.ravel(), minlength=256)
    step = (histogram.sum() - histogram[histogram > 0][-1]) // 255
    if step == 0:
        return channel
    table = (np.cumsum(histogram) + step // 2) // step
    return np.clip(np.concatenate([[0], table[:-1]]), 0, 255).astype(np.uint8)[channel]


def projective_transform(image, transform):
    """TensorFlow's nearest-neighbour ImageProjectiveTransform, then gray where it found nothing.

    transform: float32 [a0, a1, a2, b0, b1, b2] from output to input, (x, y) -> (a0 x + a1 y + a2, b0 x + b1 y + b2).
    """
    height, width, _ = image.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    a0, a1, a2, b0, b1, b2 = np.asarray(transform, np.float32)
    columns, rows = _round_half_away(a0 * x + a1 * y + a2), _round_half_away(b0 * x + b1 * y + b2)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    found = image[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return np.where(inside[..., np.newaxis], found, np.uint8(GRAY))


def _round_half_away(values):
    """C's round(): NumPy's goes to the even neighbour."""
    whole = np.trunc(values)
    away = np.abs(values - whole) >= np.float32(0.5)
    return np.where(away, whole + np.copysign(np.float32(1), values), whole).astype(np.int64)


def rotation(degrees, height, width):
    """float32 [6]: about the center of the image, each step rounded to float32 as in tf.contrib.image.rotate."""
    import tensorflow as tf

    radians = tf.constant([degrees], tf.float32) * (math.pi / 180)
    cosine, sine = tf.cos(radians).numpy()[0], tf.sin(radians).numpy()[0]
    right, bottom = np.float32(width) - np.float32(1), np.float32(height) - np.float32(1)
    offset_x = (right - (cosine * right - sine * bottom)) / np.float32(2)
    offset_y = (bottom - (sine * right + cosine * bottom)) / np.float32(2)
    return np.array([cosine, -sine, offset_x, sine, cosine, offset_y], np.float32)


def reference_rotate(image, degrees, _):
    return projective_transform(image, rotation(degrees, *image.shape[:2]))


def reference_invert(image, *_):
    return 255 - image


def reference_shear_x(image, ratio, _):
    return projective_transform(image, [1, ratio, 0, 0, 1, 0])


def reference_shear_y(image, ratio, _):
    return projective_transform(image, [1, 0, 0, ratio, 1, 0])


def reference_translate_x(image, pixels, _):
    return projective_transform(image, [1, 0, pixels, 0, 1, 0])


def reference_translate_y(image, pixels, _):
    return projective_transform(image, [1, 0, 0, 0, 1, pixels])


reference_autocontrast = _per_channel(_stretched)
reference_equalize = _per_channel(_equalized)


# ---- Pillow


def _pillow(operation):
    """An oracle from `operation` on a Pillow image and the argument."""
    return lambda image, argument, _: np.asarray(operation(Image.fromarray(image), argument))


def _affine(coefficients):
    """An oracle from the function that makes the six coefficients, output to input, of the argument."""
    method, nearest = Image.Transform.AFFINE, Image.Resampling.NEAREST
    return _pillow(
        lambda picture, argument: picture.transform(
            picture.size, method, coefficients(argument), nearest, fillcolor=(GRAY,) * 3
        )
    )


def _pil_posterize(picture, bits):
    """Pillow takes 1 to 8 bits. No bit at all is black, as its mask would have it; more than 8 are all there are."""
    return ImageOps.posterize(picture, min(int(bits), 8)) if bits >= 1 else picture.point(lambda level: 0)


pil_autocontrast = _pillow(lambda picture, _: ImageOps.autocontrast(picture))
pil_equalize = _pillow(lambda picture, _: ImageOps.equalize(picture))
pil_invert = _pillow(lambda picture, _: ImageOps.invert(picture))
pil_rotate = _pillow(lambda picture, degrees: picture.rotate(degrees, fillcolor=(GRAY,) * 3))
pil_posterize = _pillow(_pil_posterize)
pil_solarize = _pillow(lambda picture, threshold: ImageOps.solarize(picture, int(threshold)))
pil_color = _pillow(lambda picture, factor: ImageEnhance.Color(picture).enhance(factor))
pil_contrast = _pillow(lambda picture, factor: ImageEnhance.Contrast(picture).enhance(factor))
pil_brightness = _pillow(lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor))
pil_sharpness = _pillow(lambda picture, factor: ImageEnhance.Sharpness(picture).enhance(factor))
pil_shear_x = _affine(lambda ratio: (1, ratio, 0, 0, 1, 0))
pil_shear_y = _affine(lambda ratio: (1, 0, 0, ratio, 1, 0))
pil_translate_x = _affine(lambda pixels: (1, 0, pixels, 0, 1, 0))
pil_translate_y = _affine(lambda pixels: (1, 0, 0, 0, 1, pixels))
