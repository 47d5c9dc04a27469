"""The comparison of an import with its source, run where the source's framework is installed.

Our model and the other framework's, which loads the file by its own means, compute logits of made-up pictures, and the
largest absolute difference counts. How large it may be depends on the weights: some magnify rounding a thousand times
more than others. So the source also computes the pictures with every pixel multiplied by 1 + 1e-6, and the difference
is measured by how far that moves the source itself.

PyTorch runs in a process of its own: it is no requirement, and not every environment can hold it beside TensorFlow.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.storage.temporary_directory import temporary_directory
from efficientnet_tpu.weights import keras_applications, timm_models, torch_subprocess
from efficientnet_tpu.weights.layer_specs import target_shapes
from efficientnet_tpu.weights.naming_schemes import EFFICIENTNET_PYTORCH, KERAS_APPLICATIONS
from efficientnet_tpu.weights.readers.stored_tensor import READ_ERRORS
from efficientnet_tpu.weights.weight_file import WeightFile

# The perturbation, a few units in the last place of float32, and what is accepted: so many times the source's own
# movement by it, and so much of the largest logit. Keras' B0 and B2 with random weights of all kinds differed from ours
# by 0.2 to 2.2 times their movement; a wrong epsilon, padding or normalization by thousands.
PERTURBATION = 1e-6
MOVEMENTS = 10
FLOOR = 1e-5
# Above this share of the largest logit, what is accepted shows little.
_WEAK = 0.05
_TIMEOUT_SECONDS = 900


@dataclass(frozen=True)
class Parity:
    """The result of a comparison; `difference` is None where nothing could be compared, and `note` gives the reason.

    difference: between our logits and the source's, the largest of all.
    movement: of the source's own logits by PERTURBATION, the largest of all.
    """

    framework: str
    images: int
    difference: float | None
    largest_logit: float | None
    movement: float | None = None
    note: str = ""

    @property
    def accepted(self) -> float:
        """Returns the largest difference that is accepted."""
        return MOVEMENTS * (self.movement or 0.0) + FLOOR * (self.largest_logit or 0.0)

    def __str__(self) -> str:
        if self.difference is None:
            return f"parity with {self.framework}: not measured: {self.note}"
        note = f". {self.note}" if self.note else ""
        return (
            f"parity with {self.framework}: logits differ by at most {self.difference:.1e} on {self.images} pictures. "
            f"The source's own move by {self.movement:.1e} when pixels are multiplied by 1 + {PERTURBATION:g}; "
            f"accepted are {MOVEMENTS} times that and {FLOOR:g} of the largest logit, {self.largest_logit:.3g}: "
            f"{self.accepted:.1e}{note}"
        )

    def as_json(self) -> dict[str, object]:
        """Returns the entry for certificate.json."""
        accepted = None if self.difference is None else self.accepted
        rule = {"perturbation": PERTURBATION, "movements": MOVEMENTS, "floor": FLOOR}
        return {**dataclasses.asdict(self), **rule, "accepted": accepted}


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
        return Parity(framework, 0, None, None, note="nothing else that computes them can be asked")
    own_shapes = target_shapes(build_architecture(architecture.name, architecture.num_classes))
    if weight_file.graph is None and target_shapes(architecture) != own_shapes:
        return Parity(framework, 0, None, None, note="it has no network of this width and depth")
    if images is None:
        images = pictures(*(keras_applications.input_size(weight_file.graph) or (architecture.resolution,) * 2))
    perturbed = images.astype(np.float64) * (1 + PERTURBATION)
    try:
        expected = reference(np.concatenate([images, perturbed]))
    except _NotComparedError as error:
        return Parity(framework, 0, None, None, note=str(error))
    expected, moved = np.split(expected, 2)
    parity = judge(framework, compute_logits(model, images), expected, moved)
    # Written so that NaN is refused too.
    if not parity.difference <= parity.accepted:
        raise UserError(f"{weight_file.path}: {parity}. It is more than that. Nothing was written.")
    return parity


def judge(framework: str, logits: np.ndarray, expected: np.ndarray, moved: np.ndarray) -> Parity:
    """Returns the comparison of our logits with the source's.

    logits, expected, moved: float [batch, classes]: ours, the source's, and the source's of perturbed pictures. One
    class of the source's is the second of two of ours, whose first logit is 0.
    """
    if expected.shape[1] == 1:
        expected, moved = (np.pad(one, ((0, 0), (1, 0))) for one in (expected, moved))
    difference, largest, movement = (
        float(np.abs(one).max()) for one in (logits - expected, expected, moved - expected)
    )
    parity = Parity(framework, len(logits), difference, largest, movement)
    if parity.accepted > _WEAK * largest:
        note = "These weights magnify rounding so much that the comparison shows little"
        return dataclasses.replace(parity, note=note)
    return parity


def compute_logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes logits, one image at a time.

    A Keras model called directly keeps the outputs of all its layers until it is done, which for B7 at 600 pixels are
    gigabytes an image. A compiled function frees them.

    images: uint8 or float [batch, height, width, 3], 0..255.
    Returns float32 [batch, num_classes].
    """
    compute = tf.function(lambda image: model(image, training=False), autograph=False)
    return np.concatenate([compute(tf.constant(image[np.newaxis], tf.float32)).numpy() for image in images])


def pictures(height: int, width: int) -> np.ndarray:
    """Returns smooth shapes, a lattice, and both together with a photograph's grain.

    Returns uint8 [3, height, width, 3], 0..255.

    The edges are not empty, because frameworks differ in padding. There is no pure noise: untrained networks answer it
    with logits so large that rounding decides them.
    """
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    waves = [np.sin(2 * np.pi * (3 * rows + k * columns)) + np.cos(9 * columns * rows + k) for k in range(3)]
    smooth = np.stack(waves, -1) * 60 + 128
    squares = (rows * 12 % 1 < 0.5) ^ (columns * 9 % 1 < 0.5)
    lattice = np.where(squares, 220, 30)[..., np.newaxis] * np.array([1, 0.7, 0.4])
    both = 0.6 * smooth[::-1] + 0.4 * lattice + random.integers(-6, 7, (height, width, 3))
    return np.stack([smooth, lattice, both]).clip(0, 255).astype(np.uint8)


def _find_reference(
    weight_file: WeightFile, architecture: Architecture, python: str
) -> tuple[Callable[[np.ndarray], np.ndarray] | None, str]:
    """Returns a function from images to the source's own logits, and the framework's name.

    The function takes float64 [batch, size, size, 3], 0..255. It is None where no other program computes them.
    """
    if weight_file.naming_scheme is KERAS_APPLICATIONS:
        framework = f"keras.applications {importlib.metadata.version('keras')}"
        if not weight_file.local_path:
            return None, f"{framework}, whose own download these weights are"
        return lambda images: _keras_logits(weight_file, architecture, images), framework
    request: dict[str, object]
    mean, std = architecture.mean, architecture.std
    if weight_file.source_model:
        request = {"loader": "timm", "name": str(weight_file.source_model)}
        if timm_models.has_own_pixels(weight_file.source_model, mean, std):
            mean = std = None  # timm's own constants, which ours are compared with too
    elif weight_file.naming_scheme is EFFICIENTNET_PYTORCH:
        lite = "-lite" in architecture.name
        request = {"loader": "efficientnet_lite_pytorch" if lite else "efficientnet_pytorch", "name": architecture.name}
    else:
        return None, weight_file.naming_scheme.title
    request |= {
        "weights": os.path.abspath(weight_file.local_path),
        "num_classes": 1 if weight_file.has_single_output else architecture.num_classes,
        "tensors": {name: weight_file.in_file.get(name) for name in weight_file.tensors},
        "mean": mean,
        "std": std,
    }
    return lambda images: torch_logits(request, images, python), str(request["loader"])


def _keras_logits(weight_file: WeightFile, architecture: Architecture, images: np.ndarray) -> np.ndarray:
    """Returns Keras' own logits: of the whole model where the file has it, else of its weights in Keras' network.

    images: float64 [batch, height, width, 3], 0..255. Returns float32 [batch, num_classes].
    """
    file, graph = weight_file.local_path, weight_file.graph
    if graph is not None and not graph.is_plain:
        raise _NotComparedError("the model has layers of others than Keras, whose code would have to be executed")
    try:
        if graph is not None:
            return compute_logits(keras_applications.load_whole(file, graph), images)
        num_classes = 1 if weight_file.has_single_output else architecture.num_classes
        model = keras_applications.load(file, weight_file.tensors, architecture, num_classes)
        return compute_logits(model, keras_applications.images_for(images, model, architecture))
    except (*READ_ERRORS, TypeError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise _NotComparedError(f"it does not load the file: {reason:.200}") from error


def torch_logits(request: dict[str, object], images: np.ndarray, python: str) -> np.ndarray:
    """Runs `torch_subprocess.py` in a process of its own, and returns PyTorch's logits.

    request: as `torch_subprocess.py` describes it. python: the interpreter, empty for this one.
    images: float64 [batch, size, size, 3], 0..255. Returns float32 [batch, num_classes].
    """
    if not python and importlib.util.find_spec("torch") is None:
        raise _NotComparedError("PyTorch is not installed; --parity_python=FILE names an interpreter that has it")
    with temporary_directory() as directory:
        question, answer = os.path.join(directory, "question.npz"), os.path.join(directory, "answer.npy")
        np.savez(question, images=images, request=np.array(json.dumps(request)))
        command = [python or sys.executable, torch_subprocess.__file__, question, answer]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"--parity_python={command[0]}: cannot be run: {error}") from error
        if done.returncode == torch_subprocess.NOT_INSTALLED:
            raise _NotComparedError(f"{done.stdout.strip()} in {command[0]}")
        if done.returncode == torch_subprocess.NOT_LOADED:
            raise _NotComparedError(f"PyTorch does not load the file: {done.stdout.strip():.200}")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{command[0]}: PyTorch could not load the weights: {last:.300}")
        return np.load(answer)
