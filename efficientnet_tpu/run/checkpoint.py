"""Checkpoints of a run: save, verify, restore exactly, keep the newest few and the best. Local or gs://.

model_dir/checkpoints holds the newest, model_dir/best the one whose average had the highest accuracy when evaluated.
Both hold the whole training state, so that a run can continue from either. No list of checkpoints is kept: a checkpoint
exists once its index does. It is written under another name, read back, brought to the disk, and then renamed, the
index last: neither a killed process nor a power cut leaves an index without its data.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.hardware.preemption import StopRequest
from efficientnet_tpu.run.checkpoint_names import (
    DIRECTORIES,
    checkpoint_directory,
    checkpoint_paths,
    checkpoint_version,
    irregular_part,
    unused_path,
)
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.storage import directory_lock, durable
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.literal_path import literal_path, require_literal

_BEST_JSON = "best.json"
_UNFINISHED = "unfinished-"  # before the name of a checkpoint that is being written
# Errors of reading the files of a checkpoint. IndexError: "Read less bytes than requested".
_READ_ERRORS = (tf.errors.OpError, IndexError)
# Seconds between attempts to save. A full disk can be emptied and a lost one mounted again; the steps since the last
# checkpoint are in memory only.
RETRY_AFTER = (10.0, 30.0, 60.0, 120.0, 300.0)


class Checkpoints:
    """The checkpoints of a run in progress.

    Attributes: `early_stopping`, the evaluations so far, as last saved or restored; `strategy`, see below.
    """

    def __init__(
        self, model_dir: str, state: Mapping[str, Any], keep: int, strategy: tf.distribute.Strategy | None = None
    ):
        """state: name -> trackable object, everything that training changes. keep: the number of newest to keep.
        strategy: the one the state was made under. Every host has a Checkpoints; only the chief's writes.
        """
        require_literal(model_dir, f"--model_dir={model_dir}")
        self._model_dir = model_dir
        self.strategy = strategy or tf.distribute.get_strategy()
        self._keep = keep
        with tf.device("CPU"):
            self._early_stopping_json = tf.Variable("", name="selection")
        # The name is a key of the object graph in every checkpoint: old runs are restored by it.
        self._state = tf.train.Checkpoint(**state, selection=self._early_stopping_json)
        self.early_stopping = EarlyStopping()

    def restore(self) -> int:
        """Restores the newest checkpoint that is whole and returns its step; 0 when there is none.

        Raises UserError unless variables and stored values match one to one.
        """
        for which in DIRECTORIES if distribution.is_chief(self.strategy) else ():
            directory_lock.require_ours(self._model_dir)
            remove_leftovers(checkpoint_directory(self._model_dir, which))
        path = newest_whole(self._model_dir, "last")
        if path is None:
            return 0
        # Keras names layers by position in a checkpoint: without this check a changed model would silently be filled
        # with the wrong tensors.
        try:
            with literal_path(path) as literal:
                self._state.read(literal).assert_consumed()
        except (AssertionError, ValueError, tf.errors.InvalidArgumentError) as error:
            raise UserError(
                f"{path}: does not fit this run's model and optimizer ({str(error).splitlines()[0]}). Use "
                "another --model_dir."
            ) from error
        self.early_stopping = EarlyStopping.from_json(self._early_stopping_json.numpy(), path)
        return checkpoint_version(path)[0]

    def save(self, step: int, early_stopping: EarlyStopping, stop_request: StopRequest | None = None) -> None:
        """Saves the state after `step` steps; also as the best, if `early_stopping` names this step.

        Returns when the checkpoint has been read back and is on the disk. Raises UserError if it cannot be written for
        some minutes, or until `stop_request`, if model_dir was removed or is another run's, and NotFiniteError if a
        weight is not finite. Older checkpoints are kept then.
        """
        self._early_stopping_json.assign(early_stopping.to_json())
        with distribution.sums_read_once(self.strategy, self._state):
            if distribution.is_chief(self.strategy):
                self._save_both(step, early_stopping, StopRequest() if stop_request is None else stop_request)
        distribution.from_chief(self.strategy, step)  # no host continues before it is written
        self.early_stopping = early_stopping

    def _save_both(self, step: int, early_stopping: EarlyStopping, stop_request: StopRequest) -> None:
        def retry(save: Callable[[], None]) -> None:
            _retry(save, f"--model_dir={self._model_dir}: the training state of step {step}", stop_request)

        # The best first: a run that is killed in between repeats this evaluation and finds the same best.
        if early_stopping.best_step == early_stopping.evaluated_step == step:
            retry(lambda: self._save("best", step, keep=1))
            best = json.dumps({"step": step, "top_1_accuracy": early_stopping.best_accuracy}) + "\n"
            path = os.path.join(checkpoint_directory(self._model_dir, "best"), _BEST_JSON)
            retry(lambda: self._write_best_json(path, best))
        retry(lambda: self._save("last", step, self._keep))

    def _save(self, which: str, step: int, keep: int) -> None:
        directory = checkpoint_directory(self._model_dir, which)
        directory_lock.require_ours(self._model_dir)  # first: what was removed does not come back
        if not tf.io.gfile.isdir(self._model_dir):  # TensorFlow would make it again, without run.json
            raise FileNotFoundError("the directory has vanished")
        path = unused_path(self._model_dir, which, step)
        self._write(path)
        for old in checkpoint_paths(self._model_dir, which)[keep:]:
            with contextlib.suppress(tf.errors.OpError):  # tried again at the next save
                remove_checkpoint(old)
        kept = checkpoint_paths(self._model_dir, which)[::-1]
        # For TensorFlow's own tools; nothing here reads it.
        tf.compat.v1.train.update_checkpoint_state(directory, path, kept)
        durable.sync_file(os.path.join(directory, "checkpoint"))
        durable.sync_directory(directory)

    def _write_best_json(self, path: str, content: str) -> None:
        directory_lock.require_ours(self._model_dir)
        write_atomically(path, content)

    def _write(self, path: str) -> None:
        """Writes a checkpoint and returns when it has been read back and is on the disk.

        Raises what `find_damage` finds, or an error of writing.
        """
        directory, stem = os.path.split(path)
        # An object store has an object whole or not at all, and there a new name would be a copy.
        written = path if "://" in path else os.path.join(directory, _UNFINISHED + stem)
        durable.make_directories(directory)
        try:
            self._state.write(written)
            damage = find_damage(written)
            if damage:
                raise damage
            for part in _parts(written):
                durable.sync_file(part)
        except BaseException:
            with contextlib.suppress(*_READ_ERRORS, OSError, UserError):
                directory_lock.require_ours(self._model_dir)
                remove_checkpoint(written)
            raise
        directory_lock.require_ours(self._model_dir)  # writing may have taken minutes
        for part in _parts(written) if written != path else ():
            os.rename(part, os.path.join(directory, os.path.basename(part).removeprefix(_UNFINISHED)))
            durable.sync_directory(directory)


def restore_average(model: keras.Model, model_dir: str, which: str) -> int:
    """Fills `model` with the averaged weights of the `last` or `best` checkpoint; returns the checkpoint's step."""
    path = newest_whole(model_dir, which)
    if path is None:
        raise UserError(f"--model_dir={model_dir}: the run has no {which} checkpoint yet.")
    try:
        with literal_path(path) as literal:
            status = tf.train.Checkpoint(average=model).read(literal)
            status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError) as error:
        raise UserError(
            f"{path}: is a checkpoint of another model than {model.name}: {str(error).splitlines()[0]}"
        ) from error
    return checkpoint_version(path)[0]


class NotFiniteError(UserError):
    """An error for a weight, or another variable of the state, that is infinite or not a number."""


def newest_whole(model_dir: str, which: str) -> str | None:
    """Returns the newest checkpoint that can be read; None if there is none at all. Prints and skips damaged ones."""
    paths = checkpoint_paths(model_dir, which)
    damages = []
    for path in paths:
        damage = find_damage(path)
        if damage is None:
            return path
        damages.append(f"{path}: cannot be read ({_first_line(damage)})")
        if len(damages) < len(paths):
            print(f"warning: {damages[-1]}; using the checkpoint before it", flush=True)
    if not damages:
        return None
    other = f"--checkpoint={'last' if which == 'best' else 'best'}"
    raise UserError("\n".join(damages) + f"\nNo {which} checkpoint is left. Restore the files, or try {other}.")


def find_damage(path: str) -> Exception | None:
    """Reads a whole checkpoint, with its checksums; returns what is wrong with it, None if nothing is."""
    if kind := irregular_part(path):
        return UserError(kind)
    try:
        with literal_path(path) as literal:
            reader = tf.train.load_checkpoint(literal)
            for name in reader.get_variable_to_shape_map():
                value = np.asarray(reader.get_tensor(name))
                if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
                    return NotFiniteError(f"{name.partition('/.ATTRIBUTES')[0]} is not finite")
    except _READ_ERRORS as error:
        return error
    return None


def _first_line(error: Exception) -> str:
    """Returns the first line of a message, without the names of TensorFlow's operations."""
    return re.sub(r"^\{\{.*?\}\} | \[Op:\w+\].*$", "", str(error).partition("\n")[0])


def _retry(save: Callable[[], None], what: str, stop_request: StopRequest) -> None:
    """Calls `save` until it succeeds, for RETRY_AFTER or until the process is told to stop."""
    for wait in (*RETRY_AFTER, None):
        try:
            save()
            return
        except (*_READ_ERRORS, OSError, UserError) as error:
            if isinstance(error, UserError) and not isinstance(error.__cause__, tf.errors.OpError):
                raise  # gs:// out of reach comes back; another run's directory does not
            problem = f"{what} cannot be saved: {_first_line(error)}"
            if wait is not None and not stop_request:
                print(f"warning: {problem}. Free space or restore the disk: next attempt in {wait:.0f} s", flush=True)
                deadline = time.monotonic() + wait
                while not stop_request and time.monotonic() < deadline:
                    time.sleep(min(1.0, wait))
                continue
            why = "stopped" if stop_request else f"after {sum(RETRY_AFTER) / 60:.0f} minutes"
            raise UserError(
                f"{problem}. Given up, {why}; what was saved before is there. Put it right and give the same command "
                "again."
            ) from error


def remove_checkpoint(path: str) -> None:
    """Removes a checkpoint, the index first: without its index a checkpoint does not exist."""
    for part in reversed(_parts(path)):
        tf.io.gfile.remove(part)


def _parts(path: str) -> list[str]:
    """Returns the files of a checkpoint, the index last."""
    directory, stem = os.path.split(path)
    names = [name for name in tf.io.gfile.listdir(directory) if name.rpartition(".data-")[0] == stem]
    index = [f"{stem}.index"] if tf.io.gfile.exists(f"{path}.index") else []
    return [os.path.join(directory, name) for name in sorted(names) + index]


def remove_leftovers(directory: str) -> None:
    """Removes what a process that was killed while it saved has left."""
    names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else []
    stems = {name.removesuffix(".index") for name in names if name.endswith(".index")}
    for name in names:
        path = os.path.join(directory, name.rstrip("/"))
        if path.endswith("_temp"):
            tf.io.gfile.rmtree(path)
        elif name.startswith(_UNFINISHED) or (".data-" in name and name.partition(".data-")[0] not in stems):
            tf.io.gfile.remove(path)
