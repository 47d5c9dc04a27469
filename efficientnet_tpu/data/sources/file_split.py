"""Image files with labels as a Split: a handle is an index, and nothing is read before it is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.data.sources.labelled_files import Example
from efficientnet_tpu.data.split import HostShard, Split


@dataclass(frozen=True, eq=False)
class FileSplit(Split):
    """paths: string [num_images]; labels: int32 [num_images]."""

    paths: tf.Tensor
    labels: tf.Tensor

    @property
    def num_images(self) -> int:
        return len(self.labels)

    def handles(self, shard: HostShard, order: tf.Tensor | None, first: int | tf.Tensor = 0) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(indices(self.num_images, shard, order)[first:])

    def load(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.io.read_file(tf.gather(self.paths, handle)), tf.gather(self.labels, handle)

    def locate(self, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
        index = indices(self.num_images, shard, order)[position]
        return self.paths[index].numpy().decode()


def file_split(examples: Sequence[Example]) -> FileSplit:
    """The split of a folder's or a manifest's examples."""
    with tf.device("CPU:0"):
        paths = tf.constant([path for path, _ in examples])
        return FileSplit(paths, tf.constant([label for _, label in examples], tf.int32))


def indices(num_images: int, shard: HostShard, order: tf.Tensor | None) -> tf.Tensor:
    """int64: the images of one host, in order: of one permutation of all, every count-th."""
    with tf.device("CPU:0"):  # there in the input pipeline too, and not every device draws the same
        everything = tf.range(num_images, dtype=tf.int64)
        if order is not None:
            everything = tf.random.experimental.stateless_shuffle(everything, tf.cast(order, tf.int32))
        return everything[shard.index :: shard.count]
