"""Reads checkpoints of the TensorFlow 1 reference implementation by TensorFlow: variables only, no graph."""

import functools
import math
import os
import re

import numpy as np
import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.regular_file import require_regular
from efficientnet_tpu.weights.readers.stored_tensor import StoredTensor, StoredTensors
from efficientnet_tpu.weights.weight_place import named_checkpoint

_AVERAGE = "/ExponentialMovingAverage"
# The part before a weight's name: the model's name, and in some versions /model.
_PREFIX = re.compile(r"^(?:[^/]+/)?(?:model/)?(?=(?:stem|head|blocks_\d+)/)")
# Variables of the training, which an import does not continue: the step, and the optimizers' state of each weight.
_TRAINING = re.compile(r"^global_step$|/(RMSProp(_1)?|Momentum|Adam(_1)?)$")


def checkpoint_prefix(path: str) -> str | None:
    """Returns TensorFlow's name of the checkpoint at `path`, or None if there is none.

    path: a directory, one of the checkpoint's files, or the name itself.
    """
    if tf.io.gfile.isdir(path):
        for name in tf.io.gfile.listdir(path):
            if name == "checkpoint" or ".index" in name or ".data-" in name:
                require_regular(os.path.join(path, name), os.path.join(path, name))
        # The file `checkpoint` may name a checkpoint elsewhere; only those in this directory count.
        here = sorted(name for name in tf.io.gfile.listdir(path) if name.endswith(".index"))
        state = tf.train.get_checkpoint_state(path)
        newest = f"{os.path.basename(state.model_checkpoint_path)}.index" if state else ""
        found = newest if newest in here else here[-1] if here else None
        return found and os.path.join(path, found.removesuffix(".index"))
    prefix = named_checkpoint(path)
    if not tf.io.gfile.exists(f"{prefix}.index"):
        return None
    for part in (f"{prefix}.index", *_data_files(prefix)):
        require_regular(part, part)
    return prefix


def _data_files(prefix: str) -> list[str]:
    folder, stem = os.path.split(prefix)
    return [
        os.path.join(folder, name) for name in tf.io.gfile.listdir(folder or ".") if name.startswith(f"{stem}.data-")
    ]


def read_checkpoint(path: str, prefix: str, which: str) -> tuple[StoredTensors, tuple[str, ...]]:
    """Returns the weights, by their names without model and average, and the names of other variables.

    which: `average` for the averaged weights, to which the published accuracies belong, `raw` for the trained ones,
        `auto` for the average where there is one. Raises ValueError for a file that cannot be read.
    """
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
        types = reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, RuntimeError, IndexError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    stored = sum(tf.io.gfile.stat(part).length for part in _data_files(prefix))
    for name, shape in shapes.items():
        if math.prod(shape) * types[name].size > stored:
            raise ValueError(f"{name} claims the shape {shape}, for which the file is too small")
    averaged = {name for name in shapes if name.endswith(_AVERAGE)}
    if which == "average" and not averaged:
        raise UserError(f"{path}: holds no averaged weights (none is named ...{_AVERAGE}). Use --tf1_weights=raw.")
    raw = {name for name in shapes if name not in averaged and not _TRAINING.search(name)}
    chosen = averaged if averaged and which != "raw" else raw
    if which == "raw" and not raw:
        raise UserError(f"{path}: holds averaged weights only. Use --tf1_weights=average.")

    def read(name: str) -> np.ndarray:
        try:
            return reader.get_tensor(name)
        except (tf.errors.OpError, RuntimeError, IndexError) as error:
            raise ValueError(f"{os.path.basename(name)}: {str(error).partition(chr(10))[0]}") from error

    tensors: dict[str, StoredTensor] = {}
    for name in sorted(chosen):
        short = _PREFIX.sub("", name.removesuffix(_AVERAGE))
        if short in tensors:
            raise ValueError(f"{name}: a second {short}")
        tensors[short] = StoredTensor(tuple(shapes[name]), types[name].name, functools.partial(read, name))
    return tensors, tuple(sorted(shapes.keys() - chosen))
