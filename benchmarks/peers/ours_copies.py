"""This project's training input on reduced copies: make-tfrecords --max_side=400 --quality=90."""

from collections.abc import Iterator

import tensorflow as tf
from peers.ours import described, set_up_threads, training_batches
from peers.registry import Settings

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.conversion.make_tfrecords import convert_folder
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.preprocessing import make_train_image

MAX_SIDE, QUALITY = 400, 90


def build(settings: Settings) -> tuple[str, Iterator[tf.Tensor]]:
    """uint8 [batch, size, size, 3]; bicubic."""
    set_up_threads()
    shards = f"{settings.folder}/shards"
    options = {"data_dir": settings.data_dir, "validation_percent": 1, "output_dir": shards}
    convert_folder(with_options(Config(), options | {"max_side": MAX_SIDE, "quality": QUALITY, "train_shards": 4}))
    config = DataConfig(data_dir=shards, augment=settings.augment, shuffle_buffer=256)
    prepare, split = make_train_image(config, settings.size), open_data(config).train
    words = f"{described(config)}, copies of {MAX_SIDE} pixels, quality {QUALITY}"
    return words, training_batches(config, prepare, settings.batch_size, split)
