"""The two layers whose stock Keras versions are wrong on several replicas; everything else comes from Keras.

Both also work outside tf.distribute, in a notebook or under `Model.fit`, and with every backend of Keras. TensorFlow is
imported where only TensorFlow can be meant: in a training step, and with several replicas.
"""

import contextlib
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from efficientnet_tpu.errors import UserError

PACKAGE = "efficientnet_tpu"  # the name under which Keras finds our layers again in a saved model

Tensor = Any  # of the backend: tf.Tensor, jax.Array

_step = threading.local()  # MirroredStrategy runs every replica in a thread of its own


@contextlib.contextmanager
def dropout_seed(seed: Tensor) -> Iterator[None]:
    """Makes `Dropout` draw from `seed` alone within this context, so that a step can be repeated exactly.

    The training step enters it with a seed folded from the run's seed, the step and the replica.

    Args:
        seed: int32 [2], a TensorFlow tensor.
    """
    outer, _step.seed = current_dropout_seed(), seed
    try:
        yield
    finally:
        _step.seed = outer


def current_dropout_seed() -> Tensor | None:
    """Returns the seed of the enclosing `dropout_seed`, int32 [2], or None outside of one."""
    return getattr(_step, "seed", None)


@contextlib.contextmanager
def batch_moments() -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Makes batch norm use batch statistics within this context, and record them instead of following them.

    Layers with trainable=False are left out. The model may be called with training=False, which turns dropout off.

    Yields:
        By layer name the mean and the biased variance of the batch, float32 [channels] each.
    """
    _step.batch_moments = {}
    try:
        yield _step.batch_moments
    finally:
        _step.batch_moments = None


def _recorded_moments() -> dict[str, tuple[Tensor, Tensor]] | None:
    return getattr(_step, "batch_moments", None)


@keras.saving.register_keras_serializable(PACKAGE)
class Dropout(keras.layers.Dropout):
    """Dropout that differs between replicas and is a pure function of the step.

    Keras keeps the state of its generators per variable: every replica draws the same mask, and no checkpoint holds
    it. With noise_shape=(None, 1, 1, 1) this is stochastic depth: a whole sample is dropped, survivors are scaled.
    Outside `dropout_seed` it is Keras' own. With trainable=False it is off, so that a frozen part of a network is a
    fixed function, as the base model of Keras' guides is, called with training=False.
    """

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Returns the inputs, [batch, ...], with a share `rate` of them zero and the others divided by 1 - rate."""
        seed = current_dropout_seed()
        training = training and self.trainable
        if seed is None or not training or self.rate == 0:
            return super().call(inputs, training=training)
        import tensorflow as tf  # `keras.random` takes no seed that is a tensor

        seed = tf.random.experimental.stateless_fold_in(seed, zlib.crc32(self.name.encode()) & 0x7FFFFFFF)
        shape = tf.shape(inputs)
        if self.noise_shape is not None:
            shape = [shape[axis] if size is None else size for axis, size in enumerate(self.noise_shape)]
        # Drawn in float32: in bfloat16 the rate itself would be rounded to 1/256.
        keep = tf.random.stateless_uniform(shape, seed) >= self.rate
        return tf.where(keep, inputs / (1 - self.rate), tf.zeros([], inputs.dtype))


def batch_norm_group_size(num_replicas: int) -> int:
    """Returns how many replicas share batch statistics in the reference: 1 up to 8 replicas, else max(8, n // 8).

    Raises UserError when the groups would not come out even.
    """
    size = 1 if num_replicas <= 8 else max(8, num_replicas // 8)
    if num_replicas % size:
        lower, upper = num_replicas // size * size, -(-num_replicas // size) * size
        raise UserError(
            f"{num_replicas} devices: do not divide into batch norm's groups of {size}. Use {lower} or {upper}."
        )
    return size


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNormalization(keras.layers.Layer):
    """Batch norm over the last axis, with statistics over groups of replicas (Ioffe & Szegedy 2015).

    Keras' own keeps one set of moving statistics per replica and saves the first replica's; `synchronized=True` always
    spans all replicas and takes three collectives a layer. Here a group is any number of consecutive replicas, one
    collective carries both moments, and the moving statistics read as the mean over all replicas.
    Statistics and arithmetic are float32 whatever the input, variances biased, as in the reference.
    With trainable=False it is in inference mode, as Keras' own.
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-3, group_size: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.group_size = group_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.moving_mean = _moving_statistic("moving_mean", shape, "zeros")
        self.moving_variance = _moving_statistic("moving_variance", shape, "ones")

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Returns gamma * (inputs - mean) / sqrt(variance + epsilon) + beta, [..., channels] as the inputs.

        The statistics are the batch's in training, and the moving ones otherwise.
        """
        x = ops.cast(inputs, "float32")
        if self.trainable and (training or _recorded_moments() is not None):
            outputs, mean, variance = self.normalize_by_batch(x)
            self._record_or_follow(mean, variance)
        else:
            mean, variance = ops.convert_to_tensor(self.moving_mean), ops.convert_to_tensor(self.moving_variance)
            outputs = self._scale_and_shift(x, mean, variance)
        return ops.cast(outputs, self.compute_dtype)

    def normalize_by_batch(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalizes by the statistics of this replica's group.

        Args:
            x: float32 [..., channels].

        Returns:
            The outputs, float32 [..., channels], and the mean and biased variance, float32 [channels].
        """
        axes = list(range(len(x.shape) - 1))
        # Both moments in one tensor: one collective, not two.
        moments = self.group_mean(ops.stack([ops.mean(x, axes), ops.mean(ops.square(x), axes)]))
        mean, mean_of_squares = ops.unstack(moments)
        # Rounding can take the difference below zero where a channel is constant.
        variance = ops.maximum(mean_of_squares - ops.square(mean), 0.0)
        return self._scale_and_shift(x, mean, variance), mean, variance

    def group_mean(self, moments: Tensor) -> Tensor:
        """Returns the mean of `moments`, float32 [2, channels], over this replica's group."""
        if self.group_size == 1:
            return moments
        from efficientnet_tpu.hardware import placement  # only TensorFlow has replicas

        return placement.group_mean(moments, self.group_size)

    def _record_or_follow(self, mean: Tensor, variance: Tensor) -> None:
        recorded = _recorded_moments()
        if recorded is None:
            self.update_moving_statistics(mean, variance)
        else:
            recorded[self.name] = mean, variance

    def update_moving_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the moving statistics a step towards those of a batch, float32 [channels]."""
        for statistic, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            statistic.assign(statistic * self.momentum + value * (1 - self.momentum))

    def _scale_and_shift(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        # One multiply-add per element: a tenth less memory traffic on TPU than (x - mean) / std * gamma + beta.
        scale = ops.rsqrt(variance + self.epsilon) * self.gamma
        return x * scale + (self.beta - mean * scale)

    def get_config(self) -> dict[str, Any]:
        own = {"momentum": self.momentum, "epsilon": self.epsilon, "group_size": self.group_size}
        return {**super().get_config(), **own}


def _moving_statistic(name: str, shape: tuple[int | None, ...], initializer: str) -> keras.Variable:
    """Creates a non-trainable float32 variable: each replica has its own copy, and reading gives their mean."""
    return keras.Variable(
        initializer,
        shape=shape,
        trainable=False,
        autocast=False,
        aggregation="mean",
        synchronization="on_read",
        name=name,
    )
