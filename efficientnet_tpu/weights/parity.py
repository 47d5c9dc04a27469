"""The comparison of an import with its source, run where the source's framework is installed.

Our model and the other framework's, which loads the file by its own means, compute logits of made-up pictures, and the
largest absolute difference counts. PyTorch runs in a process of its own: it is no requirement, and not every
environment can hold it beside TensorFlow.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.weights import keras_applications, timm_models, torch_subprocess
from efficientnet_tpu.weights.layer_specs import target_shapes
from efficientnet_tpu.weights.naming_schemes import EFFICIENTNET_PYTORCH, KERAS_APPLICATIONS, TIMM
from efficientnet_tpu.weights.readers.stored_tensor import READ_ERRORS
from efficientnet_tpu.weights.weight_file import WeightFile

# The accepted difference of logits, per unit of the largest: float32 sums of thousands of terms in another order.
TOLERANCE = 1e-4
_TIMEOUT_SECONDS = 900


@dataclass(frozen=True)
class Parity:
    """The result of a comparison; `difference` is None where nothing could be compared, and `note` gives the reason."""

    framework: str
    images: int
    difference: float | None
    largest_logit: float | None
    note: str = ""

    def __str__(self) -> str:
        if self.difference is None:
            return f"parity with {self.framework}: not measured: {self.note}"
        return (
            f"parity with {self.framework}: logits differ by at most {self.difference:.1e} on {self.images} pictures "
            f"(largest logit {self.largest_logit:.1f})"
        )

    def as_json(self) -> dict[str, object]:
        """Returns the entry for certificate.json."""
        return {**dataclasses.asdict(self), "tolerance": TOLERANCE}


class _NotComparedError(Exception):
    """The source's framework is not installed, or cannot load the file."""


def compare_logits(
    model: keras.Model,
    weight_file: WeightFile,
    architecture: Architecture,
    python: str,
    images: np.ndarray | None = None,
) -> Parity:
    """Compares the filled `model` with the file's own framework. Raises UserError if they disagree.

    python: the interpreter in which to look for PyTorch; empty: this one.
    images: uint8 [batch, size, size, 3], 0..255; by default `pictures`.
    """
    reference, framework = _find_reference(weight_file, architecture, python)
    if reference is None:
        return Parity(framework, 0, None, None, "nothing else that computes them can be asked")
    if target_shapes(architecture) != target_shapes(build_architecture(architecture.name, architecture.num_classes)):
        return Parity(framework, 0, None, None, "it has no network of this width and depth")
    images = pictures(architecture.resolution) if images is None else images
    try:
        expected = reference(images)
    except _NotComparedError as error:
        return Parity(framework, 0, None, None, str(error))
    logits = compute_logits(model, images)
    difference, largest = float(np.abs(logits - expected).max()), float(np.abs(expected).max())
    parity = Parity(framework, len(images), difference, largest)
    if not difference <= TOLERANCE * max(1.0, largest):  # written so that NaN is refused too
        raise UserError(f"{weight_file.path}: {parity}: more than {TOLERANCE:g} of it. Nothing was written.")
    return parity


def compute_logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes logits, one image at a time.

    A Keras model called directly keeps the outputs of all its layers until it is done, which for B7 at 600 pixels are
    gigabytes an image. A compiled function frees them.

    images: uint8 or float32 [batch, height, width, 3], 0..255.
    Returns float32 [batch, num_classes].
    """
    compute = tf.function(lambda image: model(image, training=False))
    return np.concatenate([compute(tf.constant(image[np.newaxis])).numpy() for image in images])


def pictures(size: int) -> np.ndarray:
    """Returns smooth shapes, a lattice, and both together with a photograph's grain, uint8 [3, size, size, 3], 0..255.

    The edges are not empty, because frameworks differ in padding. There is no pure noise: untrained networks answer it
    with logits so large that rounding decides them.
    """
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    waves = [np.sin(2 * np.pi * (3 * rows + k * columns)) + np.cos(9 * columns * rows + k) for k in range(3)]
    smooth = np.stack(waves, -1) * 60 + 128
    squares = (rows * 12 % 1 < 0.5) ^ (columns * 9 % 1 < 0.5)
    lattice = np.where(squares, 220, 30)[..., np.newaxis] * np.array([1, 0.7, 0.4])
    both = 0.6 * smooth[::-1] + 0.4 * lattice + random.integers(-6, 7, (size, size, 3))
    return np.stack([smooth, lattice, both]).clip(0, 255).astype(np.uint8)


def _find_reference(
    weight_file: WeightFile, architecture: Architecture, python: str
) -> tuple[Callable[[np.ndarray], np.ndarray] | None, str]:
    """Returns a function from uint8 images to the source's own logits, and the framework's name.

    The function is None where no other program computes them.
    """
    if weight_file.naming_scheme is KERAS_APPLICATIONS:
        framework = f"keras.applications {importlib.metadata.version('keras')}"
        if not weight_file.local_path:
            return None, f"{framework}, whose own download these weights are"

        def keras_logits(images: np.ndarray) -> np.ndarray:
            try:
                model, variance = keras_applications.load(
                    weight_file.local_path, architecture, architecture.num_classes
                )
                return compute_logits(model, keras_applications.images_without_rescaling(images, variance))
            except READ_ERRORS as error:
                reason = str(error).partition("\n")[0]
                raise _NotComparedError(f"it does not load the file: {reason:.200}") from error

        return keras_logits, framework
    if weight_file.naming_scheme is TIMM:
        request = {"loader": "timm", "name": timm_models.timm_name(architecture.name)}
    elif weight_file.naming_scheme is EFFICIENTNET_PYTORCH:
        lite = "-lite" in architecture.name
        request = {"loader": "efficientnet_lite_pytorch" if lite else "efficientnet_pytorch", "name": architecture.name}
    else:
        return None, weight_file.naming_scheme.title
    request |= {
        "weights": os.path.abspath(weight_file.local_path),
        "num_classes": architecture.num_classes,
        "mean": architecture.mean,
        "std": architecture.std,
    }
    return lambda images: torch_logits(request, images, python), request["loader"]


def torch_logits(request: dict[str, object], images: np.ndarray, python: str) -> np.ndarray:
    """Runs `torch_subprocess.py` in a process of its own, and returns PyTorch's logits.

    request: as `torch_subprocess.py` describes it. python: the interpreter, empty for this one.
    images: uint8 [batch, size, size, 3], 0..255. Returns float32 [batch, num_classes].
    """
    if not python and importlib.util.find_spec("torch") is None:
        raise _NotComparedError("PyTorch is not installed; --parity_python=FILE names an interpreter that has it")
    with tempfile.TemporaryDirectory() as directory:
        question, answer = os.path.join(directory, "question.npz"), os.path.join(directory, "answer.npy")
        np.savez(question, images=images, request=np.array(json.dumps(request)))
        command = [python or sys.executable, torch_subprocess.__file__, question, answer]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"--parity_python={command[0]}: cannot be run: {error}") from error
        if done.returncode == torch_subprocess.NOT_INSTALLED:
            raise _NotComparedError(f"{done.stdout.strip()} in {command[0]}")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{command[0]}: PyTorch could not load the weights: {last:.300}")
        return np.load(answer)
