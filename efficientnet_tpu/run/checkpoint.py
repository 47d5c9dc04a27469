"""Checkpoints of a run: save, verify, restore exactly, keep the newest few and the best. Local or gs://.

model_dir/checkpoints holds the newest, model_dir/best the one whose average had the highest accuracy when evaluated;
both the whole training state, so that either can be continued from. The files themselves say what is there: a
checkpoint exists once its index does, which TensorFlow writes last, and is read back before the run relies on it.
"""

import contextlib
import dataclasses
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
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.storage.atomic_write import write_atomically

_DIRECTORIES = {"last": "checkpoints", "best": "best"}
_BEST_JSON = "best.json"
# Of a checkpoint's files; IndexError: "Read less bytes than requested".
_READ_ERRORS = (tf.errors.OpError, IndexError)
# Seconds between attempts to save. A full disk can be emptied and a lost one mounted again; what was trained since the
# last checkpoint is in memory only.
RETRY_AFTER = (10.0, 30.0, 60.0, 120.0, 300.0)


class Checkpoints:
    """The checkpoints of a run in progress.

    Attributes: `early_stopping`, the evaluations so far, as last saved or restored; `strategy`, see below.
    """

    def __init__(
        self, model_dir: str, state: Mapping[str, Any], keep: int, strategy: tf.distribute.Strategy | None = None
    ):
        """state: name -> what TensorFlow can track, all that training changes. keep: number of newest to keep.
        strategy: the one it was made under. With several hosts each has a Checkpoints, and the chief's writes.
        """
        self._model_dir = model_dir
        self.strategy = strategy or tf.distribute.get_strategy()
        self._keep = keep
        with tf.device("CPU"):
            self._early_stopping_json = tf.Variable("", name="selection")
        # The name is a key of the object graph in every checkpoint: old runs are restored by it.
        self._state = tf.train.Checkpoint(**state, selection=self._early_stopping_json)
        self.early_stopping = EarlyStopping()

    def restore(self) -> int:
        """Continues from the newest checkpoint that is whole and returns its step; 0 when there is none.

        Raises UserError unless every variable finds its value, and every value its variable.
        """
        for which in _DIRECTORIES if distribution.is_chief(self.strategy) else ():
            _remove_leftovers(_directory(self._model_dir, which))
        path = _newest_whole(self._model_dir, "last")
        if path is None:
            return 0
        # Keras names layers by position in a checkpoint: without this a changed model would be filled with the wrong
        # tensors in silence.
        try:
            self._state.read(path).assert_consumed()
        except (AssertionError, ValueError) as error:
            raise UserError(
                f"{path}: does not fit this run's model and optimizer ({str(error).splitlines()[0]}). Use "
                "another --model_dir."
            ) from error
        self.early_stopping = EarlyStopping(**json.loads(self._early_stopping_json.numpy()))
        return _step_of(path)

    def save(self, step: int, early_stopping: EarlyStopping, stop_request: StopRequest | None = None) -> None:
        """Saves the state after `step` steps; also as the best, if that is what `early_stopping` says.

        Returns when the checkpoint has been read back. Raises UserError when it cannot be written for some minutes, or
        until `stop_request`, or when a weight is no finite number; then nothing saved before is lost.
        """
        self._early_stopping_json.assign(json.dumps(dataclasses.asdict(early_stopping)))
        with distribution.sums_read_once(self.strategy, self._state):
            if distribution.is_chief(self.strategy):
                self._save_both(step, early_stopping, StopRequest() if stop_request is None else stop_request)
        distribution.from_chief(self.strategy, step)  # until it is written, no host goes on
        self.early_stopping = early_stopping

    def _save_both(self, step: int, early_stopping: EarlyStopping, stop_request: StopRequest) -> None:
        def insist(save: Callable[[], None]) -> None:
            _insist(save, f"--model_dir={self._model_dir}: the training state of step {step}", stop_request)

        # The best first: a run that ends in between comes to this evaluation again, and to the same best.
        if early_stopping.best_step == early_stopping.evaluated_step == step:
            insist(lambda: self._save("best", step, keep=1))
            best = json.dumps({"step": step, "top_1_accuracy": early_stopping.best_accuracy}) + "\n"
            path = os.path.join(_directory(self._model_dir, "best"), _BEST_JSON)
            insist(lambda: write_atomically(path, best))
        insist(lambda: self._save("last", step, self._keep))

    def _save(self, which: str, step: int, keep: int) -> None:
        directory = _directory(self._model_dir, which)
        if not tf.io.gfile.isdir(self._model_dir):  # TensorFlow would make it anew, without all that belongs to it
            raise FileNotFoundError("the directory has vanished")
        path = _free_name(self._model_dir, which, step)
        self._state.write(path)
        # A disk error, or a weight that has become infinite.
        damage = _damage(path)
        if damage:
            _remove(path)
            raise damage
        for old in _paths(self._model_dir, which)[keep:]:
            with contextlib.suppress(tf.errors.OpError):  # tried again next time
                _remove(old)
        kept = _paths(self._model_dir, which)[::-1]
        # For TensorFlow's own tools; nothing here reads it.
        tf.compat.v1.train.update_checkpoint_state(directory, path, kept)


def has_checkpoint(model_dir: str) -> bool:
    """Whether there is a training state in `model_dir` to continue."""
    return bool(_paths(model_dir, "last"))


def newest(model_dir: str) -> str | None:
    """The newest checkpoint of a run, whole or not; None if there is none."""
    return next(iter(_paths(model_dir, "last")), None)


def newest_step(model_dir: str) -> int:
    """The step of the newest checkpoint, whole or not; 0 if there is none."""
    path = newest(model_dir)
    return _step_of(path) if path else 0


def restore_average(model: keras.Model, model_dir: str, which: str) -> int:
    """Fills `model` with the averaged weights of the `last` or `best` checkpoint; returns the checkpoint's step."""
    path = _newest_whole(model_dir, which)
    if path is None:
        raise UserError(f"--model_dir={model_dir}: the run has no {which} checkpoint yet.")
    try:
        status = tf.train.Checkpoint(average=model).read(path)
        status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError) as error:
        raise UserError(
            f"{path}: is a checkpoint of another model than {model.name}: {str(error).splitlines()[0]}"
        ) from error
    return _step_of(path)


class NotFiniteError(UserError):
    """A weight, or what else training changes, has become infinite or no number."""


def _newest_whole(model_dir: str, which: str) -> str | None:
    """The newest checkpoint that can be read; None if there is none at all. Damaged ones are named and passed over."""
    paths = _paths(model_dir, which)
    damages = []
    for path in paths:
        damage = _damage(path)
        if damage is None:
            return path
        damages.append(f"{path}: cannot be read ({_in_plain_words(damage)})")
        if len(damages) < len(paths):
            print(f"warning: {damages[-1]}; using the checkpoint before it", flush=True)
    if not damages:
        return None
    other = f"--checkpoint={'last' if which == 'best' else 'best'}"
    raise UserError("\n".join(damages) + f"\nNo {which} checkpoint is left. Restore the files, or try {other}.")


def _damage(path: str) -> Exception | None:
    """Reads a whole checkpoint, checksums included; what is wrong with it, if anything."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            value = np.asarray(reader.get_tensor(name))
            if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
                return NotFiniteError(f"{name.partition('/.ATTRIBUTES')[0]} is not finite")
    except _READ_ERRORS as error:
        return error
    return None


def _in_plain_words(error: Exception) -> str:
    """The first line, without what TensorFlow says of its operations."""
    return re.sub(r"^\{\{.*?\}\} | \[Op:\w+\].*$", "", str(error).partition("\n")[0])


def _insist(save: Callable[[], None], what: str, stop_request: StopRequest) -> None:
    """Calls `save` until it succeeds, for some minutes or until the process is told to stop."""
    for wait in (*RETRY_AFTER, None):
        try:
            save()
            return
        except (*_READ_ERRORS, OSError) as error:
            problem = f"{what} cannot be saved: {_in_plain_words(error)}"
            if wait is not None and not stop_request:
                print(f"warning: {problem}. Free space or restore the disk: next attempt in {wait:.0f} s", flush=True)
                _sleep(wait, stop_request)
                continue
            why = "stopped" if stop_request else f"after {sum(RETRY_AFTER) / 60:.0f} minutes"
            raise UserError(
                f"{problem}. Given up, {why}; what was saved before is there. Put it right and give the same command "
                "again."
            ) from error


def _sleep(seconds: float, stop_request: StopRequest) -> None:
    deadline = time.monotonic() + seconds
    while not stop_request and time.monotonic() < deadline:
        time.sleep(min(1.0, seconds))


def _paths(model_dir: str, which: str) -> list[str]:
    """Checkpoints there are, newest first."""
    directory = _directory(model_dir, which)
    names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else []
    stems = [name.removesuffix(".index") for name in names if name.startswith("ckpt-") and name.endswith(".index")]
    return [os.path.join(directory, stem) for stem in sorted(stems, key=_version, reverse=True)]


def _remove(path: str) -> None:
    """The index first: without it there is no checkpoint, so that none is there by half."""
    directory, stem = os.path.split(path)
    parts = [name for name in tf.io.gfile.listdir(directory) if name.startswith(f"{stem}.data-")]
    for name in (f"{stem}.index", *parts):
        tf.io.gfile.remove(os.path.join(directory, name))


def _remove_leftovers(directory: str) -> None:
    """What writing a checkpoint leaves behind when the process is killed."""
    names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else []
    stems = {name.removesuffix(".index") for name in names if name.endswith(".index")}
    for name in names:
        path = os.path.join(directory, name.rstrip("/"))
        if path.endswith("_temp"):
            tf.io.gfile.rmtree(path)
        elif ".data-" in name and name.partition(".data-")[0] not in stems:
            tf.io.gfile.remove(path)


def _free_name(model_dir: str, which: str, step: int) -> str:
    """ckpt-STEP, or ckpt-STEP.1 where that is there: nothing is overwritten, which could leave half of each."""
    taken = [again for number, again in map(_version, _paths(model_dir, which)) if number == step]
    name = f"ckpt-{step}.{max(taken) + 1}" if taken else f"ckpt-{step}"
    return os.path.join(_directory(model_dir, which), name)


def _version(path: str) -> tuple[int, int]:
    """(7, 0) of ckpt-7, (7, 1) of ckpt-7.1."""
    step, _, again = path.rpartition("-")[2].partition(".")
    return int(step), int(again or 0)


def _step_of(path: str) -> int:
    return _version(path)[0]


def _directory(model_dir: str, which: str) -> str:
    return os.path.join(model_dir, _DIRECTORIES[which])
