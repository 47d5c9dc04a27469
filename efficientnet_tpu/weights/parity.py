"""Whether an import computes what its source computes: measured where the source's framework is installed.

The largest |difference| of logits on made-up pictures, between our model and the other framework's with the file loaded
by its own means. PyTorch's side runs in a process of its own: it is no requirement, and not every environment bears it
beside TensorFlow.
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

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.weights import keras_applications, timm_models, torch_subprocess
from efficientnet_tpu.weights.layer_specs import target_shapes
from efficientnet_tpu.weights.logits import logits_of
from efficientnet_tpu.weights.naming_schemes import EFFICIENTNET_PYTORCH, KERAS_APPLICATIONS, TIMM
from efficientnet_tpu.weights.readers.stored_tensor import READ_ERRORS
from efficientnet_tpu.weights.weight_file import Source

# Of logits, per unit of the largest: float32 sums of thousands of terms in another order.
TOLERANCE = 1e-4
_SECONDS = 900


@dataclass(frozen=True)
class Parity:
    """What was compared, and what came out; `difference` is None where nothing could be compared, and `note` why."""

    framework: str
    images: int
    difference: float | None
    largest_logit: float | None
    note: str = ""

    def line(self) -> str:
        """For people."""
        if self.difference is None:
            return f"parity with {self.framework}: not measured: {self.note}"
        return (
            f"parity with {self.framework}: logits differ by at most {self.difference:.1e} on {self.images} pictures "
            f"(largest logit {self.largest_logit:.1f})"
        )


def compare(
    model: keras.Model, source: Source, architecture: Architecture, python: str, images: np.ndarray | None = None
) -> Parity:
    """Compares the filled `model` with the source's own framework. Raises UserError when they disagree.

    python: the interpreter to look for PyTorch in; empty: this one. images: uint8 [n, size, size, 3]; by default
    `pictures`.
    """
    reference, framework = _reference(source, architecture, python)
    if reference is None:
        return Parity(framework, 0, None, None, "nothing else that computes them can be asked")
    if target_shapes(architecture) != target_shapes(build_architecture(architecture.name, architecture.num_classes)):
        return Parity(framework, 0, None, None, "it has no network of this width and depth")
    images = pictures(architecture.resolution) if images is None else images
    try:
        expected = reference(images)
    except _NotAskedError as error:
        return Parity(framework, 0, None, None, str(error))
    logits = logits_of(model, images)
    difference, largest = float(np.abs(logits - expected).max()), float(np.abs(expected).max())
    parity = Parity(framework, len(images), difference, largest)
    if not difference <= TOLERANCE * max(1.0, largest):  # so that nan is refused too
        raise UserError(f"{source.path}: {parity.line()}: more than {TOLERANCE:g} of it. Nothing was written.")
    return parity


def pictures(size: int) -> np.ndarray:
    """uint8 [3, size, size, 3]: smooth shapes, a lattice, and both with a photograph's grain; the edges are not empty.

    No pure noise: untrained networks answer to it with numbers so large that rounding decides them.
    """
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    waves = [np.sin(2 * np.pi * (3 * rows + k * columns)) + np.cos(9 * columns * rows + k) for k in range(3)]
    smooth = np.stack(waves, -1) * 60 + 128
    squares = (rows * 12 % 1 < 0.5) ^ (columns * 9 % 1 < 0.5)
    lattice = np.where(squares, 220, 30)[..., np.newaxis] * np.array([1, 0.7, 0.4])
    both = 0.6 * smooth[::-1] + 0.4 * lattice + random.integers(-6, 7, (size, size, 3))
    return np.stack([smooth, lattice, both]).clip(0, 255).astype(np.uint8)


class _NotAskedError(Exception):
    """The source's framework is not there, or cannot load the file."""


def _reference(
    source: Source, architecture: Architecture, python: str
) -> tuple[Callable[[np.ndarray], np.ndarray] | None, str]:
    """What computes the source's own logits of uint8 images, and its name; None where no program does."""
    if source.naming is KERAS_APPLICATIONS:
        framework = f"keras.applications {importlib.metadata.version('keras')}"
        if not source.file:
            return None, f"{framework}, whose own download these weights are"
        return lambda images: _keras_logits(source.file, architecture, images), framework
    if source.naming is TIMM:
        request = {"loader": "timm", "name": timm_models.architecture_name(architecture.name)}
    elif source.naming is EFFICIENTNET_PYTORCH:
        lite = "-lite" in architecture.name
        request = {"loader": "efficientnet_lite_pytorch" if lite else "efficientnet_pytorch", "name": architecture.name}
    else:
        return None, source.naming.title
    request |= {
        "weights": os.path.abspath(source.file),
        "num_classes": architecture.num_classes,
        "mean": architecture.mean,
        "std": architecture.std,
    }
    return lambda images: _torch_logits(request, images, python), request["loader"]


def _keras_logits(file: str, architecture: Architecture, images: np.ndarray) -> np.ndarray:
    try:
        return keras_applications.logits(file, architecture, architecture.num_classes, images)
    except READ_ERRORS as error:
        raise _NotAskedError(f"it does not load the file: {str(error).partition(chr(10))[0]:.200}") from error


def _torch_logits(request: dict[str, object], images: np.ndarray, python: str) -> np.ndarray:
    """PyTorch's logits, by `torch_subprocess.py` in a process of its own."""
    if not python and importlib.util.find_spec("torch") is None:
        raise _NotAskedError("PyTorch is not installed; --parity_python=FILE names an interpreter that has it")
    with tempfile.TemporaryDirectory() as directory:
        question, answer = os.path.join(directory, "question.npz"), os.path.join(directory, "answer.npy")
        np.savez(question, images=images, request=np.array(json.dumps(request)))
        command = [python or sys.executable, torch_subprocess.__file__, question, answer]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"--parity_python={command[0]}: cannot be run: {error}") from error
        if done.returncode == torch_subprocess.NOT_INSTALLED:
            raise _NotAskedError(f"{done.stdout.strip()} in {command[0]}")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{command[0]}: PyTorch could not load the weights: {last:.300}")
        return np.load(answer)


def as_json(parity: Parity) -> dict[str, object]:
    """For certificate.json."""
    return {**dataclasses.asdict(parity), "tolerance": TOLERANCE}
