"""The stream of training batches, from any step on, spread over the devices."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.input_clock import InputClock
from efficientnet_tpu.data.input_pipeline import explained_errors, train_batches
from efficientnet_tpu.data.preprocessing import make_train_image
from efficientnet_tpu.data.skip_unreadable import SkippedImages
from efficientnet_tpu.data.split import HostShard, Split
from efficientnet_tpu.data.unreadable_log import UnreadableImages
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.architecture import Architecture


class TrainStream:
    """The training batches of a run from `first_step` on, and the account of images that cannot be read.

    Attributes: `batches`, an iterator over (images uint8 [batch, size, size, 3], labels int32 [batch]), a batch for
    each replica; `clock`, by which the loop takes them.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        split: Split,
        architecture: Architecture,
        config: Config,
        first_step: int,
    ) -> None:
        unreadable = UnreadableImages(
            config.run.model_dir if distribution.is_chief(strategy) else None,  # one host writes the list
            config.data.max_unreadable_percent,
            split.num_images,
            config.data.source,
        )
        self._skipped = SkippedImages(split, config.run.seed, unreadable)
        self._source = config.data.source
        self._timeout = config.data.input_timeout
        self.clock = InputClock()
        batch_size = config.train.batch_size
        size, interpolation = architecture.resolution, architecture.interpolation
        prepare = make_train_image(config.data, size, interpolation, split.is_reduced)

        def make_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
            shard = HostShard(context.input_pipeline_id, context.num_input_pipelines)
            # The position follows from the step alone: no state of the stream is in checkpoints.
            first_image = first_step * batch_size // shard.count
            per_replica = context.get_per_replica_batch_size(batch_size)
            on_skipped = self._skipped.recorder(shard)
            return train_batches(split, prepare, per_replica, config.run.seed, first_image, shard, on_skipped)

        self.batches: tf.data.Iterator = iter(strategy.distribute_datasets_from_function(make_dataset))

    @contextlib.contextmanager
    def explained_errors(self) -> Iterator[None]:
        """Within this context a failure of the data is a UserError; at its end skipped images are reported.

        Raises UserError if more images are unreadable than --max_unreadable_percent. A wait for a batch is limited.
        """
        with explained_errors(self._source, self._skipped.report), self.clock.limited(self._source, self._timeout):
            yield
        # Here too, since a skipped image is no failure.
        self._skipped.report()
