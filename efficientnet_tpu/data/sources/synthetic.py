"""Images made up on the spot, for dry runs: --dataset=fake, as many as ImageNet has, or fake:CLASSES:TRAIN:VALIDATION.

They have the size of ImageNet's photographs, as files and in pixels, and labels that nothing in them tells.
"""

import dataclasses
import re
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.sources.file_split import indices
from efficientnet_tpu.data.split import HostShard, ImageData, Split, fingerprint
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts.printable import shown

# Classes, training and validation images, unless the name says otherwise: ImageNet's.
DEFAULTS = (1000, 1_281_167, 50_000)
_MOST_CLASSES = 1_000_000
_NUM_FILES = 16
_SIZE = (375, 500)  # height, width: the usual one of ImageNet


@dataclass(frozen=True, eq=False)
class FakeSplit(Split):
    """Image number i is file i modulo the number of files, its label i modulo `num_classes`. files: string [files]."""

    num_images: int
    num_classes: int
    files: tf.Tensor

    def handles(self, shard: HostShard, order: tf.Tensor | None, first: int | tf.Tensor = 0) -> tf.data.Dataset:
        """Returns scalar handles, as `Split` says. order: int64 [2] or None."""
        return tf.data.Dataset.from_tensor_slices(indices(self.num_images, shard, order)[first:])

    def load(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the image of a scalar handle: (content string [], label int32 [])."""
        return tf.gather(self.files, handle % len(self.files)), tf.cast(handle % self.num_classes, tf.int32)

    def join(self, other: "FakeSplit") -> "FakeSplit":
        """Returns as many images as both have."""
        return dataclasses.replace(self, num_images=self.num_images + other.num_images)

    def locate(self, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
        """Names an image by its position in an order, int64 [2] or None."""
        return f"fake image {int(indices(self.num_images, shard, order)[position])}"


def open_fake(name: str, config: DataConfig) -> ImageData:
    """Makes the images. name: what follows `fake:`, up to three numbers."""
    given = name.split(":") if name else []
    if len(given) > len(DEFAULTS) or not all(re.fullmatch("0*[1-9][0-9]{0,8}", number) for number in given):
        raise UserError(
            f"--dataset={shown(config.dataset)}: must be fake, or fake:CLASSES:TRAIN:VALIDATION with whole numbers, as "
            "in fake:10:5000:1000; the last may be left out."
        )
    if given and int(given[0]) > _MOST_CLASSES:
        raise UserError(f"--dataset={shown(config.dataset)}: has more than {_MOST_CLASSES:,} classes.")
    num_classes, num_train, num_validation = (*map(int, given), *DEFAULTS[len(given) :])
    num_minival = round(num_train * config.minival_percent / 100)
    generator = np.random.default_rng(0)
    files = []  # JPEG files of smooth colors and some noise, about 100 kB each, the same at every call
    with tf.device("CPU:0"):
        for _ in range(_NUM_FILES):
            colors = generator.uniform(0, 255, (1, 8, 8, 3))
            image = tf.image.resize(colors, _SIZE, "bicubic")[0] + generator.normal(0, 18, (*_SIZE, 3))
            files.append(tf.io.encode_jpeg(tf.saturate_cast(image, tf.uint8), quality=90))
        file_tensor = tf.stack(files)
    sizes = {"train": num_train - num_minival, "validation": num_validation, "minival": num_minival}
    return ImageData(
        tuple(f"class {index}" for index in range(num_classes)),
        fingerprint=fingerprint(["fake", str(num_classes), *(f"{split} {size}" for split, size in sizes.items())]),
        **{split: FakeSplit(size, num_classes, file_tensor) for split, size in sizes.items() if size},
    )
