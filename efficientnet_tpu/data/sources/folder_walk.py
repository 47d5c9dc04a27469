"""Folders of images, walked: one set of rules for training, check-data, make-tfrecords and predict.

An image is a file with an image's extension, or, on a local disk, a file without a known one whose first bytes are an
image's. An entry that is a folder is none, whatever its name. What operating systems, file servers and this program
leave among images is passed over, and what is none is counted by kind. A real folder is read once, however links lead
to it. On gs:// names alone decide, because there a look at a file is a request.
"""

import collections
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from efficientnet_tpu.data.decoding.image_file import MAX_FILE_BYTES, TOO_LARGE
from efficientnet_tpu.data.decoding.image_header import READABLE, format_of
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.regular_file import IRREGULAR, irregular_kind, size_of
from efficientnet_tpu.texts.printable import escaped

EXTENSIONS = tuple(extension for extensions in READABLE.values() for extension in extensions)
# Left by macOS, Linux, Windows, Synology and QNAP. Names that begin with a dot are passed over besides.
_NOT_THE_USERS = {
    "__macosx", "icon\r", "lost+found", "$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db",
    "desktop.ini", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb",
}  # fmt: skip
# A folder with one of these is a run, an export, or shards: pictures in it are the program's.
_OUTPUTS = {"run.json", "training.lock", "saved_model.pb"}
# No look into files of these, of which a data set may have as many as images.
_NO_IMAGES = (".txt", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".npy", ".npz", ".mat", ".html", ".md", ".mp4")
_HEAD = 16  # bytes that tell formats apart
NOT_UTF_8 = "with a name that is not UTF-8"
READ_ALREADY = "read already under another name"
OUTPUT = "written by this program"
# Sizes are looked at in sets of so many images: of a million, that takes minutes on a network's file system.
_SIZES_LOOKED_AT = 100_000
_NAMED = (NOT_UTF_8, READ_ALREADY, OUTPUT, TOO_LARGE, *IRREGULAR)


@dataclass(frozen=True)
class Folder:
    """One folder's entries, sorted by name, without those that nobody means: names of folders, links to folders among
    them, and images. left_out: kind -> names of the other files.
    """

    path: str
    folders: tuple[str, ...]
    links: frozenset[str]
    images: tuple[str, ...]
    left_out: dict[str, tuple[str, ...]]
    is_output: bool

    @property
    def files(self) -> list[str]:
        """Returns the names of all files."""
        return sorted([*self.images, *(name for names in self.left_out.values() for name in names)])


def join(folder: str, name: str) -> str:
    """Returns the path of an entry, on gs:// too."""
    return f"{folder.rstrip('/')}/{name}"


def is_passed_over(name: str) -> bool:
    """Tells whether a file or folder of this name is one that nobody means."""
    return name.startswith(".") or name.lower() in _NOT_THE_USERS


def is_local(path: str) -> bool:
    """Tells whether the operating system can open it."""
    return "://" not in path


def names_in(path: str) -> list[str]:
    """Returns the names in a folder, without those that are not UTF-8, at which TensorFlow's own listing fails.

    Raises UserError when it cannot be listed.
    """
    if is_local(path):
        try:
            return [name for name in os.listdir(path) if name == shown_name(name)]
        except OSError as error:
            raise UserError(f"{escaped(path)}: the folder cannot be listed: {error.strerror}.") from error
    import tensorflow as tf

    try:
        return tf.io.gfile.listdir(path)
    except tf.errors.OpError as error:
        raise UserError(f"{escaped(path)}: the folder cannot be listed: {error.message}") from error


def read_folder(path: str) -> Folder:
    """Lists a folder. Raises UserError when that is impossible."""
    folders, links, files, left_out = (_local_names if is_local(path) else _remote_names)(path)
    images = []
    for name in sorted(files):
        kind = _kind(path, name)
        if kind:
            left_out[kind].append(name)
        else:
            images.append(name)
    return Folder(
        path,
        tuple(sorted(folders)),
        frozenset(links),
        tuple(images),
        {kind: tuple(sorted(names)) for kind, names in left_out.items()},
        _is_output(files),
    )


def _is_output(files: Sequence[str]) -> bool:
    """Tells whether the files are a run, an export or shards, by their names."""
    has_shards = any(name.startswith("train-") for name in files)
    return not _OUTPUTS.isdisjoint(files) or (has_shards and "dataset.json" in files)


_Names = tuple[list[str], list[str], list[str], collections.defaultdict[str, list[str]]]


def _local_names(path: str) -> _Names:
    """Returns names of folders, links to folders among them, and files; and what is left out by its name.

    1.3 million names take about 3 s, because nothing is asked of a file but what the folder says of it.
    """
    folders, links, files = [], [], []
    left_out: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
    try:
        with os.scandir(path or ".") as entries:
            for entry in entries:
                name = entry.name
                if is_passed_over(name):
                    continue
                if not name.isascii() and name != shown_name(name):
                    left_out[NOT_UTF_8].append(shown_name(name))
                elif entry.is_dir():
                    folders.append(name)
                    if entry.is_symlink():
                        links.append(name)
                elif kind := _irregular_entry(entry):
                    left_out[kind].append(name)
                else:
                    files.append(name)
    except OSError as error:
        raise UserError(f"{escaped(path)}: the folder cannot be listed: {error.strerror}.") from error
    return folders, links, files, left_out


def _irregular_entry(entry: os.DirEntry) -> str:
    """Returns what an entry is that is no regular file, as `irregular_kind`; an ordinary one is not asked."""
    if entry.is_file() and not entry.is_symlink():
        return ""
    try:
        return irregular_kind(entry.path, entry.stat())
    except OSError:  # a link to nothing, which will be named as unreadable
        return ""


def shown_name(name: str) -> str:
    """Returns a name as it can be printed: bytes that are not UTF-8, for which Python puts surrogates, as \\xe9."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _remote_names(path: str) -> _Names:
    """Returns the same of a folder on gs://, where a folder's name ends in /, or on another file system of TensorFlow,
    where names that do not look like images are asked for their kind.
    """
    import tensorflow as tf

    try:
        names = [name for name in names_in(path) if name.rstrip("/") and not is_passed_over(name.rstrip("/"))]
        if path.startswith("gs://"):
            folders = {name for name in names if name.endswith("/")}
        else:
            asked = (name for name in names if not name.lower().endswith(EXTENSIONS))
            folders = {name for name in asked if tf.io.gfile.isdir(join(path, name))}
    except tf.errors.OpError as error:
        raise UserError(f"{escaped(path)}: the folder cannot be listed: {error.message}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{escaped(path)}: holds a file whose name is not UTF-8: {error.object!r}. Rename it."
        ) from error
    files = [name for name in names if name not in folders]
    return [name.rstrip("/") for name in folders], [], files, collections.defaultdict(list)


def _kind(folder: str, name: str) -> str:
    """Returns the kind of a file that is no image, such as '.txt' or '.tif (TIFF)'; empty for an image."""
    lowered = name.lower()
    if lowered.endswith(EXTENSIONS):
        return ""
    ending = os.path.splitext(lowered)[1]
    kind = ending if re.search("[a-z]", ending) else "without extension"  # nor have img_0.25 and n01440764.123 any
    if lowered.endswith(_NO_IMAGES) or not is_local(folder):
        return kind
    content = _format_inside(join(folder, name))
    if content in READABLE:
        return ""
    return f"{kind} ({content})" if content and content.lower() not in kind else kind


def _format_inside(path: str) -> str:
    """Returns the format that a file's first bytes show; empty if it is unknown, or the file cannot be read."""
    try:
        with open(path, "rb") as file:
            return format_of(file.read(_HEAD))
    except OSError:
        return ""


class Walk:
    """A walk over folders and all below them, in which no real folder is read twice."""

    def __init__(self, own: Iterable[str] = (), skips_outputs: bool = True) -> None:
        """own: folders that the caller lists itself, to which no link leads back. skips_outputs: passes over runs and
        exports.
        """
        self._skips_outputs = skips_outputs
        self.explained: set[str] = set()  # folders that were begun with, of which something was passed over whole
        self._left_out: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, str] = {}
        self._read = {real(path) for path in own}

    def leave_out(self, kind: str, names: Iterable[str]) -> None:
        """Counts what is not taken."""
        for name in names:
            self._left_out[kind] += 1
            self._examples.setdefault(kind, name)

    def leave_out_files(self, folder: Folder, but: str = "") -> None:
        """Counts the files of a folder that are no images, but for one that was read."""
        for kind, names in folder.left_out.items():
            self.leave_out(kind, (name for name in names if name != but))

    def left_out(self) -> dict[str, int]:
        """Returns kind -> number, sorted; kinds that tell nothing without a name have an example."""
        named = {kind: f"{kind} ({self._examples[kind]})" for kind in _NAMED if kind in self._examples}
        return {named.get(kind, kind): count for kind, count in sorted(self._left_out.items())}

    def images(self, folders: Mapping[str, bool]) -> dict[str, list[str]]:
        """Finds the images in folders and below; folders: path -> whether it is a link.

        Links are followed last, so that what they lead to keeps its own name.
        """
        found: dict[str, list[str]] = {path: [] for path in folders}
        waiting = [(path, path, real(path)) for path, is_link in folders.items() if not is_link]
        links = [(path, path) for path, is_link in folders.items() if is_link]
        while waiting or links:
            if not waiting:
                start, path = links.pop(0)
                waiting.append((start, path, real(path)))
            start, path, known_as = waiting.pop()
            folder = None if known_as in self._read else read_folder(path)
            self._read.add(known_as)
            if folder is None or (folder.is_output and self._skips_outputs):
                self.explained.add(start)
                self.leave_out(READ_ALREADY if folder is None else OUTPUT, [path])
                continue
            self.leave_out_files(folder)
            found[start] += [join(path, name) for name in folder.images]
            links += [(start, join(path, name)) for name in folder.folders if name in folder.links]
            below = [name for name in folder.folders if name not in folder.links]
            waiting += [(start, join(path, name), join(known_as, name)) for name in below]
        if sum(map(len, found.values())) <= _SIZES_LOOKED_AT:
            found = {start: self._without_large(paths) for start, paths in found.items()}
        return found

    def _without_large(self, paths: Sequence[str]) -> list[str]:
        large = [path for path in paths if size_of(path) > MAX_FILE_BYTES]
        self.leave_out(TOO_LARGE, large)
        return [path for path in paths if path not in large]


def real(path: str) -> str:
    """Returns one name for a folder, however links lead to it."""
    return os.path.realpath(path) if is_local(path) else path.rstrip("/")
