"""This project's ONNX file under OpenVINO."""

import itertools
from collections.abc import Iterator

import numpy as np
import openvino
from peers.inference_batch import images
from peers.registry import InferenceSettings


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """float32, as the others: by itself it would take bfloat16 where the CPU has it."""
    options = {"INFERENCE_NUM_THREADS": settings.workers, "INFERENCE_PRECISION_HINT": "f32"}
    batch = images(settings)
    model = openvino.Core().read_model(f"{settings.folder}/ours/model.onnx")
    model.reshape(list(batch.shape))
    compiled = openvino.Core().compile_model(model, "CPU", options)
    return "float32", (compiled(batch)[0] for _ in itertools.repeat(None))
