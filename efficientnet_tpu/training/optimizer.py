"""The optimizers, with the reference implementation's semantics."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from efficientnet_tpu.config.run import TrainConfig
from efficientnet_tpu.training.learning_rate import Schedule, learning_rate

# Names of the weights, batch norm's and biases, that lars and adamw spare their decay.
SPARED = ("gamma", "beta", "bias")


class ScheduledRate(keras.optimizers.schedules.LearningRateSchedule):
    """`learning_rate.Schedule` as Keras wants it, computed in float32 inside the compiled step."""

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule = schedule

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        return learning_rate(self.schedule, keras.ops.cast(step, "int32"), xp=keras.ops)

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


class LARS(Momentum):
    """Layer-wise adaptive rates (You, Gitman and Ginsburg 2017), as the reference has them.

    Every variable but batch norm's and biases has its own rate, rate * TRUST * |w| / (|g| + decay * |w| + epsilon), and
    the gradient g + decay * w. The rate is inside the momentum: accumulator = momentum * accumulator + rate * gradient;
    weight -= accumulator.
    """

    TRUST = 0.001  # the reference's "eeta"

    def __init__(self, rate: ScheduledRate, momentum: float, decay: float, epsilon: float):
        super().__init__(rate, momentum=momentum)
        # Not `weight_decay`: with that Keras would decay the weights besides.
        self.decay, self.epsilon = decay, epsilon

    def build(self, variables: list) -> None:
        """Makes the slots."""
        super().build(variables)
        self._spared = frozenset(index for index, variable in enumerate(variables) if variable.name in SPARED)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """One variable's update."""
        if self._get_variable_index(variable) not in self._spared:
            weight_norm, gradient_norm = tf.norm(variable), tf.norm(gradient)
            trust = self.TRUST * weight_norm / (gradient_norm + self.decay * weight_norm + self.epsilon)
            learning_rate *= tf.where((weight_norm > 0) & (gradient_norm > 0), trust, 1.0)
            gradient += self.decay * variable
        super().update_step(learning_rate * gradient, variable, tf.ones([]))


def make_optimizer(train: TrainConfig, schedule: Schedule) -> keras.optimizers.Optimizer:
    """The optimizer `train.optimizer` names. It sums gradients over replicas itself, and clips the sum."""
    optimizer = OPTIMIZERS[train.optimizer](train, ScheduledRate(schedule))
    if train.gradient_clip_norm:
        _clip_sum(optimizer, train.gradient_clip_norm)
    return optimizer


def scale_rates(optimizer: keras.optimizers.Optimizer, factors: Sequence[float]) -> None:
    """Makes the optimizer multiply the learning rate by a factor for each of its variables; adamw's decay has it as it
    is.
    """
    if all(factor == 1 for factor in factors):
        return
    update_step = optimizer.update_step

    def update_scaled(gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        update_step(gradient, variable, learning_rate * factors[optimizer._get_variable_index(variable)])

    optimizer.update_step = update_scaled


def l2_factor(train: TrainConfig) -> float:
    """What sum(w^2) / 2 is multiplied by in the loss: 0 for adamw, which takes --weight_decay off the weights."""
    return 0.0 if train.optimizer == "adamw" else train.weight_decay


def _clip_sum(optimizer: keras.optimizers.Optimizer, norm: float) -> None:
    """Makes the optimizer scale the gradients, where it has summed them over the replicas, to `norm` all together.

    Keras' own `global_clipnorm` clips each replica's gradients before they are summed, so that the result would depend
    on the number of devices.
    """
    sum_over_replicas = optimizer._all_reduce_sum_gradients

    def sum_and_clip(gradients_and_variables: list) -> list:
        gradients, variables = zip(*sum_over_replicas(gradients_and_variables), strict=True)
        gradients, _ = tf.clip_by_global_norm(gradients, norm)
        return list(zip(gradients, variables, strict=True))

    optimizer._all_reduce_sum_gradients = sum_and_clip


def _rmsprop(train: TrainConfig, rate: ScheduledRate) -> keras.optimizers.Optimizer:
    return RMSprop(rate, rho=train.rmsprop_decay, momentum=train.momentum, epsilon=train.rmsprop_epsilon)


def _momentum(train: TrainConfig, rate: ScheduledRate) -> keras.optimizers.Optimizer:
    return Momentum(rate, momentum=train.momentum)


def _sgd(train: TrainConfig, rate: ScheduledRate) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate)


def _lars(train: TrainConfig, rate: ScheduledRate) -> keras.optimizers.Optimizer:
    return LARS(rate, train.momentum, train.lars_weight_decay, train.lars_epsilon)


def _adamw(train: TrainConfig, rate: ScheduledRate) -> keras.optimizers.Optimizer:
    """Keras' own is right: its decay, rate * weight_decay * w, is apart from the gradient."""
    adamw = keras.optimizers.AdamW(rate, weight_decay=train.weight_decay)
    adamw.exclude_from_weight_decay(var_names=list(SPARED))
    return adamw


# The keys are config.OPTIMIZERS.
OPTIMIZERS: dict[str, Callable[[TrainConfig, ScheduledRate], keras.optimizers.Optimizer]] = {
    "rmsprop": _rmsprop,
    "momentum": _momentum,
    "sgd": _sgd,
    "lars": _lars,
    "adamw": _adamw,
}
