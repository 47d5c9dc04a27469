"""One pass over every image of a split, which reads and decodes each.

About 40 bytes are kept of an image: a digest, the label and sizes. No defect of an image ends the pass.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.decoding import image_format
from efficientnet_tpu.data.decoding.image_header import READABLE, read_header
from efficientnet_tpu.data.decoding.unreadable_reason import LOAD_ERRORS, load_error_reason, unreadable_reason
from efficientnet_tpu.data.split import HostShard, Split
from efficientnet_tpu.display.terminal import ImageProgress
from efficientnet_tpu.hardware.stderr import redirected_stderr

FORMATS = tuple(READABLE)
_AHEAD = 64  # images that are decoded in advance


@dataclass(frozen=True)
class ScannedImage:
    """A row of ImageScan."""

    label: int = -1
    reason: str = ""  # why it is unreadable
    digest: bytes = bytes(16)
    size: tuple[int, int] = (0, 0)
    num_bytes: int = 0
    format: int = 0
    traits: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ImageScan:
    """Facts about the images of one split, by position in its stored order.

    Rows of unreadable images are zero except the label.
    """

    digests: np.ndarray  # uint64 [num_images, 2], of a file's content
    labels: np.ndarray  # int32 [num_images]; -1 if it could not be read
    sizes: np.ndarray  # int32 [num_images, 2]: height, width
    num_bytes: np.ndarray  # int64 [num_images]
    formats: np.ndarray  # uint8 [num_images], of FORMATS
    unreadable: dict[int, str] = field(default_factory=dict)  # position -> reason
    traits: dict[str, list[int]] = field(default_factory=dict)  # of readable images: CMYK, animated, ... -> positions

    def add(self, position: int, image: ScannedImage) -> None:
        """Fills in a row."""
        self.labels[position] = image.label
        if image.reason:
            self.unreadable[position] = image.reason
            return
        self.digests[position] = np.frombuffer(image.digest, np.uint64)
        self.sizes[position] = image.size
        self.num_bytes[position] = image.num_bytes
        self.formats[position] = image.format
        for trait in image.traits:
            self.traits.setdefault(trait, []).append(position)


def scan_images(name: str, split: Split) -> ImageScan:
    """Reads a split from one end to the other and prints its progress. name: of the split, for these lines."""
    count = split.num_images
    scan = ImageScan(
        np.zeros([count, 2], np.uint64),
        np.full([count], -1, np.int32),
        np.zeros([count, 2], np.int32),
        np.zeros([count], np.int64),
        np.zeros([count], np.uint8),
    )
    progress = ImageProgress(f"{name}:", count)
    # libjpeg writes a line to stderr for every damaged file, without its name.
    with open(os.devnull, "wb") as nowhere, redirected_stderr(nowhere):
        for position, image in read_images(split):
            scan.add(position, image)
            progress.advance(unreadable=1 if image.reason else 0)
    return scan


def read_images(split: Split) -> Iterator[tuple[int, ScannedImage]]:
    """Yields all images of a split with their positions, in order.

    A dataset reads them: it takes 1.9 CPU-ms for a photograph of 100 kB and 0.4 for a tiny image, where Python threads
    with a compiled function took 2.6 and 0.6. It leaves out what fails, which is read once more to find the reason.
    """

    def read(position: tf.Tensor, handle: tf.Tensor) -> tuple[tf.Tensor, ...]:
        encoded, label = split.load(handle)
        return position, encoded, label, tf.shape(image_format.decode(encoded))

    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    images = (
        split.handles(HostShard(), None)
        .enumerate()
        .map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .ignore_errors()
        .prefetch(_AHEAD)
        .with_options(options)
    )
    expected = 0
    for position, encoded, label, shape in images.as_numpy_iterator():
        yield from _failed(split, expected, position)
        header = read_header(encoded)
        yield (
            int(position),
            ScannedImage(
                int(label),
                digest=hashlib.blake2b(encoded, digest_size=16).digest(),
                size=(int(shape[0]), int(shape[1])),
                num_bytes=len(encoded),
                format=FORMATS.index(header.format),
                traits=header.traits,
            ),
        )
        expected = int(position) + 1
    yield from _failed(split, expected, split.num_images)


def _failed(split: Split, begin: int, end: int) -> Iterator[tuple[int, ScannedImage]]:
    """Yields the images at positions from `begin` to before `end`, none of which could be read.

    Each is read once more, in steps, to find the reason.
    """
    if begin >= end:
        return
    for offset, handle in enumerate(split.handles(HostShard(), None, begin).take(end - begin)):
        try:
            encoded, label = split.load(handle)
        except LOAD_ERRORS as error:
            image = ScannedImage(reason=load_error_reason(error))
        else:
            reason = unreadable_reason(encoded.numpy()) or "could not be read at first, and then it could"
            image = ScannedImage(int(label), reason)
        yield begin + offset, image
