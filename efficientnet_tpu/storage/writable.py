"""Probes whether a file or a folder can be written, before the work starts whose results go there."""

import os

import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.durable import make_directories
from efficientnet_tpu.storage.regular_file import irregular_kind
from efficientnet_tpu.storage.write_errors import OTHER_FOLDER, explained_write_errors


def check_file(path: str, flag: str) -> None:
    """Raises UserError unless the file `path`, the value of `flag`, can be written. An existing file is left alone."""
    folder = os.path.dirname(path)
    if folder and not tf.io.gfile.isdir(folder):
        raise UserError(f"--{flag}={path}: there is no folder {folder}. Make it, or name another.")
    if tf.io.gfile.isdir(path):
        raise UserError(f"--{flag}={path}: is a folder. Name a file in it.")
    if kind := irregular_kind(path):  # which a file would take the place of: /dev/null for all programs
        raise UserError(f"--{flag}={path}: is a {kind}. Name a file.")
    _probe(f"{path}.probe", f"--{flag}={path}", "file")


def check_folder(path: str, named: str) -> None:
    """Makes the folder `path`. Raises UserError unless files can be written into it. named: what the user typed."""
    with explained_write_errors(named, OTHER_FOLDER):
        make_directories(path)
    _probe(os.path.join(path, ".probe"), named, "folder")


def _probe(path: str, named: str, kind: str) -> None:
    with explained_write_errors(named, f"Name another {kind}"):
        write_atomically(path, "")
        tf.io.gfile.remove(path)
