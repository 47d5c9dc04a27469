"""Builds a network on Keras' JAX backend and writes its logits. Runs in an environment without TensorFlow.

    KERAS_BACKEND=jax python tests/support/jax_logits.py MODEL WEIGHTS.npz LOGITS.npy

WEIGHTS.npz: every weight of the network under its path, and `images`, uint8 [batch, height, width, 3].
"""

import importlib.util
import sys

import keras
import numpy as np

from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.compound_scaling import build_architecture


def main(name: str, weights_file: str, logits_file: str) -> None:
    assert importlib.util.find_spec("tensorflow") is None
    assert keras.backend.backend() == "jax"
    arrays = dict(np.load(weights_file))
    images = arrays.pop("images")
    model = build_model(build_architecture(name, num_classes=10))
    assert sorted(arrays) == sorted(weight.path for weight in model.weights)
    for weight in model.weights:
        weight.assign(arrays[weight.path])
    np.save(logits_file, model.predict_on_batch(images))  # compiled as one; op by op it would take minutes


if __name__ == "__main__":
    main(*sys.argv[1:])
