"""The records that every source of images gives: label names, and splits to read."""

import abc
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import tensorflow as tf

from efficientnet_tpu.errors import UserError

LABELS_TXT = "labels.txt"  # names of the classes, one a line: beside shards, in a run and in an export


@dataclass(frozen=True)
class HostShard:
    """The part of the images that one host reads. The parts differ by at most one image."""

    index: int = 0
    count: int = 1

    def num_images(self, total: int) -> int:
        """Returns the number of images in the part, of `total` images."""
        return (total - self.index + self.count - 1) // self.count


SINGLE_HOST = HostShard()


class Split(abc.ABC):
    """A set of labelled images in an order that is a function of (seed, epoch).

    Methods take `order`: int64 [2], (seed, epoch), for a shuffled order, or None for the stored order. They take and
    return an image's handle: a scalar, by which the source finds the image.
    """

    num_images: int

    @abc.abstractmethod
    def handles(self, shard: HostShard, order: tf.Tensor | None, first: int | tf.Tensor = 0) -> tf.data.Dataset:
        """Returns the handles of one pass over the host's part, from its position `first` on.

        They are exactly shard.num_images(num_images) - first scalars. Reading them is cheap, and does not fail because
        of a single image: an image that cannot be read (a damaged record) has a handle that `load` refuses.
        """

    @abc.abstractmethod
    def load(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the image of a handle, a scalar. Raises an OpError when it cannot be read.

        Returns (content of the image file: string [], label: int32 []).
        """

    @abc.abstractmethod
    def join(self, other: "Split") -> "Split":
        """Returns the images of both, in this order. The other one is of the same data set, and so of the same kind."""

    @abc.abstractmethod
    def locate(self, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
        """Returns where the image at a position of the host's part is, for people: a path, or a shard and a record.

        order: int64 [2] or None. Runs eagerly.
        """

    def paths(self) -> tf.Tensor | None:
        """Returns the images' files in the stored order: string [num_images]; None where an image is no file."""
        return None

    @property
    def is_reduced(self) -> bool:
        """Whether contents may be reduced pictures, as `data.cache` makes them, in place of image files."""
        return False

    def buffered_bytes(self) -> int:
        """Returns the bytes of encoded images that a shuffled pass holds in memory at most, about."""
        return 0

    def stored_in(self) -> Sequence[tuple[str, str]] | None:
        """Returns (path, which part of it) of what holds the images, in stored order; None where no file does."""
        return None

    def labels(self) -> tf.Tensor | None:
        """Returns labels in the stored order: int32 [num_images]; None where they are known only by reading images."""
        return None


@dataclass(frozen=True)
class ImageData:
    """Images in splits with the names of their classes, in the order of the labels 0, 1, ...

    A set to measure on may lack training or validation images; `datasets.open_data` gives both.
    """

    label_names: tuple[str, ...]
    train: Split | None
    validation: Split | None
    fingerprint: str  # of file names, sizes or counts: changes with the data, and is computed without reading it all
    minival: Split | None = None  # held out of the training images, to choose by
    test: Split | None = None  # to measure on, never to choose by
    words: Mapping[str, str] = field(default_factory=dict)  # split -> what the data call it, where that is another word
    held_out: tuple[str, ...] = ()  # splits that were taken out of the training images, for lack of others
    max_side: int | None = None  # pixels of the longer side of reduced copies

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name."""
        named = {name: getattr(self, name) for name in ("train", "validation", "minival", "test")}
        return {name: split for name, split in named.items() if split is not None}

    def require_pixels(self, resolution: int, source: str) -> None:
        """Raises UserError for images that were reduced below what a network of that resolution takes.

        source: the flag that named the images.
        """
        if self.max_side is not None and self.max_side < resolution:
            raise UserError(
                f"{source}: the images were reduced to {self.max_side} pixels (make-tfrecords --max_side="
                f"{self.max_side}), and the network takes {resolution} x {resolution}. Write the shards again with "
                f"--max_side={2 * resolution}, or give --resolution={self.max_side} or less."
            )


def fingerprint(parts: Iterable[str]) -> str:
    """Returns 16 hexadecimal digits that change when the parts change."""
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        digest.update(b"\n" * (number > 0) + part.encode())
    return digest.hexdigest()[:16]
