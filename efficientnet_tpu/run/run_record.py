"""Records what defines a run, in its model_dir: configuration, labels, data fingerprint, versions, command.

`run.json` is written when training begins or continues, just before its first step, and keeps what every start was
given and the step from which it holds; the other commands begin with its configuration. A start that trains nothing
leaves it as it is. It is read without TensorFlow, so that a command can be refused at once.
"""

import dataclasses
import functools
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientnet_tpu.config.config import OPTIONS, RUN_SECTIONS, Config, run_options, with_options
from efficientnet_tpu.config.data_paths import absolute_paths
from efficientnet_tpu.data import class_matching
from efficientnet_tpu.data.class_names import are_names, labels_text
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import installed_version
from efficientnet_tpu.run.checkpoint_names import has_checkpoint
from efficientnet_tpu.storage import presence
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.durable import make_directories
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.storage.write_errors import explained_write_errors
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.secrets import masked

if TYPE_CHECKING:
    from efficientnet_tpu.data.split import ImageData

RUN_JSON = "run.json"
IMPORTED = "imported"  # data_fingerprint of weights that were trained elsewhere


@dataclass(frozen=True)
class RunRecord:
    """A run's definition. `starts`: when, from which step on, by which command, with which options and versions it was
    started and continued.
    """

    config: Config
    label_names: tuple[str, ...]
    data_fingerprint: str
    num_train_images: int
    starts: tuple[dict[str, Any], ...]


def describe(config: Config, data: "ImageData") -> RunRecord:
    """Returns the record of a run that would start now."""
    data_dir = absolute_paths(config.data.data_dir)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=data_dir))
    packages = ("tensorflow", "tensorflow-tpu", "keras", "numpy", "tensorflow-datasets")
    versions = {name: installed_version(name) for name in packages}
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": masked(shlex.join(sys.argv)),
        "options": run_options(config),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "versions": {name: version for name, version in versions.items() if version},
    }
    return RunRecord(config, data.label_names, data.fingerprint, data.train.num_images if data.train else 0, (start,))


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


def at_step(record: RunRecord, step: int) -> RunRecord:
    """Returns the record with the step from which its last start holds."""
    *earlier, last = record.starts
    return dataclasses.replace(record, starts=(*earlier, {**last, "step": step}))


def changed_options(stored: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Returns the options of a run whose values differ, by flag name: (stored, new). A run may be moved."""
    before, now = run_options(stored), run_options(new)
    return {name: (before[name], now[name]) for name in before if name != "model_dir" and before[name] != now[name]}


def describe_changes(changes: Mapping[str, tuple[Any, Any]], step: int) -> str:
    """Returns a line about options that a run goes on with from `step` on."""
    words = [
        f"--{name}{' left to the model' if now is None else f'={now}'} (was {before})"
        for name, (before, now) in changes.items()
    ]
    return f"changed from step {step:,} on: {', '.join(words)}"


def save(record: RunRecord, directory: str | None = None) -> None:
    """Writes run.json and labels.txt into the record's model_dir, or `directory`, which will be renamed to it."""
    from efficientnet_tpu.data.split import LABELS_TXT
    from efficientnet_tpu.storage import directory_lock

    model_dir = directory or record.config.run.model_dir
    content = {**dataclasses.asdict(record), "config": run_options(record.config)}
    with explained_write_errors(f"--model_dir={model_dir}", "Choose another directory"):
        directory_lock.require_ours(model_dir)
        make_directories(model_dir)
        write_atomically(os.path.join(model_dir, LABELS_TXT), labels_text(record.label_names))
        write_atomically(os.path.join(model_dir, RUN_JSON), json.dumps(content, indent=1) + "\n")


def has_run(model_dir: str) -> bool:
    """Returns whether there is a run in `model_dir` to continue."""
    return _exists(model_dir) and has_checkpoint(model_dir)


def load(model_dir: str) -> RunRecord:
    """Returns the record of a run; its configuration names the model_dir it was read from, wherever it was moved to."""
    path = os.path.join(model_dir, RUN_JSON)
    if not _exists(model_dir):
        raise UserError(f"--model_dir={model_dir}: no trained run here ({RUN_JSON} is missing). Train one first.")
    try:
        content = read_json(read_text(path, path))
        config = with_options(read_options(path, content.pop("config")), {"model_dir": model_dir})
        starts = content.pop("starts")
        if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
            raise ValueError("starts is no list of objects")
        record = RunRecord(config=config, starts=tuple(starts), **content)
        if not are_names(record.label_names):
            raise ValueError("label_names is no list of names")
        if not isinstance(record.data_fingerprint, str) or type(record.num_train_images) is not int:
            raise ValueError("data_fingerprint or num_train_images is of another type")
        return dataclasses.replace(record, label_names=tuple(record.label_names))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else shown(error)
        raise UserError(f"{path}: not a run record of this version: {reason}") from error


def read_options(path: str, stored: Mapping[str, Any]) -> Config:
    """Returns the configuration that a run.json, or a file like it, holds; another version may have written it.

    Prints one line about options that do not exist here, and about values that these limits exclude: the default
    stands in for them. Raises UserError where the checkpoints belong to such a value.
    """
    renamed = {option.alias: name for name, option in OPTIONS.items() if option.alias}
    stored = {renamed.get(name, name): value for name, value in stored.items()}
    lacking = {name: option.before[0] for name, option in OPTIONS.items() if option.before and name not in stored}
    config, notes = with_options(Config(), lacking), []
    for name, value in stored.items():
        if name not in OPTIONS:
            notes.append(f"--{shown(name, 40)}={shown(value)} is unknown")
        elif OPTIONS[name].section in RUN_SECTIONS:  # earlier versions stored the options of all commands
            try:
                config = with_options(config, {name: value})
            except UserError as error:
                if OPTIONS[name].may_change != "always":
                    raise
                notes.append(f"{str(error).rstrip('.')}, so that its default {OPTIONS[name].default} is used")
    if notes:
        _print_once(f"note: {path} is of another version: {'; '.join(notes)}")
    return config


@functools.cache
def _print_once(line: str) -> None:
    """Prints a line on stderr, the first time that it is asked to: a command reads the same run.json several times."""
    print(line, file=sys.stderr, flush=True)


def require_same(stored: RunRecord, new: RunRecord) -> None:
    """Raises UserError where `new` would continue the run with another model, data or order of images.

    Other changes are the user's to make. The classes are the same, see `with_classes_of_run`.
    """
    _require_same_options(stored.config, new.config, ("never", "after training"))
    note_other_images(stored, new.data_fingerprint)
    if stored.num_train_images != new.num_train_images:
        raise UserError(
            f"{new.config.data.source}: its {new.num_train_images:,} training images are not the "
            f"{stored.num_train_images:,} of the run in --model_dir={new.config.run.model_dir}. Use that data, or "
            "another --model_dir."
        )


def require_same_weights(stored: Config, new: Config) -> None:
    """Raises UserError where a run's weights would be used in another model."""
    _require_same_options(stored, new, ("never",))


def with_classes_of_run(data: "ImageData", config: Config) -> "ImageData":
    """Returns the data under the labels of the run in model_dir, if one is there to continue: matched by name.

    Raises UserError unless the classes are the same.
    """
    from efficientnet_tpu.data.relabelled_split import with_classes

    model_dir = config.run.model_dir
    stored = load(model_dir) if has_run(model_dir) else None
    if stored is None or stored.data_fingerprint == IMPORTED:
        return data
    labels = class_matching.require_same(
        config.data.source, data.label_names, f"--model_dir={model_dir}", stored.label_names
    )
    return with_classes(data, stored.label_names, labels)


def note_other_images(stored: RunRecord, data_fingerprint: str) -> None:
    """Says so where the images are not those that the run began with."""
    if stored.data_fingerprint not in (data_fingerprint, IMPORTED):
        model_dir = stored.config.run.model_dir
        print(f"note: the images are not the same files that the run in {model_dir} began with", flush=True)


def _require_same_options(stored: Config, new: Config, bound: Container[str]) -> None:
    """Raises UserError for an option that differs and whose `may_change` is among `bound`."""
    for name, values in changed_options(stored, new).items():
        if OPTIONS[name].may_change in bound:
            kept, given = (" left to the model" if value is None else f"={value}" for value in values)
            raise UserError(
                f"--{name}{given}: the checkpoints in --model_dir={new.run.model_dir} were made with "
                f"{name}{kept}. Use that, or another --model_dir."
            )


def _exists(model_dir: str) -> bool:
    return presence.exists(os.path.join(model_dir, RUN_JSON), f"--model_dir={model_dir}")


def _git_revision() -> str | None:
    """Returns the revision of this package's checkout, with '+' where files differ from it; None without a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
