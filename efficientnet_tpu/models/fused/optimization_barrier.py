"""The order of two computations that do not depend on each other."""

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops  # no public name

from efficientnet_tpu.models.fused.cpu_gradients import on_tpu


def after(first: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """x and `first`, such that what is computed from x is not computed, or found to be known, before `first` is."""
    if on_tpu():  # XLA knows no control dependencies
        x, first = gen_xla_ops.xla_optimization_barrier([x, first])
        return x, first
    with tf.control_dependencies([first]):
        return tf.identity(x), first
