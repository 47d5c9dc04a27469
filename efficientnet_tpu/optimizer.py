"""The optimizers, with the reference implementation's semantics."""

from collections.abc import Callable

import keras
import tensorflow as tf

from efficientnet_tpu.config import TrainConfig
from efficientnet_tpu.learning_rate import Schedule, learning_rate


class ScheduledRate(keras.optimizers.schedules.LearningRateSchedule):
    """`learning_rate.Schedule` as Keras wants it, computed in float32 inside the compiled step."""

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule = schedule

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        return learning_rate(self.schedule, keras.ops.cast(step, "float32"), xp=keras.ops)

    def get_config(self) -> dict:
        return {"schedule": vars(self.schedule)}


class RMSprop(keras.optimizers.RMSprop):
    """RMSProp as in TensorFlow 1: the mean square starts at one, and its own kernel makes the update.

    Keras starts the mean square at zero, which makes the first updates 6 to 30 times larger. Both divide by
    sqrt(mean_square + epsilon) and put the learning rate inside the momentum.
    """

    def build(self, variables: list) -> None:
        """Makes the slots."""
        if self.built:
            return
        super().build(variables)
        for mean_square in self._velocities:
            mean_square.assign(keras.ops.ones_like(mean_square))

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """One variable's update, in one operation instead of Keras' ten."""
        if not self.momentum:  # then Keras keeps no slot for it
            super().update_step(gradient, variable, learning_rate)
            return
        slot = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=self._velocities[slot].value.handle,
            mom=self._momentums[slot].value.handle,
            lr=learning_rate,
            rho=self.rho,
            momentum=self.momentum,
            epsilon=self.epsilon,
            grad=gradient,
        )


class Momentum(keras.optimizers.SGD):
    """SGD with momentum as in TensorFlow 1: the learning rate is outside the momentum.

    accumulator = momentum * accumulator + gradient; weight -= rate * accumulator. Keras accumulates rate * gradient,
    which differs wherever the rate changes.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """One variable's update."""
        if not self.momentum:  # then Keras keeps no slot for it
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=learning_rate,
            grad=gradient,
            momentum=self.momentum,
        )


def make_optimizer(train: TrainConfig, schedule: Schedule) -> keras.optimizers.Optimizer:
    """The optimizer `train.optimizer` names. It sums gradients over replicas itself."""
    return OPTIMIZERS[train.optimizer](train, ScheduledRate(schedule))


def _rmsprop(train: TrainConfig, rate: ScheduledRate) -> keras.optimizers.Optimizer:
    return RMSprop(rate, rho=train.rmsprop_decay, momentum=train.momentum, epsilon=train.rmsprop_epsilon)


def _momentum(train: TrainConfig, rate: ScheduledRate) -> keras.optimizers.Optimizer:
    return Momentum(rate, momentum=train.momentum)


def _sgd(train: TrainConfig, rate: ScheduledRate) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate)


# The keys are config.OPTIMIZERS.
OPTIMIZERS: dict[str, Callable[[TrainConfig, ScheduledRate], keras.optimizers.Optimizer]] = {
    "rmsprop": _rmsprop,
    "momentum": _momentum,
    "sgd": _sgd,
}
