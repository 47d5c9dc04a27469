"""The runtimes that inference is measured in: what each reads, and how it is loaded into a process of its own.

Only the runtime itself is imported when it is loaded: the memory of the process is what a service would need.
"""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Call = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    modules: of which one is enough, by the names to import. extra: that installs it. form: of `export`, in which a run
    is given to it. endings: of exports that it reads; "" is a SavedModel's directory. load: (path, threads) -> function
    of images uint8 [batch, size, size, 3] to probabilities float32, or of 8-bit integers, [batch, num_classes].
    distributions: whose versions a report names.
    """

    modules: tuple[str, ...]
    extra: str
    form: str
    endings: tuple[str, ...]
    load: Callable[[str, int], Call]
    distributions: tuple[str, ...]

    @property
    def is_installed(self) -> bool:
        return any(importlib.util.find_spec(module) for module in self.modules)


def _load_tensorflow(path: str, threads: int) -> Call:
    from efficientnet_tpu.hardware import tensorflow_startup

    tensorflow_startup.import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    if path.endswith(".keras"):
        import keras

        model: Any = keras.models.load_model(path, compile=False)
        call = tf.function(lambda images: model(images, training=False), autograph=False)
        return lambda images: call(tf.constant(images)).numpy()
    loaded = tf.saved_model.load(path)
    # A signature does not keep its object alive. This closure does.
    return lambda images: loaded.signatures["images"](images=tf.constant(images))["probabilities"].numpy()


def _load_litert(path: str, threads: int) -> Call:
    if importlib.util.find_spec("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter
    else:
        from efficientnet_tpu.hardware import tensorflow_startup

        tensorflow_startup.import_tensorflow()
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # noqa: N806 - the name of a class
    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    [given], [wanted] = interpreter.get_input_details(), interpreter.get_output_details()

    def call(images: np.ndarray) -> np.ndarray:
        answers = []  # one by one: a larger batch takes as long for an image
        for image in images:
            interpreter.set_tensor(given["index"], image[np.newaxis])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(wanted["index"]))
        return np.concatenate(answers)

    return call


def _load_onnxruntime(path: str, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # A waiting thread that spins would be counted as work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    return lambda images: session.run(None, {given.name: images})[0]


RUNTIMES = {  # the keys are config.commands.RUNTIME_NAMES
    "tensorflow": Runtime(
        ("tensorflow",), "cpu", "savedmodel", ("", ".keras"), _load_tensorflow, ("tensorflow", "keras")
    ),
    "litert": Runtime(
        ("ai_edge_litert", "tensorflow"), "tflite", "tflite", (".tflite",), _load_litert, ("ai-edge-litert",)
    ),
    "onnxruntime": Runtime(("onnxruntime",), "onnx", "onnx", (".onnx",), _load_onnxruntime, ("onnxruntime",)),
}


def runtime_of(export: str) -> str | None:
    """Returns the name of the runtime that reads an export, by the ending of its path; None for an unknown ending."""
    ending = os.path.splitext(export.rstrip("/"))[1]
    known = {ending: name for name, runtime in RUNTIMES.items() for ending in runtime.endings}
    return known.get(ending, "tensorflow" if os.path.isdir(export) else None)
