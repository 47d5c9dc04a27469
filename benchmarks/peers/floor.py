"""The least a training input must do: read a file, draw a window, decode that window of the JPEG. Nothing else.

The window's pixels are dropped (their first one goes into a batch): no resize, no flip, no batch of images.
"""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from peers.registry import Settings


def build(settings: Settings) -> tuple[str, Iterator[tf.Tensor]]:
    """uint8 [batch, 3]: a pixel of each window."""
    paths = sorted(map(str, Path(settings.data_dir).glob("*/*")))
    options = tf.data.Options()
    options.deterministic = False
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = settings.workers
    batches = (
        tf.data.Dataset.from_tensor_slices(paths)
        .shuffle(len(paths))
        .repeat()
        .map(decode_window, num_parallel_calls=settings.workers)
        .batch(settings.batch_size, drop_remainder=True)
        .prefetch(2)
        .with_options(options)
    )
    return "decode and crop only", iter(batches)


def decode_window(path: tf.Tensor) -> tf.Tensor:
    """Path of a JPEG file -> uint8 [3], the first pixel of a random window (area 0.08..1, aspect 3/4..4/3)."""
    encoded = tf.io.read_file(path)
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(encoded),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], axis=0)
    return tf.ensure_shape(tf.image.decode_and_crop_jpeg(encoded, window, channels=3)[0, 0], [3])
