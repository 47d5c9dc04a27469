"""The stream of training batches, from any step on, spread over the devices."""

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.input_pipeline import train_batches
from efficientnet_tpu.data.preprocessing import make_train_image
from efficientnet_tpu.data.skip_unreadable import SkippedImages
from efficientnet_tpu.data.split import HostShard, Split
from efficientnet_tpu.data.unreadable_log import UnreadableImages
from efficientnet_tpu.models.architecture import Architecture


def missing_images(split: Split, config: Config, listed: bool = True) -> SkippedImages:
    """The account of the images that the run has to do without. listed: in model_dir, by one host only."""
    unreadable = UnreadableImages(
        config.run.model_dir if listed else None,
        config.data.max_unreadable_percent,
        split.num_images,
        config.data.source,
    )
    return SkippedImages(split, config.run.seed, unreadable)


def training_stream(
    strategy: tf.distribute.Strategy,
    split: Split,
    architecture: Architecture,
    config: Config,
    first_step: int,
    missing: SkippedImages,
) -> tf.data.Iterator:
    """The run's batches from `first_step` on, spread over the devices."""
    batch_size = config.train.train_batch_size
    prepare = make_train_image(config.data, architecture.resolution)

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        shard = HostShard(context.input_pipeline_id, context.num_input_pipelines)
        first_image = first_step * batch_size // shard.count
        per_replica = context.get_per_replica_batch_size(batch_size)
        on_skipped = missing.recorder(shard)
        return train_batches(split, prepare, per_replica, config.run.seed, first_image, shard, on_skipped)

    return iter(strategy.distribute_datasets_from_function(batches))
