"""keras.applications under compile and fit, as a user would set up the same recipe."""

import itertools
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from peers.registry import TrainSettings
from peers.train_batch import EMA_DECAY, EPSILON, L2, LABEL_SMOOTHING, MOMENTUM, NUM_CLASSES, RHO, batch, learning_rate


def build(settings: TrainSettings) -> tuple[str, Iterator[np.ndarray]]:
    """Not compiled by XLA, which is several times slower on CPUs, and not Keras' default either."""
    tf.config.threading.set_intra_op_parallelism_threads(settings.workers)
    model = compiled_model(settings)
    images, labels = batch(settings)
    batches = tf.data.Dataset.from_tensors((images, np.eye(NUM_CLASSES, dtype="float32")[labels])).repeat()

    def fit() -> np.ndarray:
        history = model.fit(batches, epochs=1, steps_per_epoch=settings.steps, verbose=0)
        return np.float32(history.history["loss"][0])

    return "compile, fit", (fit() for _ in itertools.repeat(None))


def compiled_model(settings: TrainSettings) -> keras.Model:
    """Its dropout and stochastic depth are the reference's already."""
    name = settings.model.replace("efficientnet-b", "EfficientNetB")
    make, shape = getattr(keras.applications, name), (settings.size, settings.size, 3)
    model = make(weights=None, input_shape=shape, classes=NUM_CLASSES, classifier_activation=None)
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.trainable_weights:
                weight.regularizer = keras.regularizers.L2(L2 / 2)
    ema = {"use_ema": True, "ema_momentum": EMA_DECAY} if settings.ema else {}
    model.compile(
        optimizer=keras.optimizers.RMSprop(learning_rate(settings), RHO, MOMENTUM, EPSILON, **ema),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=LABEL_SMOOTHING),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model
