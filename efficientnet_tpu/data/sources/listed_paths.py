"""Where the images of a list are: its paths as they are written, and what other machines and programs make of them.

A path is taken as it is where a file is there. Otherwise it may lack its extension, begin in a folder beside the list
or in its class's, have Windows' separators and drive, or begin with ~. Folders are listed, once each; what is found is
asked only whether it is a file. That is done on a local disk; elsewhere paths are taken as they are.
"""

import contextlib
import functools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from efficientnet_tpu.data.decoding.image_file import refused_kind
from efficientnet_tpu.data.sources.folder_walk import EXTENSIONS, is_local, is_passed_over
from efficientnet_tpu.data.sources.labelled_files import SPLIT_WORDS, split_of
from efficientnet_tpu.data.sources.listed_rows import Row

# Folders that lists are usually relative to; of others beside the list only a few are looked into.
_USUAL_FOLDERS = ("images", "image", "img", "imgs", "data", *(word for words in SPLIT_WORDS.values() for word in words))
_FEW_FOLDERS = 20
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class _Entries:
    """The names of a folder's files and of the folders in it."""

    files: frozenset[str]
    folders: tuple[str, ...]

    @classmethod
    def read(cls, folder: str) -> "_Entries":
        """Lists a local folder; one that is not there is empty."""
        files, folders = [], []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                (folders if entry.is_dir() else files).append(entry.name)
        return cls(frozenset(files), tuple(sorted(name for name in folders if not is_passed_over(name))))

    @functools.cached_property
    def others(self) -> dict[str, str]:
        """Returns what a file may be called besides -> its name: without its extension, in the other Unicode."""
        others: dict[str, str] = {}
        for name in sorted(self.files):
            stem, extension = os.path.splitext(name)
            if extension.lower() in EXTENSIONS:
                others.setdefault(stem, name)
            if not name.isascii():
                others.setdefault(unicodedata.normalize("NFC", name), name)
        return others


class ListedPaths:
    """The files that the rows of a list name."""

    def __init__(self, base: str, listing: str) -> None:
        """base: the folder that relative paths begin in; listing: the list's path."""
        self._base = base
        self._stem = os.path.splitext(os.path.basename(listing))[0].lower()
        self._entries = functools.cache(_Entries.read)
        self._folders = functools.cache(self._folders_of)

    def find(self, row: Row) -> str:
        """Returns the file of a row; the path as it is written, joined to the list's folder, when none is there."""
        plain = self._joined(row.path)
        if not is_local(plain):
            return plain
        folder, name = os.path.split(plain)
        if name in self._entries(folder).files:
            return plain
        found = next(filter(None, map(self._there, self._candidates(row))), None)
        return found or (os.path.expanduser(row.path) if row.path.startswith("~") else plain)

    def _joined(self, path: str) -> str:
        return path if path.startswith("/") or "://" in path else os.path.join(self._base, path)

    def _candidates(self, row: Row) -> Iterator[str]:
        """Yields where the file may be, the likeliest first."""
        yield self._joined(row.path)
        if row.path.startswith("~"):
            yield os.path.expanduser(row.path)
        turned = [row.path]
        if "\\" in row.path or _DRIVE.match(row.path):
            # Of C:\Users\me\set\train\cat.jpg the end is below the list's folder, if anything is.
            parts = _DRIVE.sub("", row.path, count=1).replace("\\", "/").strip("/").split("/")
            turned = ["/".join(parts[begin:]) for begin in range(len(parts))]
            yield from map(self._joined, turned)
        for path in turned:
            if not path.startswith(("/", "~")):
                for folder in ("", *self._folders(row.split)):
                    yield os.path.join(self._base, folder, path)
                    yield os.path.join(self._base, folder, row.label, path)

    def _folders_of(self, split: str | None) -> list[str]:
        """Returns the names of the folders beside the list, those first that fit the split or the list's name."""
        names = self._entries(self._base).folders
        words = SPLIT_WORDS.get(split_of(split) or "", ()) if split else ()

        def rank(name: str) -> int:
            lowered = name.lower()
            if lowered in words:
                return 0
            if lowered == self._stem or lowered.startswith(f"{self._stem}_"):
                return 1
            return 2 + _USUAL_FOLDERS.index(lowered) if lowered in _USUAL_FOLDERS else 100

        ranked = sorted((rank(name), name) for name in names)
        return [name for place, name in ranked if place < 100 or len(names) <= _FEW_FOLDERS]

    def _there(self, path: str) -> str | None:
        """Returns the path of a file that is there: this one, or one with an image's extension behind its name."""
        folder, name = os.path.split(path)
        entries = self._entries(folder)
        if name in entries.files:
            return path
        other = entries.others.get(name) or entries.others.get(unicodedata.normalize("NFC", name))
        return other and os.path.join(folder, other)


def without_refused(rows: Sequence[Row]) -> tuple[list[Row], dict[str, list[str]]]:
    """Returns the rows whose paths may be opened, and kind -> paths of pipes, devices and the like that rows name."""
    refused: defaultdict[str, list[str]] = defaultdict(list)
    kinds = {row.path: refused_kind(row.path) for row in rows}
    for path, kind in kinds.items():
        if kind:
            refused[kind].append(path)
    return [row for row in rows if not kinds[row.path]], dict(refused)


def spelling_note(paths: Iterable[str]) -> str:
    """Returns what may be wrong with paths that no file has; empty when nothing is to be seen."""
    for path in paths:
        if drive := re.search(r"(?:^|/)([A-Za-z]:)[\\/]", path):
            return f"{drive[1]} is a drive of Windows: give paths that are relative to the list."
        if "\\" in path:
            return "Their names have backslashes, which separate folders on Windows alone: write / instead."
    return ""


def manifest_folder(manifest: str) -> str:
    """Returns the folder that relative paths begin in: absolute, however the manifest was named."""
    return os.path.dirname(manifest if "://" in manifest else os.path.abspath(manifest))
