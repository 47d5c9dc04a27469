"""The compiled part of training: the state, the update of one step, and the loop over steps on the device.

`make_train_step` is the only training step: tests, benchmarks and ahead-of-time compilation use it too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.data.augment.mixup import make_mix
from efficientnet_tpu.data.input_clock import InputClock
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.fused.connect import connect
from efficientnet_tpu.models.layers import batch_norm_group_size, dropout_seed
from efficientnet_tpu.training import ema
from efficientnet_tpu.training.fine_tuning import freeze, frozen_parts, learning_rate_factors
from efficientnet_tpu.training.gradient_accumulation import (
    in_micro_batches,
    require_even_micro_batches,
    require_no_collective,
)
from efficientnet_tpu.training.learning_rate import Schedule
from efficientnet_tpu.training.loss import decayed_weights, smoothed_cross_entropy
from efficientnet_tpu.training.optimizer import l2_factor, make_optimizer, scale_rates
from efficientnet_tpu.training.rematerialization import training_pass


@dataclass(frozen=True)
class State:
    """Everything that training changes: the model, its average, the optimizer and the training metrics.

    accuracy: with mixup or cutmix it compares with the label that has the larger share of an image.
    """

    model: keras.Model
    average: keras.Model
    optimizer: keras.optimizers.Optimizer
    loss: keras.metrics.Mean
    accuracy: keras.metrics.SparseCategoricalAccuracy


def make_state(
    strategy: tf.distribute.Strategy, architecture: Architecture, config: Config, schedule: Schedule
) -> State:
    """Builds the state of a new run, initialized by the seed of the run."""
    require_possible(strategy, architecture, config.train)
    group_size = batch_norm_group_size(strategy.num_replicas_in_sync)
    keras.utils.set_random_seed(config.run.seed)
    with strategy.scope(), distribution.precision(distribution.precision_policy(config.hardware, strategy)):
        state = State(
            model=build_model(architecture, group_size),
            average=build_model(architecture, group_size),
            optimizer=make_optimizer(config.train, schedule),
            loss=keras.metrics.Mean(),
            accuracy=keras.metrics.SparseCategoricalAccuracy(),
        )
        for model in (state.model, state.average):
            if config.train.fused_gradients == "auto":
                connect(model, architecture)
            freeze(model, architecture, config.train)
        # After freezing: frozen weights have no slots.
        state.optimizer.build(state.model.trainable_variables)
    scale_rates(state.optimizer, learning_rate_factors(state.model, architecture, config.train.layer_lr_decay))
    ema.start(state.average, state.model)
    return state


def require_possible(strategy: tf.distribute.Strategy, architecture: Architecture, train_config: TrainConfig) -> None:
    """Raises UserError where this network on these devices cannot be trained so. Quick, so that it can come first."""
    frozen_parts(train_config.freeze, architecture)
    require_even_micro_batches(train_config, strategy.num_replicas_in_sync)
    require_no_collective(strategy, train_config, batch_norm_group_size(strategy.num_replicas_in_sync))


def make_train_step(
    state: State, train_config: TrainConfig, seed: int, num_replicas: int, class_weights: np.ndarray | None = None
) -> Callable[..., None]:
    """Returns the update of one step in one replica, a function of (images, labels).

    images: uint8 [batch, size, size, 3], 0..255, the share of the replica.
    labels: int32 [batch].
    class_weights: float32 [num_classes], see `smoothed_cross_entropy`.

    The optimizer sums gradients over replicas, so the loss of a replica is its share of the global mean. Images are
    mixed (see `mixup.make_mix`) within a replica, before the batch is cut into micro-batches.
    """
    model, optimizer = state.model, state.optimizer
    forward = training_pass(model, train_config.rematerialize)
    # Everything that depends on an option is chosen here: the compiled step has no branch.
    weights = model.trainable_variables
    decayed = decayed_weights(model)
    mix = make_mix(train_config)
    l2_weight = l2_factor(train_config)
    num_classes = model.output_shape[-1]
    num_micro_batches = train_config.gradient_accumulation_steps

    def gradients_of_micro_batch(
        images: tf.Tensor, targets: tf.Tensor, micro_seed: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape, dropout_seed(micro_seed):
            tape.watch([weight.value for weight in weights])  # frozen weights then need no backward pass
            logits = forward(images)
            losses = smoothed_cross_entropy(targets, logits, train_config.label_smoothing, class_weights)
            # As in the reference the L2 term is part of the loss, once for all kernels, not of the optimizer.
            l2 = l2_weight * tf.add_n([tf.nn.l2_loss(weight) for weight in decayed])
            # Divided by the global batch: gradients are summed over replicas and micro-batches, the L2 term too.
            loss = tf.reduce_sum(losses) / train_config.batch_size + l2 / (num_replicas * num_micro_batches)
        return tape.gradient(loss, weights), losses + l2, logits

    gradients_of = in_micro_batches(gradients_of_micro_batch, weights, num_micro_batches)

    @tf.autograph.experimental.do_not_convert  # rewriting it takes seconds, and it has no loop
    def train_step(images: tf.Tensor, labels: tf.Tensor) -> None:
        # All randomness of a step follows from this seed: a step that is repeated after a restart draws the same.
        step_seed = _step_seed(seed, optimizer.iterations)
        images, targets = mix(images, tf.one_hot(labels, num_classes), step_seed)
        gradients, losses, logits = gradients_of(images, targets, step_seed)
        # Applying adds 1 to `iterations`: the average counts this update already, as in the reference.
        optimizer.apply(gradients, weights)
        ema.update(state.average, model, optimizer.iterations, train_config.moving_average_decay)
        # A mixture counts as its larger share: argmax of the targets.
        state.loss.update_state(losses)
        state.accuracy.update_state(tf.argmax(targets, axis=-1, output_type=tf.int32), logits)

    return train_step


def _step_seed(seed: int, step: tf.Tensor) -> tf.Tensor:
    """Returns int32 [2], a seed for each step and replica, the same in a repeated run. step: int scalar."""
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    step_seed = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0]), tf.cast(step, tf.int32))
    return tf.random.experimental.stateless_fold_in(step_seed, tf.cast(replica, tf.int32))


def make_train_loop(
    strategy: tf.distribute.Strategy, train_step: Callable[..., None], clock: InputClock | None = None
) -> Callable[..., tf.Tensor]:
    """Returns the compiled function of (iterator, number of steps, scalar int32) that runs the steps.

    The function returns the seconds it waited for data, scalar float64. clock: measures them.
    """
    clock = clock or InputClock()

    @tf.function
    def train_loop(iterator: tf.data.Iterator, num_steps: tf.Tensor) -> tf.Tensor:
        waited = tf.constant(0.0, tf.float64)
        for _ in tf.range(num_steps):
            batch, seconds = clock.next(iterator)
            waited += seconds
            strategy.run(train_step, args=batch)
        return waited

    return train_loop
