"""This project's SavedModel: the signature that takes pixels."""

import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from peers.inference_batch import images
from peers.registry import InferenceSettings


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """Needs TensorFlow alone."""
    tf.config.threading.set_intra_op_parallelism_threads(settings.workers)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(f"{settings.folder}/ours")
    classify, batch = loaded.signatures["images"], tf.constant(images(settings))

    def infer() -> np.ndarray:
        assert loaded  # signatures do not keep it alive
        return classify(images=batch)["probabilities"].numpy()

    return "signature images", (infer() for _ in itertools.repeat(None))
