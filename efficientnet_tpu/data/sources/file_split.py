"""Image files with labels as a Split: a handle is an index, and nothing is read before it is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.data.sources.labelled_files import Example
from efficientnet_tpu.data.split import HostShard, Split


@dataclass(frozen=True, eq=False)
class FileSplit(Split):
    """Image files. path_tensor: string [num_images]. label_tensor: int32 [num_images]."""

    path_tensor: tf.Tensor
    label_tensor: tf.Tensor

    @property
    def num_images(self) -> int:
        return len(self.label_tensor)

    def handles(self, shard: HostShard, order: tf.Tensor | None, first: int | tf.Tensor = 0) -> tf.data.Dataset:
        """Returns scalar handles, as `Split` says. order: int64 [2] or None."""
        return tf.data.Dataset.from_tensor_slices(indices(self.num_images, shard, order)[first:])

    def load(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the image of a scalar handle: (content string [], label int32 [])."""
        return tf.io.read_file(tf.gather(self.path_tensor, handle)), tf.gather(self.label_tensor, handle)

    def join(self, other: "FileSplit") -> "FileSplit":
        """Returns the images of both."""
        with tf.device("CPU:0"):
            paths, labels = (
                tf.concat(pair, axis=0)
                for pair in ((self.path_tensor, other.path_tensor), (self.label_tensor, other.label_tensor))
            )
        return FileSplit(paths, labels)

    def locate(self, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
        """Names an image by its position in an order, int64 [2] or None."""
        index = indices(self.num_images, shard, order)[position]
        return self.path_tensor[index].numpy().decode()

    def paths(self) -> tf.Tensor:
        """Returns string [num_images]."""
        return self.path_tensor

    def stored_in(self) -> list[tuple[str, str]]:
        """Returns (path, "") of each image."""
        return [(path.decode(), "") for path in self.path_tensor.numpy().tolist()]

    def labels(self) -> tf.Tensor:
        """Returns int32 [num_images]."""
        return self.label_tensor


def file_split(examples: Sequence[Example]) -> FileSplit:
    """Makes the split of a folder's or a manifest's examples."""
    with tf.device("CPU:0"):
        paths = tf.constant([path for path, _ in examples])
        return FileSplit(paths, tf.constant([label for _, label in examples], tf.int32))


def indices(num_images: int, shard: HostShard, order: tf.Tensor | None) -> tf.Tensor:
    """Returns the images of one host in order: int64 [images]. It is every shard.count-th of a permutation of all.

    order: int64 [2], (seed, epoch), or None for the stored order.
    """
    with tf.device("CPU:0"):  # there in the input pipeline too, and not every device draws the same
        everything = tf.range(num_images, dtype=tf.int64)
        if order is not None:
            everything = tf.random.experimental.stateless_shuffle(everything, tf.cast(order, tf.int32))
        return everything[shard.index :: shard.count]
