"""Pictures as --cache keeps them: reduced to what the crops of a stream can use, in place of the file's content.

A crop is drawn for the picture's own size, scaled, and cut out of the kept reduction that `decoding.reduction` would
take for it. A training keeps two: that of a crop of a fifth of the picture, and the next. Seven of eight crops are then
cut as without a cache. The others, of fewer than a fifth of the picture, are cut out of the first of the two, which
leaves at least 0.6 of the network's side. A single reduction for the smallest crop would make a file of four times the
pixels for one crop in a hundred.
"""

import functools
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.data.decoding import exif, image_format
from efficientnet_tpu.data.decoding.file_bytes import not_inlined, read_bytes, read_ints
from efficientnet_tpu.data.decoding.image_format import AS_USUAL, Reading, Window
from efficientnet_tpu.data.decoding.image_header import READABLE, read_header
from efficientnet_tpu.data.decoding.reduction import decode_reduced_part, halvings, mean_of_squares, reduced_window

QUALITY = 90  # of the JPEGs, with colors at half resolution: docs/data.md has what others take and cost
_MAGIC = b"ENTREDU1"
# Height, width and EXIF's orientation of the picture as it is stored, halvings of the first reduction, bytes of both.
_HEADER = struct.Struct("<8s6i")
_FORMAT_FACTS = 6
_SMALL_CROPS = 1 / 8  # the share of the crops that are cut out of a smaller reduction than without a cache
_NARROWEST = 3 / 4  # of the crops' aspects


@dataclass(frozen=True)
class KeptReductions:
    """The rule by which pictures are reduced for a stream of crops.

    size: the side of the network's image. padding: of the evaluation crop, see `preprocessing.crop_padding`.
    crop_min_area: of training crops; None: evaluation crops alone.
    """

    size: int
    padding: int
    crop_min_area: float | None = None
    reading: Reading = AS_USUAL

    def halvings(self, height: int, width: int) -> tuple[int, int]:
        """Returns how many times the sides are halved in the first reduction that is kept, and how many are kept.

        0 halvings: the picture stays as it is.
        """
        side = int(self.size / (self.size + self.padding) * min(height, width))
        if self.crop_min_area is not None:
            area = self.crop_min_area + _SMALL_CROPS * (1 - self.crop_min_area)
            side = min(side, int(math.sqrt(_NARROWEST * area * height * width)))
        first = _halvings(side, self.size)
        has_larger_crops = self.crop_min_area is not None and _halvings(min(height, width), self.size) > first
        return first, 1 + has_larger_crops

    def reduced(self, content: bytes) -> bytes:
        """Returns what is kept in place of a file's content; b"" if the picture stays as it is, or is none.

        Raises InvalidArgumentError for a picture that cannot be decoded.
        """
        header = read_header(content)
        first, count = self.halvings(header.height, header.width) if header.format in READABLE else (0, 0)
        if not first:
            return b""
        facts, *pictures = self._reduce(tf.constant(content), tf.constant(first), tf.constant(count == 2))
        height, width, orientation = map(int, facts)
        parts = [picture.numpy() for picture in pictures]
        return _HEADER.pack(_MAGIC, height, width, orientation, first, *map(len, parts)) + b"".join(parts)

    @functools.cached_property
    def _reduce(self) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """(content string [], halvings int32 [], whether two are kept bool []) -> (facts int32 [3], two JPEGs)."""
        as_stored = Reading(exif_orientation=False, background=self.reading.background)

        def jpeg(image: tf.Tensor) -> tf.Tensor:
            return tf.io.encode_jpeg(image, quality=QUALITY)

        def half(image: tf.Tensor) -> tf.Tensor:
            size = tf.shape(image)[:2] // 2
            return mean_of_squares(image[: 2 * size[0], : 2 * size[1]], size)

        signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)]

        @tf.function(input_signature=signature, autograph=False)
        def reduce(content: tf.Tensor, first: tf.Tensor, has_second: tf.Tensor) -> tuple[tf.Tensor, ...]:
            height, width, _ = tf.unstack(image_format.image_shape(content))
            orientation = tf.constant(1)
            if self.reading.exif_orientation:
                orientation = image_format.orientation(content)
            whole = tf.stack([0, 0, height, width])
            # Halved exactly `first` times: the shorter side's quotient by this is 2^first at least, and not twice that.
            least_side = tf.bitwise.right_shift(tf.minimum(height, width), first)
            image = image_format.decode_window(content, lambda _: whole, as_stored, least_side)
            second = tf.cond(has_second, lambda: jpeg(half(image)), lambda: tf.constant(b""))
            return tf.stack([height, width, orientation]), jpeg(image), second

        return reduce


def is_reduced_picture(content: bytes) -> bool:
    """Returns whether a content is what `KeptReductions.reduced` gives, and no image file."""
    return content.startswith(_MAGIC)


def kind_of_content() -> str:
    """Returns a text that changes when reduced pictures are made in another way."""
    return f"{_MAGIC.decode()} {QUALITY} {_SMALL_CROPS}"


def _halvings(side: int, least_side: int) -> int:
    """Returns what `reduction.halvings` does, for a square of that side."""
    return max(side // least_side, 1).bit_length() - 1


def decode_window(
    content: tf.Tensor, choose_window: Window, reading: Reading, least_side: int | tf.Tensor
) -> tf.Tensor:
    """Decodes a part of an image file, or of a reduced picture: string scalar -> uint8 [height, width, 3].

    choose_window, least_side: see `image_format.decode_window`. The window is one of the picture at its own size.
    """
    image = tf.cond(
        read_bytes(content, 0, len(_MAGIC)) == _MAGIC,
        lambda: _decode_reduced(content, choose_window, least_side),
        not_inlined(lambda: image_format.decode_window(content, choose_window, reading, least_side)),
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode_reduced(content: tf.Tensor, choose_window: Window, least_side: int | tf.Tensor) -> tf.Tensor:
    """Decodes a part of a reduced picture: string scalar -> uint8 [height, width, 3]."""
    header = read_ints(content, len(_MAGIC), tf.int32, _FORMAT_FACTS)
    shape, orientation = tf.stack([header[0], header[1], 3]), header[2]

    def turned() -> tf.Tensor:
        upright = exif.turned_shape(shape, orientation)
        window = exif.stored_window(choose_window(upright), upright, orientation)
        return exif.turn(_cut(content, header, window, least_side), orientation)

    return tf.cond(
        orientation == 1, lambda: _cut(content, header, choose_window(shape), least_side), not_inlined(turned)
    )


def _cut(content: tf.Tensor, header: tf.Tensor, window: tf.Tensor, least_side: int | tf.Tensor) -> tf.Tensor:
    """Decodes a window of a reduced picture, int32 [4] in pixels of its own size: uint8 [height, width, 3].

    header: int32 [6].
    """
    first, is_second = header[3], tf.cast(header[5] > 0, tf.int32)
    wanted = tf.maximum(halvings(window, least_side), first)
    is_second *= tf.cast(wanted > first, tf.int32)
    part = reduced_window(window, tf.bitwise.left_shift(1, wanted))
    size = tf.maximum(part[2:], 1)  # of a crop smaller than a pixel of the reduction
    part = tf.concat([tf.minimum(part[:2], tf.bitwise.right_shift(header[:2], wanted) - size), size], axis=0)
    picture = read_bytes(content, _HEADER.size + is_second * header[4], header[4 + is_second])
    left_over = wanted - first - is_second
    return tf.cond(
        left_over == 0,
        lambda: tf.image.decode_and_crop_jpeg(picture, part, channels=3),
        lambda: decode_reduced_part(picture, part, left_over),
    )
