"""The optimizers, as the reference implementation (TensorFlow 1) defines them."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.training.learning_rate import Schedule, learning_rate

# Weights that lars and adamw do not decay: those of batch norm, and biases.
SPARED = ("gamma", "beta", "bias")


class ScheduledRate(keras.optimizers.schedules.LearningRateSchedule):
    """A `learning_rate.Schedule` as a Keras schedule, computed in float32 inside the compiled step."""

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule = schedule

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the rate, scalar float32, of the update that follows `step`, scalar int."""
        return learning_rate(self.schedule, keras.ops.cast(step, "int32"), xp=keras.ops)

    def get_config(self) -> dict:
        return {"schedule": vars(self.schedule)}


class RMSprop(keras.optimizers.RMSprop):
    """RMSProp as in TensorFlow 1: the mean square starts at one.

    Not Keras' own, which starts it at zero: that makes the first updates 6 to 30 times larger. Both divide by
    sqrt(mean_square + epsilon) and put the learning rate inside the momentum.
    """

    def build(self, variables: list) -> None:
        """Makes the slots of `variables`."""
        if self.built:
            return
        super().build(variables)
        for mean_square in self._velocities:
            mean_square.assign(keras.ops.ones_like(mean_square))

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates a variable; gradient: float32 of its shape [...], learning_rate: scalar float32."""
        if not self.momentum:  # Keras makes no slot for the momentum then
            super().update_step(gradient, variable, learning_rate)
            return
        slot = self._get_variable_index(variable)
        # One operation instead of the ten that Keras' own update takes.
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
    """SGD with momentum as in TensorFlow 1.

    accumulator = momentum * accumulator + gradient; weight -= rate * accumulator. Not Keras' own, which accumulates
    rate * gradient: that differs wherever the rate changes.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates a variable; gradient: float32 of its shape [...], learning_rate: scalar float32."""
        if not self.momentum:  # Keras makes no slot for the momentum then
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
    """SGD with layer-wise adaptive rates (You, Gitman and Ginsburg 2017, arXiv:1708.03888) as in the reference.

    Every variable that is not SPARED has a rate of its own, rate * TRUST * |w| / (|g| + decay * |w| + epsilon), and the
    gradient g + decay * w. The rate is inside the momentum: accumulator = momentum * accumulator + rate * gradient;
    weight -= accumulator. Keras has no LARS.
    """

    TRUST = 0.001  # the reference's "eeta"

    def __init__(self, rate: ScheduledRate, momentum: float, decay: float, epsilon: float):
        super().__init__(rate, momentum=momentum)
        # Not named `weight_decay`: Keras would decay the weights a second time.
        self.decay, self.epsilon = decay, epsilon

    def build(self, variables: list) -> None:
        """Makes the slots of `variables`."""
        super().build(variables)
        self._spared = frozenset(index for index, variable in enumerate(variables) if variable.name in SPARED)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates a variable; gradient: float32 of its shape [...], learning_rate: scalar float32."""
        if self._get_variable_index(variable) not in self._spared:
            weight_norm, gradient_norm = tf.norm(variable), tf.norm(gradient)
            trust = self.TRUST * weight_norm / (gradient_norm + self.decay * weight_norm + self.epsilon)
            learning_rate *= tf.where((weight_norm > 0) & (gradient_norm > 0), trust, 1.0)
            gradient += self.decay * variable
        super().update_step(learning_rate * gradient, variable, tf.ones([]))


def make_optimizer(train_config: TrainConfig, schedule: Schedule) -> keras.optimizers.Optimizer:
    """Builds the optimizer that `train_config.optimizer` names. It sums gradients over replicas and clips the sum."""
    optimizer = OPTIMIZERS[train_config.optimizer](train_config, ScheduledRate(schedule))
    if train_config.gradient_clip_norm:
        _clip_sum(optimizer, train_config.gradient_clip_norm)
    return optimizer


def scale_rates(optimizer: keras.optimizers.Optimizer, factors: Sequence[float]) -> None:
    """Makes the optimizer multiply the learning rate by a factor for each of its variables.

    The decay of adamw keeps the unscaled rate: Keras applies it outside `update_step`.
    """
    # Not even a multiplication by 1 then: the compiled step stays what it was.
    if all(factor == 1 for factor in factors):
        return
    update_step = optimizer.update_step

    def update_scaled(gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        update_step(gradient, variable, learning_rate * factors[optimizer._get_variable_index(variable)])

    optimizer.update_step = update_scaled


def l2_factor(train_config: TrainConfig) -> float:
    """Returns the factor of sum(w^2) / 2 in the loss: 0 for adamw, which decays the weights by itself."""
    return 0.0 if train_config.optimizer == "adamw" else train_config.weight_decay


def _clip_sum(optimizer: keras.optimizers.Optimizer, norm: float) -> None:
    """Makes the optimizer scale all gradients to a global norm of at most `norm`, after summing them over replicas.

    Not Keras' `global_clipnorm`, which clips the gradients of each replica before the sum: the result would depend on
    the number of devices.
    """
    sum_over_replicas = optimizer._all_reduce_sum_gradients

    def sum_and_clip(gradients_and_variables: list) -> list:
        gradients, variables = zip(*sum_over_replicas(gradients_and_variables), strict=True)
        gradients, _ = tf.clip_by_global_norm(gradients, norm)
        return list(zip(gradients, variables, strict=True))

    optimizer._all_reduce_sum_gradients = sum_and_clip


def adamw(train_config: TrainConfig, rate: ScheduledRate) -> keras.optimizers.AdamW:
    """Builds Keras' AdamW. Its decay, rate * weight_decay * w, is apart from the gradient; SPARED weights have none."""
    optimizer = keras.optimizers.AdamW(rate, weight_decay=train_config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=list(SPARED))
    return optimizer


# --optimizer -> the optimizer that (options of training, learning rate) make. The keys are config's OPTIMIZERS.
OPTIMIZERS: dict[str, Callable[[TrainConfig, ScheduledRate], keras.optimizers.Optimizer]] = {
    "rmsprop": lambda options, rate: RMSprop(
        rate, rho=options.rmsprop_decay, momentum=options.momentum, epsilon=options.rmsprop_epsilon
    ),
    "momentum": lambda options, rate: Momentum(rate, momentum=options.momentum),
    "sgd": lambda options, rate: keras.optimizers.SGD(rate),
    "lars": lambda options, rate: LARS(rate, options.momentum, options.lars_weight_decay, options.lars_epsilon),
    "adamw": adamw,
}
