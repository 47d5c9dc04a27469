"""Predictions of a model for each image, in stored order: the most probable classes, not all of its output."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.input_clock import InputClock
from efficientnet_tpu.data.input_pipeline import eval_batches, explained_errors, first_unreadable
from efficientnet_tpu.evaluate import EvaluatedRun, evaluation_image
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.model_inspection.statistics import Predictions

TOP = 5


def predict_split(run: EvaluatedRun, config: Config) -> Predictions:
    """Passes once more over the images that were evaluated, on all devices of one program."""
    split, architecture = run.split, run.architecture
    replicas = run.strategy.num_replicas_in_sync
    batch_size = distribution.fitting_batch_size(config.eval.eval_batch_size, split.num_images, run.strategy)
    num_steps = -(-split.num_images // batch_size)
    prepare = evaluation_image(config.data, architecture, split.is_reduced)
    predict = _make_predict(run, min(TOP, architecture.num_classes))
    parts, clock, flag = [], InputClock(), config.data.source
    with (
        explained_errors(flag, lambda: first_unreadable(split, prepare)),
        clock.limited(flag, config.data.input_timeout),
    ):
        batches = iter(
            eval_batches(split, prepare, architecture.resolution, batch_size // replicas, num_steps * replicas)
        )
        for _ in range(num_steps):
            # One stream dealt out by hand: predictions come back in its order, on any number of devices and workers.
            hand = [clock.next(batches)[0] for _ in range(replicas)]
            for *columns, weights in predict(hand):
                parts.append(tuple(column[weights > 0] for column in columns))  # without padding
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # of eval_batches: images, labels, weights


def _make_predict(run: EvaluatedRun, top: int) -> Callable[[list[Batch]], list[tuple[np.ndarray, ...]]]:
    """Returns a function over a batch for each replica.

    Its result is, for each: labels, classes, probabilities, label probabilities, weights.
    """

    def step(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        probabilities = tf.nn.softmax(tf.cast(run.model(images, training=False), tf.float32))
        values, classes = tf.math.top_k(probabilities, top)
        return labels, classes, values, tf.gather(probabilities, labels, batch_dims=1), weights

    on_replicas = tf.function(lambda *batch: run.strategy.run(step, args=batch))

    def predict(hand: list[Batch]) -> list[tuple[np.ndarray, ...]]:
        batch = run.strategy.experimental_distribute_values_from_function(
            lambda context: hand[context.replica_id_in_sync_group]
        )
        columns = [run.strategy.experimental_local_results(column) for column in on_replicas(*batch)]
        return [tuple(part.numpy() for part in of_replica) for of_replica in zip(*columns, strict=True)]

    return predict
