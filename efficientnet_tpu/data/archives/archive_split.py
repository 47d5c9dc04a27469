"""Images inside of archives as a Split. The archives stay as they are: an image is read from its place in one."""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.sources.file_split import FileSplit, file_split
from efficientnet_tpu.data.sources.labelled_files import ArchivePlace, Example
from efficientnet_tpu.data.split import HostShard, Split


@dataclass(frozen=True, eq=False)
class ArchiveSplit(Split):
    """Images in archives. named: their names, by which they are reported, in place of paths, and labels.
    place_tensor: int64 [num_images, 3], the archive's number, offset and size.
    """

    named: FileSplit
    archives: tuple[str, ...]
    place_tensor: tf.Tensor

    @property
    def num_images(self) -> int:
        return self.named.num_images

    def handles(self, shard: HostShard, order: tf.Tensor | None, first: int | tf.Tensor = 0) -> tf.data.Dataset:
        """Returns scalar handles, as `Split` says. order: int64 [2] or None."""
        return self.named.handles(shard, order, first)

    def load(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the image of a scalar handle: (content string [], label int32 [])."""
        # TensorFlow has no operation that reads a part of a file. By Python it takes 0.17 ms of a core more than a
        # whole file by tf.io.read_file, some of it under Python's lock.
        read = functools.partial(_read, self.archives)
        content = tf.numpy_function(read, [tf.gather(self.place_tensor, handle)], tf.string, stateful=False)
        return tf.ensure_shape(content, []), tf.gather(self.named.label_tensor, handle)

    def join(self, other: "ArchiveSplit") -> "ArchiveSplit":
        """Returns the images of both, which are in the same archives."""
        with tf.device("CPU:0"):
            places = tf.concat([self.place_tensor, other.place_tensor], axis=0)
        return ArchiveSplit(self.named.join(other.named), self.archives, places)

    def locate(self, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
        """Names an image by its position in an order, int64 [2] or None."""
        return self.named.locate(shard, order, position)

    def paths(self) -> tf.Tensor:
        """Returns the images' names: string [num_images]."""
        return self.named.paths()

    def labels(self) -> tf.Tensor:
        """Returns int32 [num_images]."""
        return self.named.labels()

    def stored_in(self) -> list[tuple[str, str]]:
        """Returns (archive, offset and size) of each image."""
        return [(self.archives[at], f"{offset}+{size}") for at, offset, size in self.place_tensor.numpy().tolist()]


def archive_split(examples: Sequence[Example], places: Mapping[str, ArchivePlace]) -> ArchiveSplit:
    """Makes the split of images in archives. places: where each path is, of all splits of the data set."""
    archives = tuple(dict.fromkeys(place.archive for place in places.values()))
    number = {archive: at for at, archive in enumerate(archives)}
    found = [places[path] for path, _ in examples]
    rows = [(number[place.archive], place.offset, place.size) for place in found]
    with tf.device("CPU:0"):
        return ArchiveSplit(file_split(examples), archives, tf.constant(rows, tf.int64, [len(rows), 3]))


def _read(archives: Sequence[str], place: np.ndarray) -> bytes:
    """Reads an image. place: int64 [3]. Behind an archive's end there is less than was asked for, or nothing."""
    at, offset, size = place.tolist()
    return os.pread(_descriptor(archives[at]), size, offset)


@functools.cache
def _descriptor(archive: str) -> int:
    """Returns a descriptor that stays open: reading at an offset moves nothing, so that threads and forks share it."""
    return os.open(archive, os.O_RDONLY)
