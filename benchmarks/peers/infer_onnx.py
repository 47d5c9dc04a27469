"""This project's ONNX file under onnxruntime."""

import itertools
from collections.abc import Iterator

import numpy as np
from peers.inference_batch import images
from peers.registry import InferenceSettings

from efficientnet_tpu.speed.runtimes import RUNTIMES


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """uint8 in, normalisation inside."""
    return "uint8, NHWC", run(settings, "ours/model.onnx", images(settings))


def run(settings: InferenceSettings, file: str, batch: np.ndarray) -> Iterator[np.ndarray]:
    """Endless results for one batch; the file's one input takes it."""
    call = RUNTIMES["onnxruntime"].load(f"{settings.folder}/{file}", settings.workers)
    return (call(batch) for _ in itertools.repeat(None))
