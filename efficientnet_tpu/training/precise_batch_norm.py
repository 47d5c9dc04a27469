"""Precise batch norm: moving statistics recomputed for the current weights, --bn_mode=recalibrate.

Wu & Johnson 2021, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, section 3. Moving averages over training lag
behind the weights, the more the fewer steps a run has. Here fixed weights see some of the training images; batch norm
uses the statistics of each batch, as in training. Dropout and stochastic depth are off, and images are cropped as in
evaluation, since the statistics are for evaluation.
"""

from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.input_clock import InputClock
from efficientnet_tpu.data.input_pipeline import explained_errors, train_batches
from efficientnet_tpu.data.preprocessing import eval_image, make_preparation
from efficientnet_tpu.data.split import HostShard, Split
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.layers import BatchNormalization, batch_moments

# Wu & Johnson find 1,000 to 10,000 images enough for training sets of any size.
NUM_IMAGES = 1024


def make_precise_batch_norm(
    strategy: tf.distribute.Strategy,
    models: Iterable[keras.Model],
    architecture: Architecture,
    split: Split,
    config: Config,
) -> Callable[[], None]:
    """Returns a function that recomputes the moving statistics of the models from training images.

    It uses the first NUM_IMAGES images of the first epoch, the same ones every time; if there are fewer, it uses all,
    some of them twice to fill the last batch. With another --bn_mode it does nothing. Unreadable images are replaced by
    others without a report: training meets and reports them too.
    """
    if config.train.bn_mode != "recalibrate":
        return lambda: None
    update_statistics = make_statistics_update(strategy, models)
    batch_size = distribution.fitting_batch_size(config.eval.eval_batch_size, split.num_images, strategy)
    size, interpolation = architecture.resolution, architecture.interpolation
    preparation = make_preparation(config.data, size, interpolation, split.is_reduced)
    # Rounded up: all batches have one size, as one compiled function and TPUs need.
    num_batches = -(-min(NUM_IMAGES, split.num_images) // batch_size)

    def prepare(encoded: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return eval_image(encoded, preparation)

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        shard = HostShard(context.input_pipeline_id, context.num_input_pipelines)
        per_replica = context.get_per_replica_batch_size(batch_size)
        return train_batches(
            split, prepare, per_replica, config.run.seed, shard=shard, on_skipped=lambda numbers: np.bool_(False)
        )

    clock, flag = InputClock(), config.data.source

    def recompute() -> None:
        with explained_errors(flag, lambda: None), clock.limited(flag, config.data.input_timeout):
            # A new stream each time, so that it begins with the same images.
            stream = iter(strategy.distribute_datasets_from_function(batches))
            update_statistics(clock.next(stream)[0][0] for _ in range(num_batches))

    return recompute


def make_statistics_update(
    strategy: tf.distribute.Strategy, models: Iterable[keras.Model]
) -> Callable[[Iterable[tf.Tensor]], None]:
    """Returns a function that sets the moving statistics of the models to those of batches of images.

    The batches, uint8 [batch, height, width, 3] as the strategy distributes them, are all of one size. The mean is the
    mean of the means of the batches, E[m]. The variance is the mean of their variances plus the variance of their
    means: E[v + m^2] - E[m]^2, biased, as in Wu & Johnson. The mean of the variances alone, as in Ioffe & Szegedy 2015,
    is too small for small batches. A batch here is the unit of batch norm: the images of a replica, or of its group.
    Frozen layers keep their statistics.
    """
    parts = []
    for model in models:
        layers = [layer for layer in model.layers if isinstance(layer, BatchNormalization) and layer.trainable]
        if layers:
            parts.append((layers, make_moments(strategy, model, layers)))

    def update(batches: Iterable[tf.Tensor]) -> None:
        measured = [[moments(images).numpy() for _, moments in parts] for images in batches]
        for (layers, _), values in zip(parts, zip(*measured, strict=True), strict=True):
            _set_statistics(layers, *np.moveaxis(values, 1, 0))

    return update


def _set_statistics(layers: Sequence[BatchNormalization], means: np.ndarray, variances: np.ndarray) -> None:
    """Sets the moving statistics of the layers. means, variances: float32 [batches, channels of all layers]."""
    mean = np.mean(means, axis=0, dtype="float64")
    variance = np.mean(variances, axis=0, dtype="float64") + np.var(means, axis=0, dtype="float64")
    ends = np.cumsum([layer.moving_mean.shape[0] for layer in layers])[:-1]
    for layer, *statistics in zip(layers, np.split(mean, ends), np.split(variance, ends), strict=True):
        for statistic, value in zip((layer.moving_mean, layer.moving_variance), statistics, strict=True):
            statistic.assign(value.astype("float32"))


def make_moments(
    strategy: tf.distribute.Strategy, model: keras.Model, layers: Sequence[BatchNormalization]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a compiled function of images, uint8 [batch, height, width, 3], to float32 [2, channels of all layers].

    The result is the mean over all replicas of what comes into each of the layers, and the variance around that mean.
    """

    def moments_in_replica(images: tf.Tensor) -> tf.Tensor:
        # In evaluation mode dropout and stochastic depth are off; `batch_moments` makes batch norm use its batch.
        with batch_moments() as measured:
            model(images, training=False)
        moments_of_layers = [measured[layer.name] for layer in layers]
        means, variances = (tf.concat(parts, 0) for parts in zip(*moments_of_layers, strict=True))
        # Variances around the common mean: less is lost to rounding than with means of squares.
        context = tf.distribute.get_replica_context()
        mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, means)
        variance = context.all_reduce(tf.distribute.ReduceOp.MEAN, variances + tf.square(means - mean))
        return tf.stack([mean, variance])

    @tf.function(autograph=False)
    def moments(images: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(moments_in_replica, args=(images,)))[0]

    return moments
