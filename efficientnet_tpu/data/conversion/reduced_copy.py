"""Reduced copies of images: photographs of 12 megapixels, at ten times what a network looks at, cost ten times the disk
and the decoding.
"""

import functools
import struct
import threading
from dataclasses import dataclass, field

import tensorflow as tf

from efficientnet_tpu.data.decoding import exif, image_format
from efficientnet_tpu.data.decoding.file_bytes import read_bytes
from efficientnet_tpu.data.decoding.image_format import Reading

DEFAULT_QUALITY = 90
_JFIF_END = 20  # of the head that TensorFlow's encoder writes, in bytes
_MEASURED = 64  # copies whose levels are compared


@dataclass
class ReducedCopies:
    """The making of copies whose longer side has `max_side` pixels, and what it saves and costs. Threads may share it.

    Images of at most `max_side` pixels are kept as they are, byte for byte. quality: of the JPEGs. background: what
    transparent images are laid on, see `Reading`. An image that EXIF says is turned stays so, and says so.
    """

    max_side: int
    quality: int
    background: str
    bytes_before: int = 0
    bytes_after: int = 0
    num_images: int = 0
    num_reduced: int = 0
    differences: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def copy(self, encoded: bytes) -> bytes:
        """Returns the content of the copy's file. Raises InvalidArgumentError for what cannot be decoded."""
        small, difference = (tensor.numpy() for tensor in self._reduce(tf.constant(encoded)))
        with self._lock:
            self.num_images += 1
            self.bytes_before += len(encoded)
            self.bytes_after += len(small)
            if difference >= 0:
                self.num_reduced += 1
                if len(self.differences) < _MEASURED:
                    self.differences.append(float(difference))
        return small

    def summary(self) -> str:
        """Returns lines on what was done, what it saves and what it costs; "" if no image was written."""
        if not self.num_images:
            return ""
        share = self.bytes_after / max(self.bytes_before, 1)
        lines = [
            f"--max_side={self.max_side}: {self.num_reduced:,} of {self.num_images:,} images written are reduced, as "
            f"JPEG of quality {self.quality}; {self.bytes_after:,} bytes in place of {self.bytes_before:,} "
            f"({100 * share:.1f}%)"
        ]
        if self.differences:
            mean = sum(self.differences) / len(self.differences)
            lines.append(
                f"what it costs: levels of a copy are {mean:.2f} of 255 from the means of the image's pixels, in "
                f"{len(self.differences)} copies, and crops are cut out of {self.max_side} pixels at most: networks "
                "of a higher resolution refuse these shards"
            )
        return "\n".join(lines)

    @functools.cached_property
    def _reduce(self) -> tf.types.experimental.PolymorphicFunction:
        reading = Reading(exif_orientation=False, background=self.background)

        def reduced(encoded: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            sides = tf.cast([height, width], tf.int64)
            longer = tf.reduce_max(sides)
            size = tf.cast(tf.maximum((2 * sides * self.max_side + longer) // (2 * longer), 1), tf.int32)
            whole = tf.stack([0, 0, height, width])
            image = image_format.decode_window(encoded, lambda _: whole, reading, tf.reduce_min(size))
            means = tf.raw_ops.ResizeArea(images=image[tf.newaxis], size=size)[0]
            levels = tf.cast(means + 0.5, tf.uint8)
            small = tf.io.encode_jpeg(levels, quality=self.quality, optimize_size=True)
            stored = tf.cast(tf.io.decode_jpeg(small), tf.float32)
            oriented = with_orientation(small, image_format.orientation(encoded))
            return oriented, tf.reduce_mean(tf.abs(stored - tf.cast(levels, tf.float32)))

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
        def reduce(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            height, width, _ = tf.unstack(image_format.image_shape(encoded))
            is_large = tf.maximum(height, width) > self.max_side
            return tf.cond(is_large, lambda: reduced(encoded, height, width), lambda: (encoded, tf.constant(-1.0)))

        return reduce


def with_orientation(jpeg: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Adds EXIF data of an orientation to a JPEG that TensorFlow has encoded: string scalar -> string scalar.

    orientation: int32 scalar, 1..8; of 1 nothing is added.
    """
    segment = tf.gather(tf.constant([b"", *map(_exif_segment, range(2, 9))]), orientation - 1)
    return read_bytes(jpeg, 0, _JFIF_END) + segment + read_bytes(jpeg, _JFIF_END, tf.strings.length(jpeg))


def _exif_segment(orientation: int) -> bytes:
    """Returns a JPEG's segment with a directory of one entry."""
    entry = struct.pack("<HHIHH", exif.ORIENTATION, 3, 1, orientation, 0)
    content = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content
