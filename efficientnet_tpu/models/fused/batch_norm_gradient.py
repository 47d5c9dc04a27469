"""Batch norm z = scale * y + shift, and its gradient by y, scale * dz + c1 + c2 * y, in terms of sums over the batch.

What the fused gradients of `expand_conv_bn.py` and `excite_project.py` have in common; all float32 [channels].
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

GroupMean = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class NormGradient:
    """by_gamma and by_beta are of this replica; c1 and c2 of all replicas that share statistics."""

    by_gamma: tf.Tensor
    by_beta: tf.Tensor
    c1: tf.Tensor
    c2: tf.Tensor


@dataclass(frozen=True)
class BatchNorm:
    """Of one batch. variance: biased; group_mean: of [2, channels] over the replicas that share statistics."""

    gamma: tf.Tensor
    beta: tf.Tensor
    mean: tf.Tensor
    variance: tf.Tensor
    epsilon: float
    group_mean: GroupMean

    @property
    def inverse(self) -> tf.Tensor:
        return tf.math.rsqrt(self.variance + self.epsilon)

    @property
    def scale(self) -> tf.Tensor:
        return self.inverse * self.gamma

    @property
    def shift(self) -> tf.Tensor:
        return self.beta - self.mean * self.scale

    def gradient(self, dz_sum: tf.Tensor, dz_y_sum: tf.Tensor, count: tf.Tensor) -> NormGradient:
        """dz_sum, dz_y_sum: of z's gradient, and of it times y, over the replica's `count` positions."""
        dscale = dz_y_sum - self.mean * dz_sum
        # Rounding can take the variance below zero where a channel is constant, from where it was clipped.
        dvariance = tf.where(self.variance > 0, -0.5 * dscale * self.gamma * self.inverse**3, 0.0)
        dmean = -self.scale * dz_sum - 2 * self.mean * dvariance
        c1, c2 = tf.unstack(self.group_mean(tf.stack([dmean, 2 * dvariance])) / count)
        return NormGradient(dscale * self.inverse, dz_sum, c1, c2)
