"""This project's training input with --cache, from the second epoch on: all pictures are in the cache before."""

from collections.abc import Iterator

import tensorflow as tf
from peers.ours import described, set_up_threads, training_batches
from peers.registry import Settings

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.cache.open_cache import CacheRequest, with_caches
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.preprocessing import make_preparation, make_train_image


def build(settings: Settings) -> tuple[str, Iterator[tf.Tensor]]:
    """uint8 [batch, size, size, 3]; bicubic."""
    set_up_threads()
    config = DataConfig(data_dir=settings.data_dir, augment=settings.augment, validation_percent=1)
    preparation = make_preparation(config, settings.size, "bicubic")
    request = CacheRequest(f"{settings.folder}/cache", preparation, config.crop_min_area, config.source)
    split = with_caches({"train": open_data(config).train}, request)[0]["train"]
    for number in split.cache.missing():
        split.cache.make(number)
    prepare = make_train_image(config, settings.size, reduced=True)
    return f"{described(config)}, cached", training_batches(config, prepare, settings.batch_size, split)
