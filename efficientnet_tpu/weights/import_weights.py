"""`main.py import-weights`: other people's weights become a run directory that every command takes.

Written are what a run has (run.json, labels.txt, a checkpoint, which holds the average only), mapping.txt and
certificate.json: where the weights are from, what was compared, and the preprocessing that belongs to them.
"""

import dataclasses
import hashlib
import json
import os
import shlex
import sys
import time
from importlib import metadata

import keras
import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
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
from efficientnet_tpu.storage.new_directory import check_absent, new_directory
from efficientnet_tpu.weights import parity as certificate
from efficientnet_tpu.weights.assign_weights import fill
from efficientnet_tpu.weights.name_mapping import Mapping, mapping_lines, match, num_classes
from efficientnet_tpu.weights.weight_file import Source, open_source

CERTIFICATE_JSON = "certificate.json"
MAPPING_TXT = "mapping.txt"
_CHECKPOINT = "checkpoints/ckpt-0"  # as `checkpoint.restore_average` looks for it


def import_weights(config: Config) -> None:
    """Reads --from, writes --output_dir, and says what became what."""
    options, output_dir = config.weights, config.output.output_dir.rstrip("/")
    check_absent(output_dir, "output_dir")
    expected = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    with open_source(options.import_from, expected, options.tf1_weights) as source:
        for note in source.notes:
            print(note, flush=True)
        config = _with_stated_options(config, source)
        classes = num_classes(source.tensors, source.naming, expected)
        architecture = configured_architecture(config.model, classes or NUM_IMAGENET_CLASSES)
        mapping = match(source.path, source.tensors, source.naming, architecture)
        if not mapping.has_classifier:
            raise UserError(
                f"{source.path}: has no classifier (notop), so that it cannot predict. For training, name the file "
                f"itself: --init_from={source.path} gives it a new one."
            )
        labels = label_names(options.labels, architecture.num_classes)
        with distribution.precision("float32"):
            model = build_model(architecture)
        fill(model, source.path, source.tensors, mapping)
        parity = certificate.compare(model, source, architecture, options.parity_python)
        record = RunRecord(config, labels, run_record.IMPORTED, 0, ())
        with new_directory(output_dir, "output_dir") as temporary:
            _write(temporary, record, model, mapping_lines(mapping, source.tensors))
            facts = {
                "source": _provenance(source),
                "model": architecture.name,
                "num_classes": architecture.num_classes,
                "parameters": int(sum(weight.numpy().size for weight in model.trainable_weights)),
                "preprocessing": preprocessing(config, architecture),
                "parity": certificate.as_json(parity),
                **_this_run(),
            }
            write_atomically(os.path.join(temporary, CERTIFICATE_JSON), json.dumps(facts, indent=1) + "\n")
    run_record.save(_in_directory(record, output_dir))  # which now names its own place
    print(_summary(source, mapping, architecture, output_dir, parity))


def label_names(path: str, count: int) -> tuple[str, ...]:
    """The names in the file --labels; without one ImageNet's for 1000 classes, and numbers otherwise."""
    if not path:
        if count == NUM_IMAGENET_CLASSES:
            return imagenet_classes.imagenet_names()
        print(f"note: the {count} classes have no names; --labels=FILE gives them some, one a line")
        return tuple(f"class {index}" for index in range(count))
    try:
        with tf.io.gfile.GFile(path) as file:
            names = tuple(file.read().splitlines())
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise UserError(f"--labels={path}: cannot be read: {error}") from error
    if len(names) != count or len(set(names)) != count or "" in names:
        raise UserError(f"--labels={path}: has {len(set(names))} different names, the weights have {count} classes.")
    return names


def preprocessing(config: Config, architecture: Architecture) -> dict[str, object]:
    """What an image goes through before these weights see it; all of it is part of our model and its export."""
    padding = crop_padding(config.data.eval_crop_padding, architecture.resolution)
    return {
        "resolution": architecture.resolution,
        "crop": "central square",
        "crop_padding": padding,
        "crop_share": architecture.resolution / (architecture.resolution + padding),
        "interpolation": "bicubic (kernel of TensorFlow 1)",
        "mean": architecture.mean,
        "std": architecture.std,
        "pixel_range": [0, 255],
        "convolution_padding": "same (TensorFlow: more at the bottom and right)",
        "batch_norm_epsilon": architecture.batch_norm_epsilon,
    }


def _with_stated_options(config: Config, source: Source) -> Config:
    """The preprocessing flags that the source states, where the user gave none."""
    given = {
        "resolution": config.model.resolution,
        "eval_crop_padding": config.data.eval_crop_padding,
        "normalization": None if config.model.normalization == "model" else config.model.normalization,
    }
    stated = {name: value for name, value in (source.options or {}).items() if given[name] is None}
    if stated.get("resolution") == configured_architecture(config.model, NUM_IMAGENET_CLASSES).resolution:
        del stated["resolution"]
    # What is not stated is the reference's: the published weights were measured with a padding of 32 pixels.
    return with_options(config, stated)


def _write(directory: str, record: RunRecord, model: keras.Model, lines: list[str]) -> None:
    # Only the average: a checkpoint to start from, not one to continue.
    tf.train.Checkpoint(average=model).write(os.path.join(directory, _CHECKPOINT))
    write_atomically(os.path.join(directory, MAPPING_TXT), "".join(f"{line}\n" for line in lines))
    run_record.save(_in_directory(record, directory))


def _in_directory(record: RunRecord, directory: str) -> RunRecord:
    return dataclasses.replace(record, config=with_options(record.config, {"model_dir": directory}))


def _provenance(source: Source) -> dict[str, object]:
    facts: dict[str, object] = {"kind": source.naming.title, "path": source.path}
    if source.file:
        digest = hashlib.sha256()
        with open(source.file, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        facts |= {"bytes": os.path.getsize(source.file), "sha256": digest.hexdigest()}
    return facts


def _this_run() -> dict[str, object]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(sys.argv),
        "versions": {"tensorflow": tf.__version__, "keras": metadata.version("keras")},
    }


def _summary(
    source: Source, mapping: Mapping, architecture: Architecture, output_dir: str, parity: certificate.Parity
) -> str:
    first, *_, last = (f"{ours} <- {stored.name}" for ours, stored in mapping.pairs.items())
    not_needed = len(mapping.ignored) + len(source.not_needed)
    return "\n".join(
        [
            f"{source.path}: {source.naming.title}; all {len(mapping.pairs)} weights of {architecture.name} with "
            f"{architecture.num_classes} classes, {not_needed} other tensors not needed",
            f"  {first}, ..., {last}; all of them: {output_dir}/{MAPPING_TXT}",
            parity.line(),
            f"{output_dir}: for --model_dir of predict, evaluate and export, and --init_from of training",
        ]
    )
