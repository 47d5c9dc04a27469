"""Paths for TensorFlow's readers of checkpoints and SavedModels, which match what they are given as patterns.

They answer that a checkpoint in a directory called `[exp 1]` is missing, and no escape helps: the pattern is matched
first, and then the same text is opened.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.temporary_directory import temporary_place, temporary_prefix, users_temporary_place

_PATTERN_CHARACTERS = "*?[\\"
_WHY = f"has one of the characters {' '.join(_PATTERN_CHARACTERS)}, by which TensorFlow takes it for a pattern"


def require_literal(path: str, named: str) -> None:
    """Raises UserError unless `literal_path` can give what is going to be written at `path`; before the work starts.

    named: what the user typed, with its flag.
    """
    if not _is_pattern(path):
        return
    if "://" in path:  # a link cannot stand for it
        raise UserError(f"{named}: {_WHY}. Choose another place.")
    parent = temporary_place()
    if _is_pattern(parent):
        raise UserError(
            f"{named}: {_WHY}. It is read through a link in the directory for temporary files, but so does "
            f"TMPDIR={users_temporary_place()}. Set TMPDIR to another directory, or choose another path."
        )


@contextlib.contextmanager
def literal_path(path: str) -> Iterator[str]:
    """Gives another name of `path`, a directory or a checkpoint, that is valid in this context and no pattern.

    A checkpoint is the beginning of the names of several files. Raises UserError as `require_literal` does, and OSError
    where no link can be made, which may pass.
    """
    require_literal(path, path)
    if not _is_pattern(path):
        yield path
        return
    folder, name = os.path.split(os.path.abspath(path))
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as links:
        for entry in os.listdir(folder):
            if entry == name or entry.startswith(f"{name}."):
                os.symlink(os.path.join(folder, entry), os.path.join(links, f"literal{entry.removeprefix(name)}"))
        yield os.path.join(links, "literal")


def _is_pattern(path: str) -> bool:
    return any(character in path for character in _PATTERN_CHARACTERS)
