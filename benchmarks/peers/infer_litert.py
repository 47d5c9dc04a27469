"""This project's float32 .tflite file under LiteRT."""

import itertools
from collections.abc import Iterator

import numpy as np
from peers.inference_batch import images
from peers.registry import InferenceSettings

from efficientnet_tpu.speed.runtimes import RUNTIMES


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """It takes one image at a time."""
    call = RUNTIMES["litert"].load(f"{settings.folder}/ours/model.tflite", settings.workers)
    batch = images(settings)
    return "XNNPACK", (call(batch) for _ in itertools.repeat(None))
