"""This project's `predict`, without its start: files in, lines of JSON out, over and over."""

import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from peers.registry import PredictSettings

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.decoding.image_batches import BatchSize
from efficientnet_tpu.data.parallel_map import one_ahead
from efficientnet_tpu.data.preprocessing import Preparation
from efficientnet_tpu.display.prediction_output import opened_file
from efficientnet_tpu.exporting import classifier, formats
from efficientnet_tpu.exporting.classifier import Classifier, Serving
from efficientnet_tpu.exporting.inference_model import inference_model
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.predict import Batch, expand, predict, prepared_batches

NUM_CLASSES, TOP_K = 1000, 5


def build(settings: PredictSettings) -> tuple[str, Iterator[np.ndarray]]:
    """The stages as predict_paths puts them together."""
    return f"{settings.form}, one batch ahead", _answers(settings)


def _answers(settings: PredictSettings) -> Iterator[np.ndarray]:
    model = load(settings)
    with opened_file(f"{settings.folder}/predictions.jsonl") as writer:
        for batch in one_ahead(endless_batches(settings, model)):
            found, _ = predict(model, batch, TOP_K)
            writer.write(found)
            yield np.array([prediction.probabilities for prediction in found])


def endless_batches(settings: PredictSettings, model: Classifier) -> Iterator[Batch]:
    """Yields the prepared images of --data_dir, over and over."""
    paths = itertools.cycle(expand([settings.data_dir]))
    size = BatchSize(settings.batch_size, settings.batch_size)
    return prepared_batches(model, paths, size, lambda unreadable: None)


def load(settings: PredictSettings) -> Classifier:
    """Makes a network of random weights in the form that is asked for: time does not depend on them."""
    tf.config.threading.set_intra_op_parallelism_threads(settings.workers)
    config = with_options(Config(), {"model": settings.model, "resolution": settings.size})
    model = build_model(configured_architecture(config.model, NUM_CLASSES))
    names = tuple(f"class {index}" for index in range(NUM_CLASSES))
    serving = Serving(model, names, Preparation(settings.size, 32), 0)
    if settings.form == "run":
        return classifier.make_classifier(serving, classifier.FROZEN_FROM)
    directory = f"{settings.folder}/{settings.form}"
    tf.io.gfile.makedirs(directory)
    formats.write(
        settings.form, inference_model(model), serving, np.zeros([0, settings.size, settings.size, 3]), directory
    )
    return formats.load_written(settings.form, directory).classifier
