"""Checkpoints of a run: save, restore exactly, keep the newest few and the best. Local or gs://.

model_dir/checkpoints holds the newest, model_dir/best the one with the highest validation accuracy of the average;
both the whole training state, so that either can be continued from.
"""

import json
import os

import keras
import tensorflow as tf

from efficientnet_tpu.atomic_write import write_atomically
from efficientnet_tpu.config import TrainConfig, UserError
from efficientnet_tpu.run_record import CHECKPOINTS

_DIRECTORIES = {"last": CHECKPOINTS, "best": "best"}
_BEST_JSON = "best.json"
# Of a checkpoint's files; IndexError: "Read less bytes than requested".
_READ_ERRORS = (tf.errors.OpError, IndexError)


class Checkpoints:
    """The checkpoints of a run in progress."""

    def __init__(
        self,
        model_dir: str,
        model: keras.Model,
        average: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        train: TrainConfig,
    ):
        self._model_dir = model_dir
        self._state = tf.train.Checkpoint(model=model, average=average, optimizer=optimizer)
        self._last = tf.train.CheckpointManager(
            self._state, _directory(model_dir, "last"), max_to_keep=train.keep_checkpoints
        )
        self._best = tf.train.CheckpointManager(self._state, _directory(model_dir, "best"), max_to_keep=1)
        self.best_accuracy = _read_best(model_dir)

    def restore(self) -> int:
        """Continues from the newest checkpoint and returns its step; 0 when there is none.

        Raises UserError unless every variable finds its value, and every value its variable.
        """
        path = self._last.latest_checkpoint
        if path is None:
            return 0
        # Keras names layers by position in a checkpoint: without this a changed model would be filled with the wrong
        # tensors in silence.
        try:
            self._state.restore(path).assert_consumed()
        except (AssertionError, ValueError) as error:
            raise UserError(
                f"{path}: does not fit this run's model and optimizer ({str(error).splitlines()[0]}). Use "
                "another --model_dir."
            ) from error
        except _READ_ERRORS as error:
            raise _damaged(path, error) from error
        return _step_of(path)

    def save(self, step: int, accuracy: float) -> None:
        """Saves the state after `step` steps; also as the best, if `accuracy` is the highest so far."""
        self._last.save(checkpoint_number=step)
        if self.best_accuracy is None or accuracy >= self.best_accuracy:
            self._best.save(checkpoint_number=step)
            self.best_accuracy = accuracy
            best = json.dumps({"step": step, "top_1_accuracy": accuracy}) + "\n"
            write_atomically(os.path.join(_directory(self._model_dir, "best"), _BEST_JSON), best)


def restore_average(model: keras.Model, model_dir: str, which: str) -> int:
    """Fills `model` with the averaged weights of the `last` or `best` checkpoint; returns the checkpoint's step."""
    path = tf.train.latest_checkpoint(_directory(model_dir, which))
    if path is None:
        raise UserError(f"--model_dir={model_dir}: the run has no {which} checkpoint yet.")
    try:
        status = tf.train.Checkpoint(average=model).restore(path)
        status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError) as error:
        raise UserError(
            f"{path}: is a checkpoint of another model than {model.name}: {str(error).splitlines()[0]}"
        ) from error
    except _READ_ERRORS as error:
        raise _damaged(path, error) from error
    return _step_of(path)


def _damaged(path: str, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0]
    return UserError(
        f"{path}: cannot be read ({reason}). To use an earlier checkpoint, put its name into the first line of "
        f"{os.path.dirname(path)}/checkpoint."
    )


def _step_of(path: str) -> int:
    """The number CheckpointManager puts at the end of a checkpoint's name."""
    return int(path.rpartition("-")[2])


def _directory(model_dir: str, which: str) -> str:
    return os.path.join(model_dir, _DIRECTORIES[which])


def _read_best(model_dir: str) -> float | None:
    path = os.path.join(_directory(model_dir, "best"), _BEST_JSON)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return json.load(file)["top_1_accuracy"]
