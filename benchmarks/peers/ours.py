"""This project's training input, put together as train.py does: damaged files would be replaced and counted too."""

from collections.abc import Callable, Iterator

import tensorflow as tf
from peers.registry import Settings

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.input_pipeline import train_batches
from efficientnet_tpu.data.preprocessing import make_train_image
from efficientnet_tpu.data.skip_unreadable import SkippedImages
from efficientnet_tpu.data.split import SINGLE_HOST
from efficientnet_tpu.data.unreadable_log import UnreadableImages

SEED = 0


def build(settings: Settings) -> tuple[str, Iterator[tf.Tensor]]:
    """uint8 [batch, size, size, 3]; bicubic."""
    # What `distribution.connect` does beside a GPU or TPU.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    config = DataConfig(data_dir=settings.data_dir, augment=settings.augment, validation_percent=1)
    batches = training_batches(config, make_train_image(config, settings.size), settings.batch_size)
    semantics = "" if settings.augment == "none" else f", semantics={config.augment_semantics}"
    return settings.augment + semantics, batches


def training_batches(config: DataConfig, prepare: Callable, batch_size: int) -> Iterator[tf.Tensor]:
    """The images of the stream of batches that training takes, prepared by `prepare`: (encoded, seed) -> image."""
    split = open_data(config).train
    unreadable = UnreadableImages(None, config.max_unreadable_percent, split.num_images)
    on_skipped = SkippedImages(split, SEED, unreadable).recorder(SINGLE_HOST)
    for images, _ in train_batches(split, prepare, batch_size, SEED, on_skipped=on_skipped):
        yield images
