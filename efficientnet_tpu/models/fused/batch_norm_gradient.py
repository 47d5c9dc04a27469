"""Batch norm as z = scale * y + shift, and its gradient by y as scale * dz + c1 + c2 * y.

Both constants of the gradient follow from two sums over the batch, which is what the fused gradients of
`expand_conv_bn` and `excite_project` have in common.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

GroupMean = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class NormGradient:
    """The gradient of batch norm, float32 [channels] each.

    by_gamma and by_beta are this replica's; c1 and c2 are the same for all replicas that share statistics.
    """

    by_gamma: tf.Tensor
    by_beta: tf.Tensor
    c1: tf.Tensor
    c2: tf.Tensor


@dataclass(frozen=True)
class BatchStatistics:
    """A batch norm with the statistics of one batch, float32 [channels] each.

    The variance is biased. group_mean: takes float32 [2, channels] to its mean over the replicas that share statistics.
    """

    gamma: tf.Tensor
    beta: tf.Tensor
    mean: tf.Tensor
    variance: tf.Tensor
    epsilon: float
    group_mean: GroupMean

    @property
    def inverse_deviation(self) -> tf.Tensor:
        """Returns 1 / sqrt(variance + epsilon), float32 [channels]."""
        return tf.math.rsqrt(self.variance + self.epsilon)

    @property
    def scale(self) -> tf.Tensor:
        """Returns the factor of y, float32 [channels]."""
        return self.inverse_deviation * self.gamma

    @property
    def shift(self) -> tf.Tensor:
        """Returns the summand beside scale * y, float32 [channels]."""
        return self.beta - self.mean * self.scale

    def gradient(self, dz_sum: tf.Tensor, dz_y_sum: tf.Tensor, count: tf.Tensor) -> NormGradient:
        """Returns the gradient from two sums over this replica's positions (Ioffe & Szegedy 2015, section 3).

        Args:
            dz_sum: float32 [channels], sum of the gradient of z.
            dz_y_sum: float32 [channels], sum of the gradient of z times y.
            count: float32 scalar, number of positions: batch * height * width.
        """
        dscale = dz_y_sum - self.mean * dz_sum
        # Rounding can take the variance below zero where a channel is constant. It was clipped there: no gradient.
        dvariance = tf.where(self.variance > 0, -0.5 * dscale * self.gamma * self.inverse_deviation**3, 0.0)
        dmean = -self.scale * dz_sum - 2 * self.mean * dvariance
        c1, c2 = tf.unstack(self.group_mean(tf.stack([dmean, 2 * dvariance])) / count)
        return NormGradient(dscale * self.inverse_deviation, dz_sum, c1, c2)
