"""The digest that every export carries. Damage is found before a runtime takes the bytes for a model.

A file ends with it: its last 64 characters are the SHA-256, in hexadecimal, of everything before them. For a `.keras`
or `.tflite` file they are the comment of the zip archive at its end, for an ONNX file its last property. Beside the
files of a SavedModel, which several programs read piece by piece, lies SHA256SUMS, as `sha256sum -c` takes it.

Each export also states that it carries a digest, so that one that has lost it is not taken for one of an earlier
version, which has none.
"""

import hashlib
import os
import re
import sys
from collections.abc import Collection

import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.texts.printable import escaped

PLACE = "0" * 64  # what a file ends with before `sealed`
SHA256SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\\]+)\n")
_CHUNK = 16 << 20


def sealed(content: bytes) -> bytes:
    """Returns a file's content with the digest at its end, where it has PLACE. Raises ValueError for any other."""
    kept, place = content[: -len(PLACE)], content[-len(PLACE) :]
    if place != PLACE.encode():
        raise ValueError("no place for the digest at the end of the file")
    return kept + hashlib.sha256(kept).hexdigest().encode()


def is_sealed(content: bytes) -> bool:
    """Returns whether a file ends with the digest of the rest of it."""
    rest = hashlib.sha256(memoryview(content)[: -len(PLACE)]).hexdigest()
    return content[-len(PLACE) :] == rest.encode()


def write_sums(directory: str, beside: str = "") -> None:
    """Writes SHA256SUMS, with a line for each file below the directory.

    beside: a directory to which these files will be added; the lines about its other files are kept.
    """
    sums = {name: _file_digest(f"{directory}/{name}") for name in files_below(directory) if name != SHA256SUMS}
    if beside:
        with tf.io.gfile.GFile(f"{beside}/{SHA256SUMS}", "rb") as file:
            sums = {name: digest for digest, name in _LINE.findall(file.read().decode())} | sums
    lines = [f"{sums[name]}  {name}\n" for name in sorted(sums)]
    with tf.io.gfile.GFile(f"{directory}/{SHA256SUMS}", "wb") as file:
        file.write("".join(lines).encode())


def check_sums(directory: str, entries: Collection[str]) -> None:
    """Raises UserError unless the files of the directory are those that SHA256SUMS lists, with the same content.

    entries: the names of files and folders in the directory that are looked at; what else lies there may be missing.
    """
    path = f"{directory}/{SHA256SUMS}"
    with tf.io.gfile.GFile(path, "rb") as file:
        text = file.read().decode(errors="replace")
    lines = _LINE.findall(text)
    listed = {name: digest for digest, name in lines if name.partition("/")[0] in entries}
    if "".join(f"{digest}  {name}\n" for digest, name in lines) != text or not listed:
        raise damaged(directory, f"{SHA256SUMS} has other lines than those of digests")
    there = {name for name in files_below(directory) if name.partition("/")[0] in entries}
    for name in sorted(there ^ listed.keys()):
        raise damaged(directory, f"{escaped(name)} is {f'not in {SHA256SUMS}' if name in there else 'missing'}")
    for name, digest in listed.items():
        if _file_digest(f"{directory}/{name}") != digest:
            raise damaged(directory, f"the SHA-256 of {name} is not the one in {SHA256SUMS}")


def damaged(path: str, why: str) -> UserError:
    """Makes the error for an export that is not as it was written."""
    return UserError(
        f"--saved_model={path}: is damaged, or was changed after `{program()} export` wrote it: {why}. "
        "Copy it once more, or export it again."
    )


def note_absence(path: str) -> None:
    """Prints that an export has no digest."""
    print(
        f"note: --saved_model={path}: an earlier version wrote it, without a digest: damage to it would not be seen. "
        f"`{program()} export` writes one that has it.",
        file=sys.stderr,
    )


def files_below(directory: str) -> list[str]:
    """Returns the paths of all files below the directory, relative to it."""
    paths = [os.path.join(folder, name) for folder, _, names in tf.io.gfile.walk(directory) for name in names]
    return [path.removeprefix(f"{directory.rstrip('/')}/") for path in paths]


def _file_digest(path: str) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
