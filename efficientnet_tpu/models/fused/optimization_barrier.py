"""An optimization barrier for XLA and for TensorFlow's graphs."""

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops  # no public name

from efficientnet_tpu.hardware import placement


def optimization_barrier(x: tf.Tensor, after: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `x` and `after` behind a barrier.

    Work on `x` neither starts before `after` is ready, nor reuses the result of earlier identical work.

    x, after: [...] of any shapes and dtypes, which stay.
    """
    if placement.on_tpu():  # XLA ignores control dependencies
        x, after = gen_xla_ops.xla_optimization_barrier([x, after])
        return x, after
    with tf.control_dependencies([after]):
        return tf.identity(x), after
