"""The floor's work in the structure of this project's pipeline: its order, draws and batches, decode and crop only."""

from collections.abc import Iterator

import tensorflow as tf
from peers.ours import training_batches
from peers.registry import Settings

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.datasets import open_data


def build(settings: Settings) -> tuple[str, Iterator[tf.Tensor]]:
    """uint8 [batch, 3]: a pixel of each window."""
    config = DataConfig(data_dir=settings.data_dir, validation_percent=1)
    return "decode and crop only", training_batches(config, _window_pixel, settings.batch_size, open_data(config).train)


def _window_pixel(encoded: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(encoded),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed,
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], axis=0)
    return tf.ensure_shape(tf.image.decode_and_crop_jpeg(encoded, window, channels=3)[0, 0], [3])
