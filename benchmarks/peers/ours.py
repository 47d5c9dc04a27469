"""This project's training input, put together as train.py does: damaged files would be replaced and counted too."""

from collections.abc import Callable, Iterator

import tensorflow as tf
from peers.registry import Settings

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.input_pipeline import train_batches
from efficientnet_tpu.data.preprocessing import make_train_image
from efficientnet_tpu.data.skip_unreadable import SkippedImages
from efficientnet_tpu.data.split import SINGLE_HOST, Split
from efficientnet_tpu.data.unreadable_log import UnreadableImages

SEED = 0


def build(settings: Settings) -> tuple[str, Iterator[tf.Tensor]]:
    """uint8 [batch, size, size, 3]; bicubic."""
    set_up_threads()
    config = DataConfig(data_dir=settings.data_dir, augment=settings.augment, validation_percent=1)
    split = open_data(config).train
    return described(config), training_batches(
        config, make_train_image(config, settings.size), settings.batch_size, split
    )


def set_up_threads() -> None:
    """What `distribution.connect` does beside a GPU or TPU."""
    tf.config.threading.set_intra_op_parallelism_threads(1)


def described(config: DataConfig) -> str:
    """The augmentation, in words."""
    return config.augment + ("" if config.augment == "none" else f", semantics={config.augment_semantics}")


def training_batches(config: DataConfig, prepare: Callable, batch_size: int, split: Split) -> Iterator[tf.Tensor]:
    """The images of the stream of batches that training takes, prepared by `prepare`: (encoded, seed) -> image."""
    unreadable = UnreadableImages(None, config.max_unreadable_percent, split.num_images)
    on_skipped = SkippedImages(split, SEED, unreadable).recorder(SINGLE_HOST)
    for images, _ in train_batches(split, prepare, batch_size, SEED, on_skipped=on_skipped):
        yield images
