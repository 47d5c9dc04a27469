"""`main.py import-weights`: turns other programs' weights into a run directory that every command accepts.

It writes what a run has (run.json, labels.txt, a checkpoint, which holds the average only), mapping.txt, and
certificate.json with the origin of the weights, the comparison and the preprocessing that belongs to them.
"""

import hashlib
import json
import os
import shlex
import sys
import time
from dataclasses import dataclass
from importlib import metadata

import keras
import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.class_names import read_labels, require_printable
from efficientnet_tpu.data.preprocessing import crop_padding
from efficientnet_tpu.data.sources import imagenet_classes
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Architecture
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run import run_record
from efficientnet_tpu.run.run_record import RunRecord
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.new_directory import new_directory
from efficientnet_tpu.storage.presence import check_absent
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.texts.secrets import masked
from efficientnet_tpu.weights.assign_weights import assign_weights
from efficientnet_tpu.weights.name_mapping import NameMapping, count_classes, describe_mapping, match_names
from efficientnet_tpu.weights.parity import Parity, compare_logits
from efficientnet_tpu.weights.weight_file import WeightFile, open_weight_file

CERTIFICATE_JSON = "certificate.json"
MAPPING_TXT = "mapping.txt"
_CHECKPOINT = "checkpoints/ckpt-0"  # as `checkpoint.restore_average` looks for it


@dataclass(frozen=True)
class _Import:
    """A model with imported weights, and where they came from."""

    weight_file: WeightFile
    mapping: NameMapping
    config: Config
    label_names: tuple[str, ...]
    architecture: Architecture
    model: keras.Model
    parity: Parity

    def record(self, model_dir: str) -> RunRecord:
        """Returns the run record of an import in model_dir."""
        config = with_options(self.config, {"model_dir": model_dir})
        return RunRecord(config, self.label_names, run_record.IMPORTED, 0, ())


def import_weights(config: Config) -> None:
    """Reads --from, writes --output_dir and prints a summary."""
    output_dir = config.output.output_dir.rstrip("/")
    check_absent(output_dir, "output_dir")
    expected = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    with open_weight_file(
        config.weights.import_from, expected, config.weights.tf1_weights, config.weights.source_model
    ) as weight_file:
        for note in weight_file.notes:
            print(note, flush=True)
        imported = _load(weight_file, _with_stated_options(config, weight_file))
        with new_directory(output_dir, "output_dir", "import") as temporary:
            _write(imported, temporary, output_dir)
    mapping, architecture = imported.mapping, imported.architecture
    in_file = weight_file.in_file
    first, *_, last = (f"{ours} <- {in_file.get(stored.name, stored.name)}" for ours, stored in mapping.pairs.items())
    source = f"{weight_file.naming_scheme.title} {weight_file.source_model or ''}".rstrip()
    not_needed = len(mapping.ignored) + len(weight_file.not_needed)
    print(
        f"{weight_file.path}: {source}; all {len(mapping.pairs)} weights of "
        f"{architecture.name} with {architecture.num_classes} classes, {not_needed} other tensors not needed\n"
        f"  {first}, ..., {last}; all of them: {output_dir}/{MAPPING_TXT}\n"
        f"  pixels: (x - {_numbers(architecture.mean)}) / {_numbers(architecture.std)}\n"
        f"{imported.parity}\n"
        f"{output_dir}: for --model_dir of predict, evaluate and export, and --init_from of training"
    )


def _load(weight_file: WeightFile, config: Config) -> _Import:
    """Builds the model, assigns the weights and compares its logits. Raises UserError for weights that do not fit."""
    options = config.weights
    tensors, naming_scheme = weight_file.tensors, weight_file.naming_scheme
    num_classes = count_classes(tensors, naming_scheme, configured_architecture(config.model, NUM_IMAGENET_CLASSES))
    architecture = configured_architecture(config.model, num_classes or NUM_IMAGENET_CLASSES)
    mapping = match_names(weight_file.path, tensors, naming_scheme, architecture)
    if not mapping.has_classifier:
        raise UserError(
            f"{weight_file.path}: has no classifier that this program knows, so that it cannot predict. For training, "
            f"name the file itself: --init_from={weight_file.path} gives it a new one."
        )
    labels = read_label_names(options.labels, architecture.num_classes, weight_file.label_names, weight_file.path)
    with distribution.precision("float32"):
        model = build_model(architecture)
    assign_weights(model, weight_file.path, tensors, mapping)
    parity = compare_logits(model, weight_file, architecture, options.parity_python)
    return _Import(weight_file, mapping, config, labels, architecture, model, parity)


def _write(imported: _Import, directory: str, output_dir: str) -> None:
    """Writes everything that an import consists of into `directory`, which will be renamed to `output_dir`."""
    architecture, weight_file = imported.architecture, imported.weight_file
    # Only the average: the checkpoint is one to start from, not one to continue.
    tf.train.Checkpoint(average=imported.model).write(os.path.join(directory, _CHECKPOINT))
    lines = describe_mapping(imported.mapping, weight_file.tensors, weight_file.in_file)
    lines += [f"not needed: {name}" for name in weight_file.not_needed]
    write_atomically(os.path.join(directory, MAPPING_TXT), "".join(f"{line}\n" for line in lines))
    run_record.save(imported.record(output_dir), directory)
    source: dict[str, object] = {"kind": weight_file.naming_scheme.title, "path": weight_file.path}
    if weight_file.source_model:
        source |= {"model": str(weight_file.source_model), "told_by": weight_file.source_model.told_by}
    if weight_file.local_path:
        digest = hashlib.sha256()
        with open(weight_file.local_path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        source |= {"bytes": os.path.getsize(weight_file.local_path), "sha256": digest.hexdigest()}
    certificate = {
        "source": source,
        "model": architecture.name,
        "num_classes": architecture.num_classes,
        "parameters": int(sum(weight.numpy().size for weight in imported.model.trainable_weights)),
        "preprocessing": describe_preprocessing(imported.config, architecture),
        "parity": imported.parity.as_json(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": masked(shlex.join(sys.argv)),
        "versions": {"tensorflow": tf.__version__, "keras": metadata.version("keras")},
    }
    write_atomically(os.path.join(directory, CERTIFICATE_JSON), json.dumps(certificate, indent=1) + "\n")


def read_label_names(path: str, count: int, stated: tuple[str, ...] = (), source: str = "") -> tuple[str, ...]:
    """Returns the names in the file --labels; without one, those that the weights in `source` state.

    Where they state none, ImageNet's for 1000 classes, else `class 0` and so on.
    """
    if not path:
        if len(set(stated)) == count and "" not in stated:
            require_printable(stated, f"{source} (--labels=FILE gives other names)")
            return stated
        if count == NUM_IMAGENET_CLASSES:
            return imagenet_classes.imagenet_names()
        print(f"note: the {count} classes have no names; --labels=FILE gives them some, one a line")
        return tuple(f"class {index}" for index in range(count))
    names = read_labels(read_text(path, f"--labels={path}"), f"--labels={path}")
    if len(names) != count or len(set(names)) != count:
        raise UserError(f"--labels={path}: has {len(set(names))} different names, the weights have {count} classes.")
    return names


def describe_preprocessing(config: Config, architecture: Architecture) -> dict[str, object]:
    """Returns the preprocessing of an image for these weights. All of it is part of our model and its export."""
    padding = crop_padding(config.data.eval_crop_padding, architecture.resolution)
    return {
        "resolution": architecture.resolution,
        "crop": "central square",
        "crop_padding": padding,
        "crop_share": architecture.resolution / (architecture.resolution + padding),
        "interpolation": f"{architecture.interpolation} (kernel of TensorFlow 1)",
        "mean": architecture.mean,
        "std": architecture.std,
        "pixel_range": [0, 255],
        "convolution_padding": "same (TensorFlow: more at the bottom and right)",
        "batch_norm_epsilon": architecture.batch_norm_epsilon,
    }


def _numbers(values: tuple[float, ...]) -> str:
    """Returns one number for three that are the same, else all three."""
    texts = [f"{value:.6g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


def _with_stated_options(config: Config, weight_file: WeightFile) -> Config:
    """Returns the config with the preprocessing flags that the file states, where the user gave none."""
    given = {
        "resolution": config.model.resolution,
        "eval_crop_padding": config.data.eval_crop_padding,
        "normalization": None if config.model.normalization == "model" else config.model.normalization,
        "interpolation": None if config.model.interpolation == "model" else config.model.interpolation,
    }
    stated = {name: value for name, value in weight_file.options.items() if given[name] is None}
    if stated.get("resolution") == configured_architecture(config.model, NUM_IMAGENET_CLASSES).resolution:
        del stated["resolution"]
    # Options that are not stated are the reference's: the published weights were measured with a padding of 32 pixels.
    return with_options(config, stated)
