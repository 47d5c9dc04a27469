"""A set of images under the labels of a run, whose classes have another order or are more."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.data.split import HostShard, ImageData, Split


@dataclass(frozen=True, eq=False)
class RelabelledSplit(Split):
    """The images of another split in its order. label_tensor: int32 [classes], a new label for each of its labels."""

    split: Split
    label_tensor: tf.Tensor

    @property
    def num_images(self) -> int:
        return self.split.num_images

    def handles(self, shard: HostShard, order: tf.Tensor | None, first: int | tf.Tensor = 0) -> tf.data.Dataset:
        """Returns scalar handles, as `Split` says. order: int64 [2] or None."""
        return self.split.handles(shard, order, first)

    def load(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the image of a scalar handle: (content string [], new label int32 [])."""
        content, label = self.split.load(handle)
        return content, tf.gather(self.label_tensor, label)

    def join(self, other: "RelabelledSplit") -> "RelabelledSplit":
        """Returns the images of both, which have the same new labels."""
        return RelabelledSplit(self.split.join(other.split), self.label_tensor)

    def locate(self, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
        """Names an image by its position in an order, int64 [2] or None."""
        return self.split.locate(shard, order, position)

    @property
    def is_reduced(self) -> bool:
        """Returns what the split itself says."""
        return self.split.is_reduced

    def paths(self) -> tf.Tensor | None:
        """Returns string [num_images] or None."""
        return self.split.paths()

    def buffered_bytes(self) -> int:
        """Returns what the split itself holds."""
        return self.split.buffered_bytes()

    def stored_in(self) -> Sequence[tuple[str, str]] | None:
        """Returns (path, which part of it) of what holds the images, or None."""
        return self.split.stored_in()

    def labels(self) -> tf.Tensor | None:
        """Returns the new labels, int32 [num_images], or None."""
        labels = self.split.labels()
        return None if labels is None else tf.gather(self.label_tensor, labels)


def with_classes(data: ImageData, label_names: tuple[str, ...], labels: Sequence[int]) -> ImageData:
    """Returns the data with the classes `label_names`. labels: for each of its own classes, its label among these."""
    if tuple(labels) == tuple(range(len(data.label_names))):  # nothing between the images and the step then
        return dataclasses.replace(data, label_names=label_names)
    with tf.device("CPU:0"):
        label_tensor = tf.constant(labels, tf.int32)
    splits = {name: RelabelledSplit(split, label_tensor) for name, split in data.splits.items()}
    return dataclasses.replace(data, label_names=label_names, **splits)
