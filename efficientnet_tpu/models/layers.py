"""The two layers whose stock Keras versions are wrong on several replicas; everything else comes from Keras.

Both also work outside tf.distribute, in a notebook or under `Model.fit`.
"""

import contextlib
import threading
import weakref
import zlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.fused.batch_norm_gradient import BatchNorm
from efficientnet_tpu.models.fused.cpu_gradients import PACKAGE, on_tpu
from efficientnet_tpu.models.fused.excite_project import batches
from efficientnet_tpu.models.fused.expand_conv_bn import ExpandingConv2D, expand_and_normalise

_step = threading.local()  # MirroredStrategy runs every replica in a thread of its own


@contextlib.contextmanager
def dropout_seed(seed: tf.Tensor) -> Iterator[None]:
    """Within this context, `Dropout` draws from `seed` (int32 [2]) alone, so that a step can be repeated exactly.

    The training step enters it with a seed folded from the run's seed, the step and the replica.
    """
    outer, _step.seed = current_dropout_seed(), seed
    try:
        yield
    finally:
        _step.seed = outer


def current_dropout_seed() -> tf.Tensor | None:
    """The seed of the `dropout_seed` that this is within, if it is in one."""
    return getattr(_step, "seed", None)


@contextlib.contextmanager
def batch_moments() -> Iterator[dict[str, tuple[tf.Tensor, tf.Tensor]]]:
    """Within this context batch norm that is not frozen goes by the batch, leaves its moving statistics as they are,
    and puts the batch's mean and variance, float32 [channels], under the layer's name into the dictionary.

    Whether the model is called with training=True or not; without, dropout is off.
    """
    _step.batch_moments = {}
    try:
        yield _step.batch_moments
    finally:
        _step.batch_moments = None


@keras.saving.register_keras_serializable(PACKAGE)
class Dropout(keras.layers.Dropout):
    """Dropout that differs between replicas and is a pure function of the step.

    Keras keeps the state of its generators per variable: every replica draws the same mask, and no checkpoint holds
    it. With noise_shape=(None, 1, 1, 1) this is stochastic depth: a whole sample is dropped, survivors are scaled.
    Outside `dropout_seed` it is Keras' own. With trainable=False it is off, so that a frozen part of a network is a
    fixed function, as the base model of Keras' guides is, called with training=False.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        seed = current_dropout_seed()
        training = training and self.trainable
        if seed is None or not training or self.rate == 0:
            return super().call(inputs, training=training)
        seed = tf.random.experimental.stateless_fold_in(seed, zlib.crc32(self.name.encode()) & 0x7FFFFFFF)
        shape = tf.shape(inputs)
        if self.noise_shape is not None:
            shape = [shape[axis] if size is None else size for axis, size in enumerate(self.noise_shape)]
        # Drawn in float32: in bfloat16 the rate itself would be rounded to 1/256.
        keep = tf.random.stateless_uniform(shape, seed) >= self.rate
        return tf.where(keep, inputs / (1 - self.rate), tf.zeros([], inputs.dtype))


def batch_norm_group_size(num_replicas: int) -> int:
    """Replicas that share batch statistics, as in the reference: each its own up to 8, else groups of max(8, n // 8).

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
    """Batch norm over the last axis, with statistics over groups of replicas.

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
        self.convolution = None
        self.hands_over = False

    def follows(self, convolution: ExpandingConv2D) -> None:
        """Says what its inputs come from, so that on TPUs both can be computed as one."""
        self.convolution = weakref.ref(convolution)  # not itself, whose weights would become this layer's too

    def precedes_projection(self) -> None:
        """Says that a ProjectingConv2D asks for its batches on TPUs."""
        self.hands_over = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.moving_mean = _statistic("moving_mean", shape, "zeros")
        self.moving_variance = _statistic("moving_variance", shape, "ones")

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)
        measured = getattr(_step, "batch_moments", None)
        convolution = self.convolution and self.convolution()
        convolved = convolution and convolution.take_inputs()
        by_batch = self.trainable and (training or measured is not None)
        if by_batch:
            y, mean, variance = self._by_batch(x) if convolved is None else self._of(convolution, convolved)
            if measured is not None:
                measured[self.name] = mean, variance
            else:
                self.follow(mean, variance)
        else:
            y = self._scaled(x, tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance))
        if self.hands_over and on_tpu():
            batches.leave(self.name, (inputs, self._norm(mean, variance)) if by_batch else None)
        return tf.cast(y, self.compute_dtype)

    def _by_batch(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The output, and mean and biased variance, float32 [channels], of this replica's group."""
        if self.group_size == 1 and len(x.shape) == 4 and not on_tpu():
            return self._fused(x)
        mean, variance = self._group_moments(x)
        return self._scaled(x, mean, variance), mean, variance

    def _of(self, convolution: ExpandingConv2D, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The same from the inputs of the convolution before."""
        return expand_and_normalise(
            inputs,
            tf.convert_to_tensor(convolution.kernel),
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            self.epsilon,
            self._shared,
            convolution.name,
        )

    def _norm(self, mean: tf.Tensor, variance: tf.Tensor) -> BatchNorm:
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return BatchNorm(gamma, beta, mean, variance, self.epsilon, self._shared)

    def _shared(self, moments: tf.Tensor) -> tf.Tensor:
        """Mean of `moments` over this replica's group."""
        return _group_mean(moments, self.group_size) if self.group_size > 1 else moments

    def _fused(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The same by a kernel of CPUs and GPUs: a quarter of the time on a CPU, and exact far from zero too."""
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=self.gamma, offset=self.beta, mean=[], variance=[], epsilon=self.epsilon
        )
        count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
        # The variance it reports, unlike the one it goes by, is divided by count - 1.
        return y, mean, variance * ((count - 1) / count)

    def _scaled(self, x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
        # One multiply-add per element: a tenth less memory traffic on TPU than (x - mean) / std * gamma + beta.
        scale = tf.math.rsqrt(variance + self.epsilon) * self.gamma
        return x * scale + (self.beta - mean * scale)

    def follow(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        """Moves the moving statistics a step towards a batch's, float32 [channels]."""
        for statistic, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            statistic.assign(statistic * self.momentum + value * (1 - self.momentum))

    def _group_moments(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and biased variance, float32 [channels], over this replica's group."""
        axes = list(range(len(x.shape) - 1))
        moments = tf.stack([tf.reduce_mean(x, axes), tf.reduce_mean(tf.square(x), axes)])
        mean, mean_of_squares = tf.unstack(self._shared(moments))
        # Rounding can take the difference below zero where a channel is constant.
        return mean, tf.maximum(mean_of_squares - tf.square(mean), 0.0)

    def get_config(self) -> dict[str, Any]:
        own = {"momentum": self.momentum, "epsilon": self.epsilon, "group_size": self.group_size}
        return {**super().get_config(), **own}


def _statistic(name: str, shape: tuple[int | None, ...], initializer: str) -> keras.Variable:
    """A non-trainable float32 variable of which every replica has its own and the world sees the mean."""
    return keras.Variable(
        initializer,
        shape=shape,
        trainable=False,
        autocast=False,
        aggregation="mean",
        synchronization="on_read",
        name=name,
    )


def _group_mean(moments: tf.Tensor, group_size: int) -> tf.Tensor:
    """Mean of `moments` over the consecutive replicas this replica's group consists of."""
    context = tf.distribute.get_replica_context()
    num_replicas = context.num_replicas_in_sync
    if group_size >= num_replicas:
        return context.all_reduce(tf.distribute.ReduceOp.MEAN, moments)
    if isinstance(context.strategy, tf.distribute.TPUStrategy):
        groups = [list(range(first, first + group_size)) for first in range(0, num_replicas, group_size)]
        return tf.raw_ops.CrossReplicaSum(input=moments, group_assignment=groups) / group_size
    # Only TPUs reduce within groups; elsewhere everything is gathered and the own group taken out of it.
    first = context.replica_id_in_sync_group // group_size * group_size
    gathered = context.all_gather(moments[tf.newaxis], axis=0)
    # Gathering loses the static shape.
    return tf.ensure_shape(tf.reduce_mean(gathered[first : first + group_size], axis=0), moments.shape)
