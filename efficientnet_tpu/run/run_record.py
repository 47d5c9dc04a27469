"""What defines a run, stored in its model_dir: configuration, labels, data fingerprint, versions, command.

`run.json` is written whenever training begins or continues, and keeps what every start was given; the other commands
begin with its configuration.
"""

import dataclasses
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

from efficientnet_tpu.config.config import Config, options_of, with_options
from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.data.sources.imagenet_classes import same_classes
from efficientnet_tpu.data.split import ImageData
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run.checkpoint import has_checkpoint
from efficientnet_tpu.storage.atomic_write import write_atomically

RUN_JSON = "run.json"
LABELS_TXT = "labels.txt"
IMPORTED = "imported"  # data_fingerprint of weights that were trained elsewhere


@dataclass(frozen=True)
class RunRecord:
    """A run's definition. `starts`: when, by which command, with which options and versions it was started and
    continued.
    """

    config: Config
    label_names: tuple[str, ...]
    data_fingerprint: str
    num_train_images: int
    starts: tuple[dict[str, Any], ...]


def describe(config: Config, data: ImageData) -> RunRecord:
    """The record of a run that would start now."""
    data_dir = config.data.data_dir
    if data_dir and "://" not in data_dir:  # later commands may be given in another directory
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=os.path.abspath(data_dir)))
    return RunRecord(config, data.label_names, data.fingerprint, data.train.num_images, (_this_start(config),))


def prepare(record: RunRecord) -> RunRecord:
    """Makes sure that the run of `record` can continue what is in its model_dir, if anything is.

    Returns the record with the earlier starts put before its own. Writes nothing.
    """
    model_dir = record.config.run.model_dir
    if not has_run(model_dir):  # whatever was begun here came to nothing
        return record
    stored = load(model_dir)
    if stored.data_fingerprint == IMPORTED:
        raise UserError(
            f"--model_dir={model_dir}: holds imported weights and no training. To start from them give "
            f"--init_from={model_dir} and another --model_dir."
        )
    require_same(stored, record)
    return dataclasses.replace(record, starts=(*stored.starts, *record.starts))


def save(record: RunRecord) -> None:
    """Writes run.json and labels.txt into the record's model_dir."""
    model_dir = record.config.run.model_dir
    content = {**dataclasses.asdict(record), "config": options_of(record.config)}
    try:
        tf.io.gfile.makedirs(model_dir)
        write_atomically(os.path.join(model_dir, LABELS_TXT), "".join(f"{name}\n" for name in record.label_names))
        write_atomically(os.path.join(model_dir, RUN_JSON), json.dumps(content, indent=1) + "\n")
    except (tf.errors.OpError, OSError) as error:
        reason = getattr(error, "message", str(error))
        raise UserError(f"--model_dir={model_dir}: cannot be written: {reason}. Choose another directory.") from error


def _this_start(config: Config) -> dict[str, Any]:
    """What this process is, and was asked."""
    packages = ("tensorflow", "tensorflow-tpu", "keras", "numpy", "tensorflow-datasets")
    installed = {dist.metadata["Name"].lower(): dist.version for dist in metadata.distributions()}
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(sys.argv),
        "options": options_of(config),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in packages if name in installed},
    }


def has_run(model_dir: str) -> bool:
    """Whether there is a run in `model_dir` to continue."""
    return _exists(model_dir) and has_checkpoint(model_dir)


def load(model_dir: str) -> RunRecord:
    """The record of a run; its configuration names the model_dir it was read from, wherever it was moved to."""
    path = os.path.join(model_dir, RUN_JSON)
    if not _exists(model_dir):
        raise UserError(f"--model_dir={model_dir}: no trained run here ({RUN_JSON} is missing). Train one first.")
    try:
        with tf.io.gfile.GFile(path) as file:
            content = json.load(file)
        config = with_options(Config(), {**content.pop("config"), "model_dir": model_dir})
        label_names = tuple(content.pop("label_names"))
        starts = tuple(content.pop("starts"))
        return RunRecord(config=config, label_names=label_names, starts=starts, **content)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a run record of this version: {error}") from error


_MODEL_OPTIONS = tuple(field.name for field in dataclasses.fields(ModelConfig))
# Of these the weights do not depend: a trained model may be evaluated, exported and used with others.
_FREE_OPTIONS = ("resolution", "dropout_rate", "survival_prob", "batch_norm_momentum")
# What, besides the model, a run cannot change on its way: the step counts batches, and its position in an epoch follows
# from them; the seed has decided the order of the images so far; what is frozen has no slots in the optimizer.
_LASTING_OPTIONS = ("optimizer", "train_batch_size", "seed", "freeze", "bn_mode")


def require_same(stored: RunRecord, new: RunRecord) -> None:
    """Refuses to continue a run as another: with another model, data or order. Other changes are the user's to make."""
    _require_same_options(stored.config, new.config, (*_MODEL_OPTIONS, *_LASTING_OPTIONS))
    require_same_classes(stored, new)
    if stored.num_train_images != new.num_train_images:
        raise UserError(
            f"{new.config.data.source}: its {new.num_train_images:,} training images are not the "
            f"{stored.num_train_images:,} of the run in --model_dir={new.config.run.model_dir}. Use that data, or "
            "another --model_dir."
        )


def require_same_weights(stored: Config, new: Config) -> None:
    """Refuses to use a run's weights in another model."""
    _require_same_options(stored, new, [name for name in _MODEL_OPTIONS if name not in _FREE_OPTIONS])


def require_same_classes(stored: RunRecord, new: RunRecord) -> None:
    """Refuses data whose classes are not those the run was trained on; says so where the images are others."""
    model_dir = new.config.run.model_dir
    if not same_classes(stored.label_names, new.label_names):
        raise UserError(
            f"{new.config.data.source}: its {len(new.label_names)} classes "
            f"({_few(new.label_names)}) are not the {len(stored.label_names)} ({_few(stored.label_names)}) of the run "
            f"in --model_dir={model_dir}. Use that data, or another --model_dir."
        )
    if stored.data_fingerprint not in (new.data_fingerprint, IMPORTED):
        print(f"note: the images are not the same files that the run in {model_dir} began with", flush=True)


def _require_same_options(stored: Config, new: Config, names: Iterable[str]) -> None:
    before, now = options_of(stored), options_of(new)
    for name in names:
        if before[name] != now[name]:
            raise UserError(
                f"--{name}{_value(now[name])}: the checkpoints in --model_dir={new.run.model_dir} were made with "
                f"{name}{_value(before[name])}. Use that, or another --model_dir."
            )


def _exists(model_dir: str) -> bool:
    try:
        return tf.io.gfile.exists(os.path.join(model_dir, RUN_JSON))
    except tf.errors.OpError as error:  # gs://: no network, no permission
        raise UserError(f"--model_dir={model_dir}: cannot be reached: {error.message}") from error


def _value(value: object) -> str:
    return " left to the model" if value is None else f"={value}"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _git_revision() -> str | None:
    """Revision of the checkout this package runs from, '+' appended where files differ from it; None elsewhere."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
