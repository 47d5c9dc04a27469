"""A folder of images: which files, which classes, which split. Reads names only; works on gs:// too.

Two layouts: root/<class>/*.jpg, from which a share is held out for validation, and root/{train,validation,test}/
<class>/*. The splits go by several names. A set to measure on may have no train.
"""

import collections
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from efficientnet_tpu.data.sources.labelled_files import SPLIT_WORDS, Example, LabelledFiles, sorted_names, split_of
from efficientnet_tpu.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")  # what tf.io.decode_image reads
_MAGIC_NUMBERS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"RIFF")  # RIFF: WebP
_LAYOUTS = "Lay the images out as {root}/<class>/*.jpg, or {root}/train/<class>/*.jpg and {root}/validation/<class>/*."


@dataclass(frozen=True)
class _Listing:
    """One folder without its hidden files: the sorted names of folders and images, and the endings of other files."""

    folders: tuple[str, ...]
    images: tuple[str, ...]
    other_endings: tuple[str, ...]

    @classmethod
    def read(cls, folder: str) -> "_Listing":
        """Lists a folder. Raises UserError when that is impossible."""
        import tensorflow as tf

        try:
            names = sorted(tf.io.gfile.listdir(folder))
        except tf.errors.OpError as error:
            raise UserError(f"--data_dir: {folder} cannot be listed: {error.message}") from error
        except UnicodeDecodeError as error:
            raise UserError(
                f"--data_dir: {folder} holds a file whose name is not UTF-8: {error.object!r}. Rename it."
            ) from error
        visible = [name for name in names if not name.startswith(".") and name.rstrip("/") != "__MACOSX"]
        # Only other names are asked for their kind. On gs:// that is a request each, and a folder's name ends in /.
        images, others = [], []
        for name in visible:
            (images if name.lower().endswith(EXTENSIONS) else others).append(name)
        on_gs = folder.startswith("gs://")
        folders = {name for name in others if (name.endswith("/") if on_gs else tf.io.gfile.isdir(_join(folder, name)))}
        endings = [os.path.splitext(name)[1].lower() or "without extension" for name in others if name not in folders]
        return cls(tuple(name.rstrip("/") for name in others if name in folders), tuple(images), tuple(endings))

    def beside_classes(self) -> list[str]:
        """Names the kind of each file that lies beside class folders."""
        endings = [os.path.splitext(name)[1].lower() for name in self.images]
        return [*self.other_endings, *(f"{ending} outside the class folders" for ending in endings)]


def scan(root: str, validation_percent: int, minival_percent: float = 0) -> LabelledFiles:
    """Lists the images under `root`. Without a validation folder, holds out `validation_percent` of the images.

    Raises UserError, before any image is read, when the layout is not one of the two.
    """
    import tensorflow as tf

    reader = _FolderReader(root)
    try:
        exists = tf.io.gfile.exists(root)
    except tf.errors.OpError as error:  # gs://: no network, no permission
        raise UserError(f"--data_dir={root}: cannot be reached: {error.message}") from error
    if not tf.io.gfile.isdir(root):
        problem = "is a file, not a folder. A manifest ends in .csv or .jsonl" if exists else "does not exist"
        raise UserError(f"--data_dir={root}: {problem}. {reader.layouts}")
    roots = reader.split_roots()
    classes = {split: reader.read_classes(folder) for split, folder in roots.items()}
    known = classes.get("train") or {name: [] for names in classes.values() for name in names}
    label_names = sorted_names(known)
    if len(label_names) == 1:
        raise UserError(
            f"--data_dir={root}: {next(iter(roots.values()))} has a single class, {label_names[0]}; a classifier needs "
            f"two or more. {reader.layouts}"
        )
    for split in ("validation", "test"):
        unexpected = sorted(classes.get(split, {}).keys() - known.keys())
        if unexpected and split == "validation":
            raise UserError(
                f"--data_dir={root}: {roots[split]} has the class {unexpected[0]}, {roots['train']} does not. Give the "
                f"class training images, or move {_join(roots[split], unexpected[0])} elsewhere."
            )
        for name in unexpected:  # nobody chooses by them, and they may have no labels at all
            reader.left_out[f"in {_join(roots[split], name)}, a class without training images"] += len(
                classes[split].pop(name)
            )
    labels = {name: label for label, name in enumerate(label_names)}
    splits = {
        split: tuple(sorted((path, labels[name]) for name, paths in paths_of.items() for path in paths))
        for split, paths_of in classes.items()
        if paths_of
    }
    words = {split: os.path.basename(folder) for split, folder in roots.items() if folder != root}
    files = LabelledFiles(label_names, splits, dict(sorted(reader.left_out.items())), words)
    return files.with_held_out(root, root, validation_percent, minival_percent)


def check_readable(examples: Sequence[Example], sample: int = 16) -> None:
    """Looks at the first bytes of up to `sample` images, evenly spread; raises UserError when not one is an image."""
    import tensorflow as tf

    step = max(1, len(examples) // sample)
    paths = [path for path, _ in examples[::step][:sample]]
    heads = []
    for path in paths:
        with contextlib.suppress(tf.errors.OpError), tf.io.gfile.GFile(path, "rb") as file:  # gone, or not ours to read
            heads.append(file.read(8))
    if any(head.startswith(_MAGIC_NUMBERS) for head in heads):
        return
    found = "none is a JPEG, PNG, GIF, BMP or WebP inside"
    advice = "Convert them to JPEG or PNG."
    if not heads:
        found, advice = "none can be opened", "Check the paths and the right to read them."
    raise UserError(
        f"--data_dir has no readable image: {len(paths)} files looked at, {found}, for example "
        f"{', '.join(paths[:3])}. {advice}"
    )


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


class _FolderReader:
    """A reader of the class folders under `root`. `left_out` counts what was found and not taken."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.layouts = _LAYOUTS.format(root=root.rstrip("/"))
        self.left_out: collections.Counter[str] = collections.Counter()

    def split_roots(self) -> dict[str, str]:
        """Finds the folders that hold the classes of the splits; the root itself is one of training images."""
        listing = _Listing.read(self.root)
        chosen: dict[str, str] = {}
        for split, words in SPLIT_WORDS.items():
            found = [name for word in words for name in listing.folders if name.lower() == word]
            if found:
                chosen[split] = found[0]
        if not chosen or not self._are_splits(listing.folders, chosen):
            return {"train": self.root}
        self.left_out.update(f"folder {name}" for name in listing.folders if name not in chosen.values())
        self.left_out.update(listing.beside_classes())
        return {split: _join(self.root, name) for split, name in chosen.items()}

    def _are_splits(self, folders: tuple[str, ...], chosen: dict[str, str]) -> bool:
        """Tells splits from classes with such names: a class holds images itself, and has other classes beside it."""
        if all(split_of(name) for name in folders):
            return True  # read as classes they would train nonsense
        if "train" not in chosen:
            return False
        train = _Listing.read(_join(self.root, chosen["train"]))
        return len(chosen) > 1 or (bool(train.folders) and not train.images)

    def read_classes(self, folder: str) -> dict[str, list[str]]:
        """Returns class name -> paths of its images, sorted by name. Raises UserError unless each class has some."""
        listing = _Listing.read(folder)
        if not listing.folders:
            found = f"images ({listing.images[0]}, ...) but no class folders" if listing.images else "no class folders"
            raise UserError(f"--data_dir={self.root}: {folder} has {found}. {self.layouts}")
        self.left_out.update(listing.beside_classes())
        classes = {name: self._walk(_join(folder, name)) for name in listing.folders}
        empty = [name for name, paths in classes.items() if not paths]
        if len(empty) == len(classes):
            raise UserError(
                f"--data_dir={self.root}: {folder} has {len(classes)} class folders but no image in them; readable "
                f"extensions are {' '.join(EXTENSIONS)}."
            )
        if empty:
            more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
            raise UserError(
                f"--data_dir={self.root}: no image ({' '.join(EXTENSIONS)}) in the class folder "
                f"{_join(folder, empty[0])}{more}. Remove it, or put images into it."
            )
        return classes

    def _walk(self, folder: str) -> list[str]:
        """Returns the paths of the images in a folder and in the folders below it."""
        listing = _Listing.read(folder)
        self.left_out.update(listing.other_endings)
        paths = [_join(folder, name) for name in listing.images]
        for name in listing.folders:
            paths += self._walk(_join(folder, name))
        return paths
