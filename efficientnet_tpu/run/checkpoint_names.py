"""The checkpoints of a run by the names of their files, which tell the step: no TensorFlow, but for gs://.

A checkpoint exists once its index has its name, which it gets last.
"""

import os
import re

from efficientnet_tpu.storage import presence
from efficientnet_tpu.storage.regular_file import irregular_kind

DIRECTORIES = {"last": "checkpoints", "best": "best"}
_INDEX = re.compile(r"ckpt-[0-9]{1,18}(\.[0-9]{1,18})?\.index")  # a copy that a person made is none


def checkpoint_directory(model_dir: str, which: str) -> str:
    """Returns the directory of the `last` or of the `best` checkpoints."""
    return os.path.join(model_dir, DIRECTORIES[which])


def checkpoint_paths(model_dir: str, which: str) -> list[str]:
    """Returns the paths of all checkpoints, newest first."""
    directory = checkpoint_directory(model_dir, which)
    names = presence.names_in(directory, f"--model_dir={model_dir}")
    stems = [name.removesuffix(".index") for name in names if _INDEX.fullmatch(name)]
    return [os.path.join(directory, stem) for stem in sorted(stems, key=checkpoint_version, reverse=True)]


def checkpoint_version(path: str) -> tuple[int, int]:
    """Returns (7, 0) for ckpt-7, (7, 1) for ckpt-7.1."""
    step, _, again = path.rpartition("-")[2].partition(".")
    return int(step), int(again or 0)


def irregular_part(path: str) -> str:
    """Returns 'ckpt-7.index is a named pipe' for a checkpoint with a part that must not be opened, "" for others."""
    directory, stem = os.path.split(path)
    for name in presence.names_in(directory, directory):
        is_part = name == f"{stem}.index" or name.rpartition(".data-")[0] == stem
        if is_part and (kind := irregular_kind(os.path.join(directory, name))):
            return f"{name} is a {kind}"
    return ""


def has_checkpoint(model_dir: str) -> bool:
    """Returns whether there is a training state in `model_dir` to continue from."""
    return bool(checkpoint_paths(model_dir, "last"))


def newest(model_dir: str) -> str | None:
    """Returns the path of the newest checkpoint of a run, whole or not; None if there is none."""
    return next(iter(checkpoint_paths(model_dir, "last")), None)


def newest_step(model_dir: str) -> int:
    """Returns the step of the newest checkpoint, whole or not; 0 if there is none."""
    path = newest(model_dir)
    return checkpoint_version(path)[0] if path else 0


def unused_path(model_dir: str, which: str, step: int) -> str:
    """Returns ckpt-STEP, or ckpt-STEP.1 if that exists: overwriting could leave half of each."""
    taken = [again for number, again in map(checkpoint_version, checkpoint_paths(model_dir, which)) if number == step]
    name = f"ckpt-{step}.{max(taken) + 1}" if taken else f"ckpt-{step}"
    return os.path.join(checkpoint_directory(model_dir, which), name)
