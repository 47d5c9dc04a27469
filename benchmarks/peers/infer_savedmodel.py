"""This project's SavedModel: the signature that takes pixels."""

import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from peers.inference_batch import images
from peers.registry import InferenceSettings

from efficientnet_tpu.speed.runtimes import RUNTIMES


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """Needs TensorFlow alone."""
    tf.config.threading.set_inter_op_parallelism_threads(1)
    call = RUNTIMES["tensorflow"].load(f"{settings.folder}/ours", settings.workers)
    batch = images(settings)
    return "signature images", (call(batch) for _ in itertools.repeat(None))
