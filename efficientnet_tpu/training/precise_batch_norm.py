"""Batch norm's moving statistics measured anew, for the weights as they are: "precise batch norm", Wu & Johnson 2021,
Rethinking "Batch" in BatchNorm, section 3.

Moving averages over training lag behind the weights, the more the fewer steps a run has. Here fixed weights go over
some of the training images, batch norm by the statistics of each batch, as in training; dropout and stochastic depth
are off and images are cropped as in evaluation, which is what the statistics are for.
"""

from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.input_pipeline import explained_errors, train_batches
from efficientnet_tpu.data.preprocessing import crop_padding, eval_image
from efficientnet_tpu.data.split import HostShard, Split
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.layers import BatchNormalization, batch_moments

# Wu & Johnson find 1,000 to 10,000 images enough, whatever the size of the set.
NUM_IMAGES = 1024


def make_precise_batch_norm(
    strategy: tf.distribute.Strategy,
    models: Iterable[keras.Model],
    architecture: Architecture,
    split: Split,
    config: Config,
) -> Callable[[], None]:
    """A function that, with --bn_mode=recalibrate, sets the moving statistics of the models, as their weights are then,
    by the first NUM_IMAGES images of the run's first epoch (or all, where there are fewer, some twice to fill the last
    batch): the same ones every time. In the other modes it does nothing.

    Images that cannot be read are replaced by others; training, which meets them too, accounts for them.
    """
    if config.train.bn_mode != "recalibrate":
        return lambda: None
    update_statistics = make_statistics_update(strategy, models)
    batch_size = config.eval.eval_batch_size
    padding = crop_padding(config.data.eval_crop_padding, architecture.resolution)
    num_batches = -(-min(NUM_IMAGES, split.num_images) // batch_size)

    def prepare(encoded: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return eval_image(encoded, architecture.resolution, padding)

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        shard = HostShard(context.input_pipeline_id, context.num_input_pipelines)
        per_replica = context.get_per_replica_batch_size(batch_size)
        return train_batches(
            split, prepare, per_replica, config.run.seed, shard=shard, on_skipped=lambda numbers: np.bool_(False)
        )

    def run() -> None:
        with explained_errors(config.data.source, lambda: None):
            stream = iter(strategy.distribute_datasets_from_function(batches))
            update_statistics(next(stream)[0] for _ in range(num_batches))

    return run


def make_statistics_update(
    strategy: tf.distribute.Strategy, models: Iterable[keras.Model]
) -> Callable[[Iterable[tf.Tensor]], None]:
    """A function that sets the moving statistics of the models by batches of images, as the strategy distributes them,
    all of one size: to the mean, and the variance around it, over all of them together.

    The mean is the mean of the batches' means, E[m]; the variance is the mean of the batches' variances plus the
    variance of their means: E[v + m^2] - E[m]^2, Wu & Johnson's, biased. The mean of the variances alone, Ioffe &
    Szegedy's, is too small where batches are small. A batch is what batch norm takes its statistics over: one replica's
    images, or its group's. Frozen layers keep their statistics.
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
    """means, variances: float32 [batches, channels of all layers]."""
    mean = np.mean(means, axis=0, dtype="float64")
    variance = np.mean(variances, axis=0, dtype="float64") + np.var(means, axis=0, dtype="float64")
    ends = np.cumsum([layer.moving_mean.shape[0] for layer in layers])[:-1]
    for layer, *statistics in zip(layers, np.split(mean, ends), np.split(variance, ends), strict=True):
        for statistic, value in zip((layer.moving_mean, layer.moving_variance), statistics, strict=True):
            statistic.assign(value.astype("float32"))


def make_moments(
    strategy: tf.distribute.Strategy, model: keras.Model, layers: Sequence[BatchNormalization]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function of a batch of images: what comes into each of the layers, float32 [2, channels of them all]:
    its mean over all replicas, and its variance around that.
    """

    def moments_in_replica(images: tf.Tensor) -> tf.Tensor:
        with batch_moments() as measured:
            model(images, training=False)
        moments_of_layers = [measured[layer.name] for layer in layers]
        means, variances = (tf.concat(parts, 0) for parts in zip(*moments_of_layers, strict=True))
        # Variances around the common mean: less is lost to rounding than with means of squares.
        context = tf.distribute.get_replica_context()
        mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, means)
        variance = context.all_reduce(tf.distribute.ReduceOp.MEAN, variances + tf.square(means - mean))
        return tf.stack([mean, variance])

    @tf.function
    def moments(images: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(moments_in_replica, args=(images,)))[0]

    return moments
