"""This project's float32 .tflite file under LiteRT."""

import itertools
from collections.abc import Iterator

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from peers.inference_batch import images
from peers.registry import InferenceSettings


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """It takes one image at a time."""
    interpreter = Interpreter(model_path=f"{settings.folder}/ours/model.tflite", num_threads=settings.workers)
    interpreter.allocate_tensors()
    [given], [wanted] = interpreter.get_input_details(), interpreter.get_output_details()
    batch = images(settings)

    def infer() -> np.ndarray:
        results = []
        for image in batch:
            interpreter.set_tensor(given["index"], image[np.newaxis])
            interpreter.invoke()
            results.append(interpreter.get_tensor(wanted["index"])[0])
        return np.stack(results)

    return "XNNPACK", (infer() for _ in itertools.repeat(None))
