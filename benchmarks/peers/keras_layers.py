"""Keras' preprocessing: image_dataset_from_directory, then its random layers in Dataset.map.

Keras has no random resized crop and no AutoAugment: images are decoded whole, resized, and cropped at random;
RandAugment stands in for AutoAugment.
"""

from collections.abc import Iterator

import keras
import tensorflow as tf
from peers.registry import Settings


def build(settings: Settings) -> tuple[str, Iterator[tf.Tensor]]:
    """float32 [batch, size, size, 3], 0..255; bilinear."""
    layers = [keras.layers.RandomCrop(settings.size, settings.size), keras.layers.RandomFlip("horizontal")]
    if settings.augment != "none":
        layers.append(keras.layers.RandAugment(value_range=(0, 255)))
    resized = keras.utils.image_dataset_from_directory(
        settings.data_dir, batch_size=None, image_size=(settings.size * 8 // 7,) * 2, shuffle=True
    )

    def augment(images: tf.Tensor) -> tf.Tensor:
        for layer in layers:
            images = layer(images, training=True)
        return images

    batches = (
        resized.map(lambda image, _: image)
        .repeat()
        .batch(settings.batch_size, drop_remainder=True)
        .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(1)
    )
    return "none" if settings.augment == "none" else "RandAugment layer", iter(batches)
