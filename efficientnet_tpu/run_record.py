"""What defines a run, stored in its model_dir: configuration, labels, data fingerprint, versions, command.

`run.json` is written once, when training begins; every later command starts from it.
"""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

from efficientnet_tpu.config import Config, ModelConfig, UserError, options_of, with_options
from efficientnet_tpu.data.image_data import ImageData

RUN_JSON = "run.json"
LABELS_TXT = "labels.txt"


@dataclass(frozen=True)
class RunRecord:
    """A run's definition. `starts`: when, by which command, revision and versions it was started, and continued."""

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
    return RunRecord(config, data.label_names, data.fingerprint, data.train.num_images, (_this_start(),))


def prepare(record: RunRecord) -> RunRecord:
    """Makes sure that the run of `record` can begin in its model_dir, or continue what is there.

    Returns the record with the earlier starts put before its own. Nothing is written but a passing test file.
    """
    model_dir = record.config.run.model_dir
    _require_writable(model_dir)
    if not exists(model_dir):
        return record
    stored = load(model_dir)
    require_same(stored, record)
    return dataclasses.replace(record, starts=(*stored.starts, *record.starts))


def save(record: RunRecord) -> None:
    """Writes run.json and labels.txt into the record's model_dir."""
    model_dir = record.config.run.model_dir
    content = {**dataclasses.asdict(record), "config": options_of(record.config)}
    write_atomically(os.path.join(model_dir, LABELS_TXT), "".join(f"{name}\n" for name in record.label_names))
    write_atomically(os.path.join(model_dir, RUN_JSON), json.dumps(content, indent=1) + "\n")


def _this_start() -> dict[str, Any]:
    """What this process is."""
    packages = ("tensorflow", "tensorflow-tpu", "keras", "numpy", "tensorflow-datasets")
    installed = {dist.metadata["Name"].lower(): dist.version for dist in metadata.distributions()}
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join(sys.argv),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in packages if name in installed},
    }


def exists(model_dir: str) -> bool:
    """Whether a run has begun in `model_dir`."""
    try:
        return tf.io.gfile.exists(os.path.join(model_dir, RUN_JSON))
    except tf.errors.OpError as error:  # gs://: no network, no permission
        raise UserError(f"--model_dir={model_dir}: cannot be reached: {error.message}") from error


def load(model_dir: str) -> RunRecord:
    """The record of a run; its configuration names the model_dir it was read from, wherever it was moved to."""
    path = os.path.join(model_dir, RUN_JSON)
    if not exists(model_dir):
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


def require_same(stored: RunRecord, new: RunRecord) -> None:
    """Refuses to continue a run with another model, optimizer or classes; other changes are the user's to make."""
    model_dir = new.config.run.model_dir
    before, now = options_of(stored.config), options_of(new.config)
    for name in (*(field.name for field in dataclasses.fields(ModelConfig)), "optimizer"):
        if before[name] != now[name]:
            raise UserError(
                f"--{name}{_value(now[name])}: the checkpoints in --model_dir={model_dir} were made with "
                f"{name}{_value(before[name])}. Use that, or another --model_dir."
            )
    if stored.data_fingerprint != new.data_fingerprint:
        print(f"note: the images are not the same files that the run in {model_dir} began with", flush=True)
    if stored.label_names != new.label_names:
        raise UserError(
            f"{new.config.data.source}: its {len(new.label_names)} classes "
            f"({_few(new.label_names)}) are not the {len(stored.label_names)} ({_few(stored.label_names)}) of the run "
            f"in --model_dir={model_dir}. Use that data, or another --model_dir."
        )


def _require_writable(model_dir: str) -> None:
    """Creates the directory and tries a file in it, so that an hour of training does not end in a failed save."""
    probe = os.path.join(model_dir, f".write_test.{os.getpid()}")
    try:
        tf.io.gfile.makedirs(model_dir)
        with tf.io.gfile.GFile(probe, "w") as file:
            file.write("")
        tf.io.gfile.remove(probe)
    except (tf.errors.OpError, OSError) as error:
        reason = getattr(error, "message", str(error))
        raise UserError(f"--model_dir={model_dir}: cannot be written: {reason}. Choose another directory.") from error


def write_atomically(path: str, text: str) -> None:
    """A reader sees the old file or the new one, never half of it."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with tf.io.gfile.GFile(temporary, "w") as file:
        file.write(text)
    tf.io.gfile.rename(temporary, path, overwrite=True)


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
