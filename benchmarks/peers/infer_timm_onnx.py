"""timm's network, exported by torch.onnx, under onnxruntime."""

from collections.abc import Iterator

import numpy as np
from peers.infer_onnx import run
from peers.inference_batch import normalised
from peers.registry import InferenceSettings


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """Normalised already."""
    return "float32, NCHW", run(settings, f"timm-{settings.batch_size}.onnx", normalised(settings))
