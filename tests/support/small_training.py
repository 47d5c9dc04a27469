"""A training small enough for any test: every kind of layer once, a batch that can be learnt, state, step and loop."""

import dataclasses

import numpy as np

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.models.architecture import MBConvSpec
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.training.learning_rate import Schedule

BATCH_SIZE = 32
NUM_CLASSES = 5
MIXING = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "random_erasing": 0.25}


def draw_batch():
    """Images uint8 [BATCH_SIZE, 32, 32, 3] and labels int32 [BATCH_SIZE]."""
    draw = np.random.default_rng(0)
    labels = np.arange(BATCH_SIZE, dtype="int32") % NUM_CLASSES
    images = draw.integers(0, 256, (BATCH_SIZE, 32, 32, 3)).astype("uint8")
    images[..., 0] = 50 * labels[:, np.newaxis, np.newaxis]  # something to learn
    return images, labels


def small(dropout_rate=0.2, drop_rate=0.5):
    """Every kind of layer once, and no more, so that it compiles in a second or two."""
    fields = ("stage", "input_filters", "filters", "kernel_size", "strides", "expand_ratio", "se_filters", "drop_rate")
    rows = [
        (1, 8, 8, 3, 1, 1, 2, drop_rate),
        (2, 8, 8, 3, 2, 1, 0, 0.0),
        (3, 8, 8, 3, 2, 1, 0, 0.0),
        (4, 8, 8, 3, 2, 1, 0, 0.0),
        (6, 8, 16, 5, 2, 4, 2, 0.0),
    ]
    return dataclasses.replace(
        build_architecture("efficientnet-nano", num_classes=NUM_CLASSES, dropout_rate=dropout_rate),
        stem_filters=8,
        blocks=tuple(MBConvSpec(**dict(zip(fields, row, strict=True))) for row in rows),
        head_filters=32,
    )


def constant(rate):
    return Schedule("constant", initial=rate, warmup_steps=0, decay_steps=1, decay_factor=1, total_steps=100)


class Training:
    """A state, its step and its compiled loop, fed the batches of `batch` in turn, again and again."""

    def __init__(self, tf, train_step, architecture, batch, *, schedule=None, rate=0.01, step_seed=0, **options):
        from efficientnet_tpu.hardware.distribution import connect

        self.tf = tf
        config = with_options(Config(), {"train_batch_size": BATCH_SIZE} | options)
        self.strategy = connect(config.hardware)
        replicas = self.strategy.num_replicas_in_sync
        self.state = train_step.make_state(self.strategy, architecture, config, schedule or constant(rate))
        self.step = train_step.make_train_step(self.state, config.train, step_seed, replicas)
        self.loop = train_step.make_train_loop(self.strategy, self.step)
        per_replica = config.train.train_batch_size // replicas
        data = tf.data.Dataset.from_tensor_slices(batch).batch(per_replica, drop_remainder=True).repeat()
        self.iterator = iter(self.strategy.distribute_datasets_from_function(lambda context: data))

    def run(self, steps):
        self.loop(self.iterator, self.tf.constant(steps))

    def run_eagerly(self, steps):
        """The same, without the seconds (on four replicas up to a minute) of compilation."""
        for _ in range(steps):
            self.strategy.run(self.step, args=next(self.iterator))

    def values(self):
        """Everything a step changes, as numpy: the model's weights, their averages, the optimizer's slots."""
        state = self.state
        return {
            "model": [weight.numpy() for weight in state.model.weights],
            "average": [weight.numpy() for weight in state.average.weights],
            "optimizer": [variable.numpy() for variable in state.optimizer.variables],
        }
