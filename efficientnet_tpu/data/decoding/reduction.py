"""Pictures much larger than the network's image are reduced by averaging, inside TensorFlow's graphs.

The bicubic kernel of TensorFlow 1 takes single pixels, however far it shrinks, and with them a camera's noise.
ImageNet's pictures are at most about twice the network's size, those of telephones ten times.

A window is reduced by the largest power of two that leaves both of its sides at least as long as the network's image:
what is left to the kernel is less than twice, up to the window's aspect. Such a mean is exact in float32, so that it is
the same in whatever order a processor adds.
"""

import functools

import tensorflow as tf

from efficientnet_tpu.data.decoding.file_bytes import not_inlined

_MOST_HALVINGS = 14  # of the shorter side of the largest picture
_HALVINGS_BY_DECODER = 3  # JPEG's blocks have 8 x 8 pixels
_WINDOW = tf.TensorSpec([4], tf.int32)
_SIDE = tf.TensorSpec([], tf.int32)


def decode_jpeg_window(encoded: tf.Tensor, window: tf.Tensor, least_side: int | tf.Tensor | None) -> tf.Tensor:
    """Decodes a window of a JPEG, reduced where it is large: string scalar -> uint8 [height, width, 3].

    window: int32 [4]: top, left, height, width, in pixels of the file. least_side: of the result; None: never reduced.
    The decoder itself reduces to 1/2, 1/4 and 1/8, before it turns frequencies into pixels.
    """

    def decode() -> tf.Tensor:
        return tf.image.decode_and_crop_jpeg(encoded, window, channels=3)

    if least_side is None:
        return decode()
    return tf.cond(_is_large(window, least_side), lambda: _reduced_jpeg(encoded, window, least_side), decode)


def cut_window(image: tf.Tensor, window: tf.Tensor, least_side: int | tf.Tensor | None) -> tf.Tensor:
    """Cuts a window out of an image, reduced where it is large, as `decode_jpeg_window` reduces.

    image: uint8 [height, width, 3]. window: int32 [4]. Returns uint8 [height, width, 3].
    """

    def cut() -> tf.Tensor:
        top, left, height, width = tf.unstack(window)
        return image[top : top + height, left : left + width]

    if least_side is None:
        return cut()
    return tf.cond(_is_large(window, least_side), lambda: _reduced_cut(image, window, least_side), cut)


def halvings(window: tf.Tensor, least_side: int | tf.Tensor) -> tf.Tensor:
    """Returns how many times the sides of a window are halved: int32 [4] -> int32 scalar. The one rule there is."""
    times = tf.reduce_min(window[2:]) // least_side
    return tf.reduce_sum(tf.cast(times >= [2**number for number in range(1, _MOST_HALVINGS + 1)], tf.int32))


def reduced_window(window: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Returns a window in pixels of the reduced picture, of which none reaches beyond its end: int32 [4] -> int32 [4].

    factor: int32 scalar. The picture is divided into squares of that side from its corner on, as JPEG divides it.
    """
    begin, size = window[:2], window[2:] // factor
    nearest = (begin + factor // 2) // factor
    return tf.concat([tf.minimum(nearest, (begin + window[2:]) // factor - size), size], axis=0)


def _is_large(window: tf.Tensor, least_side: int | tf.Tensor) -> tf.Tensor:
    """Returns whether `halvings` is not 0, by fewer operations: int32 [4] -> bool scalar."""
    return tf.reduce_min(window[2:]) >= 2 * least_side


@functools.partial(not_inlined, input_signature=[tf.TensorSpec([], tf.string), _WINDOW, _SIDE])
def _reduced_jpeg(encoded: tf.Tensor, window: tf.Tensor, least_side: tf.Tensor) -> tf.Tensor:
    num_halvings = halvings(window, least_side)
    part = reduced_window(window, tf.bitwise.left_shift(1, num_halvings))
    return decode_reduced_part(encoded, part, num_halvings)


@functools.partial(not_inlined, input_signature=[tf.TensorSpec([], tf.string), _WINDOW, _SIDE])
def decode_reduced_part(encoded: tf.Tensor, part: tf.Tensor, num_halvings: tf.Tensor) -> tf.Tensor:
    """Decodes a part of a JPEG whose sides are halved once or more: string scalar -> uint8 [height, width, 3].

    part: int32 [4]: top, left, height, width, in pixels of the reduced picture. num_halvings: int32 scalar.
    """
    by_decoder = tf.minimum(num_halvings, _HALVINGS_BY_DECODER)
    left_over = tf.bitwise.left_shift(1, num_halvings - by_decoder)

    def decode(ratio: int) -> tf.Tensor:
        return tf.raw_ops.DecodeAndCropJpeg(contents=encoded, crop_window=left_over * part, channels=3, ratio=ratio)

    ratios = [2**number for number in range(1, _HALVINGS_BY_DECODER + 1)]
    image = tf.switch_case(by_decoder - 1, [functools.partial(decode, ratio) for ratio in ratios])
    return tf.cond(left_over == 1, lambda: image, lambda: mean_of_squares(image, part[2:]))


@functools.partial(not_inlined, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), _WINDOW, _SIDE])
def _reduced_cut(image: tf.Tensor, window: tf.Tensor, least_side: tf.Tensor) -> tf.Tensor:
    factor = tf.bitwise.left_shift(1, halvings(window, least_side))
    part = reduced_window(window, factor)
    top, left, height, width = tf.unstack(factor * part)
    return mean_of_squares(image[top : top + height, left : left + width], part[2:])


def mean_of_squares(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Averages squares of pixels, rounded to the nearest level: uint8 [height, width, 3] -> uint8 [*size, 3].

    size: int32 [2], the image's divided by a power of two.
    """
    means = tf.raw_ops.ResizeArea(images=image[tf.newaxis], size=size)[0]
    return tf.cast(means + 0.5, tf.uint8)
