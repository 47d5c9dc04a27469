"""The exported forms of a network, a run or an export, for the runtimes that are measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.preprocessing import make_preparation
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import formats
from efficientnet_tpu.exporting.classifier import Serving, load_serving
from efficientnet_tpu.exporting.inference_model import inference_model
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.configured import configured_architecture


def write(options: dict[str, Any], forms: Sequence[str], folder: str) -> dict[str, Any]:
    """Writes a run, or a network of random weights at ImageNet's classes, in the forms of `export`.

    Returns {"size": side of the images in pixels, "paths": {form: path}}.
    """
    config = with_options(Config(), options)
    serving = load_serving(config) if config.run.model_dir else _random(config)
    model = inference_model(serving.model)
    paths = {}
    for form in forms:
        directory = f"{folder}/{form}"
        tf.io.gfile.makedirs(directory)
        formats.write(
            form, model, serving, np.zeros([0, serving.resolution, serving.resolution, 3], np.uint8), directory
        )
        paths[form] = directory if form == "savedmodel" else formats.written_paths(form, directory)[0]
    return {"size": serving.resolution, "paths": paths}


def inspect(path: str, trust: bool) -> dict[str, Any]:
    """Returns {"size": side of the images in pixels} of an export. Raises UserError for anything else."""
    classifier = formats.load_exported(path, trust)
    if not classifier.prepare:
        raise UserError(f"--saved_model={path}: was written by an earlier version, without `prepare`. Export it again.")
    picture = tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)).numpy()
    return {"size": int(classifier.prepare([picture]).shape[1])}


def _random(config: Config) -> Serving:
    architecture = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    names = tuple(f"class {index}" for index in range(NUM_IMAGENET_CLASSES))
    preparation = make_preparation(config.data, architecture.resolution, architecture.interpolation)
    return Serving(build_model(architecture), names, preparation, 0)
