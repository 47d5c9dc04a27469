"""This project's ONNX file under onnxruntime."""

import itertools
from collections.abc import Iterator

import numpy as np
import onnxruntime
from peers.inference_batch import images
from peers.registry import InferenceSettings


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """uint8 in, normalisation inside."""
    return "uint8, NHWC", run(settings, "ours/model.onnx", images(settings))


def run(settings: InferenceSettings, file: str, batch: np.ndarray) -> Iterator[np.ndarray]:
    """Endless results for one batch; the file's one input takes it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.workers
    # A waiting thread that spins would be counted as work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(f"{settings.folder}/{file}", options, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    return (session.run(None, {given.name: batch})[0] for _ in itertools.repeat(None))
