"""Predictions of a model for each image, in stored order: the most probable classes, not all of its output."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.input_clock import InputClock
from efficientnet_tpu.data.input_pipeline import eval_batches, explained_errors, first_unreadable
from efficientnet_tpu.data.split import Split
from efficientnet_tpu.evaluate import evaluation_image
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.model_inspection.statistics import Predictions
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.texts.known_errors import explained_out_of_memory
from efficientnet_tpu.training import ema

TOP = 5


def predict_split(
    strategy: tf.distribute.Strategy, model: keras.Model, architecture: Architecture, split: Split, config: Config
) -> tuple[Predictions, dict[str, float]]:
    """Passes once over the images of a split, on all devices of one program.

    Returns the predictions, and of them the results that `evaluate.Evaluator` gives: loss (cross-entropy, nats),
    top_1_accuracy and top_5_accuracy (0..1), num_images.
    """
    replicas = strategy.num_replicas_in_sync
    batch_size = distribution.fitting_batch_size(config.eval.eval_batch_size, split.num_images, strategy)
    num_steps = -(-split.num_images // batch_size)
    prepare = evaluation_image(config.data, architecture, split.is_reduced)
    predict = _make_predict(strategy, model, min(TOP, architecture.num_classes))
    ema.synchronize(model)
    parts, clock, flag = [], InputClock(), config.data.source
    half = max(1, batch_size // 2)
    with (
        explained_out_of_memory(lambda: f"--eval_batch_size={half}, with the same results"),
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
    *columns, losses = (np.concatenate(column) for column in zip(*parts, strict=True))
    predictions = Predictions(*columns)
    is_among = predictions.classes == predictions.labels[:, np.newaxis]
    return predictions, {
        "loss": float(np.mean(losses, dtype=np.float64)),
        "top_1_accuracy": float(np.mean(is_among[:, 0])),
        "top_5_accuracy": float(np.mean(is_among.any(axis=1))),
        "num_images": float(len(losses)),
    }


Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # of eval_batches: images, labels, weights


def _make_predict(
    strategy: tf.distribute.Strategy, model: keras.Model, top: int
) -> Callable[[list[Batch]], list[tuple[np.ndarray, ...]]]:
    """Returns a function over a batch for each replica.

    Its result is, for each: labels, classes, probabilities, label probabilities, losses, weights.
    """

    def step(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        logits = tf.cast(model(images, training=False), tf.float32)
        probabilities = tf.nn.softmax(logits)
        _, classes = tf.math.top_k(logits, top)  # in which two may differ whose probabilities are 1 and 1
        values, of_labels = (tf.gather(probabilities, one, batch_dims=1) for one in (classes, labels))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return labels, classes, values, of_labels, losses, weights

    on_replicas = tf.function(lambda *batch: strategy.run(step, args=batch), autograph=False)

    def predict(hand: list[Batch]) -> list[tuple[np.ndarray, ...]]:
        batch = strategy.experimental_distribute_values_from_function(
            lambda context: hand[context.replica_id_in_sync_group]
        )
        columns = [strategy.experimental_local_results(column) for column in on_replicas(*batch)]
        return [tuple(part.numpy() for part in of_replica) for of_replica in zip(*columns, strict=True)]

    return predict
