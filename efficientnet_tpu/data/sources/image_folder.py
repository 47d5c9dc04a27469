"""A folder of images: which files, which classes, which split. Reads names only; works on gs:// too.

Two layouts: root/<class>/*.jpg, from which a share is held out for validation, and root/{train,validation,test}/
<class>/*. The splits go by several names. A set to measure on may have no train. Instead of class folders a split may
have a list beside its images, as Roboflow, Hugging Face and Tiny ImageNet lay them out.
"""

import contextlib
import os
import re
import unicodedata
from collections.abc import Sequence

from efficientnet_tpu.data.decoding.image_header import READABLE, format_of
from efficientnet_tpu.data.sources import flat_folder
from efficientnet_tpu.data.sources.folder_walk import EXTENSIONS, OUTPUT, Folder, Walk, join, read_folder, real
from efficientnet_tpu.data.sources.labelled_files import SPLIT_WORDS, Example, LabelledFiles, sorted_names, split_of
from efficientnet_tpu.data.sources.listed_paths import spelling_note
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import presence

_LAYOUTS = "Lay the images out as {root}/<class>/*.jpg, or {root}/train/<class>/*.jpg and {root}/validation/<class>/*."
_SECOND_TEST = re.compile(r"test[ _-]?(stg)?[0-9]+", re.IGNORECASE)  # of competitions, which keep the labels back
_FEW_FOLDERS = 10  # beside a split's, each of which is looked into


def scan(
    root: str, validation_percent: int | None, minival_percent: float = 0, hold_out_by: str = "class"
) -> LabelledFiles:
    """Lists the images under `root`. Without a validation folder, holds out `validation_percent` of the images.

    Raises UserError, before any image is read, when the layout is not one of the two.
    """
    root = root.rstrip("/") or "/"
    layouts = _LAYOUTS.format(root=root)
    require_folder(root)
    folder = read_folder(root)
    roots = _split_folders(folder)
    reader = _ClassReader(folder, layouts, roots)
    classes = reader.read()
    known = classes.get("train") or {name: [] for found in classes.values() for name in found}
    label_names = sorted_names(known)
    if not label_names:
        raise UserError(f"--data_dir={root}: {folder.path} has no class folders. {layouts}")
    if len(label_names) == 1 and validation_percent != 0:  # to measure on, images of one class may do
        raise UserError(f"--data_dir={root}: {_single_class(folder, roots, label_names[0])} {layouts}")
    for split in ("validation", "test"):
        unexpected = sorted(classes.get(split, {}).keys() - known.keys())
        if unexpected and split == "validation":
            raise UserError(
                f"--data_dir={root}: {roots[split].path} has the class {unexpected[0]}, {roots['train'].path} does "
                f"not. Give the class training images, or move {join(roots[split].path, unexpected[0])} elsewhere."
            )
        for name in unexpected:  # nobody chooses by them, and they may have no labels at all
            reader.leave_out(classes[split].pop(name), f"of {split} in {name}, a class without training images")
    labels = {name: label for label, name in enumerate(label_names)}
    splits = {
        split: tuple(sorted((path, labels[name]) for name, paths in paths_of.items() for path in paths))
        for split in SPLIT_WORDS
        if (paths_of := classes.get(split))
    }
    words = {split: os.path.basename(found.path) for split, found in roots.items() if found is not folder}
    words = {split: word for split, word in words.items() if split in splits}
    files = LabelledFiles(label_names, splits, reader.walk.left_out(), words)
    return files.with_held_out(root, root, validation_percent, minival_percent, hold_out_by)


def check_readable(examples: Sequence[Example], sample: int = 16) -> None:
    """Looks at the first bytes of up to `sample` images, evenly spread; raises UserError when not one is an image."""
    import tensorflow as tf

    step = max(1, len(examples) // sample)
    paths = [path for path, _ in examples[::step][:sample]]
    heads = []
    for path in paths:
        with contextlib.suppress(tf.errors.OpError), tf.io.gfile.GFile(path, "rb") as file:  # gone, or not ours to read
            heads.append(file.read(16))
    if any(format_of(head) in READABLE for head in heads):
        return
    found = "none is a JPEG, PNG, GIF, BMP or WebP inside"
    advice = "Convert them to JPEG or PNG."
    if not heads:
        found = "none can be opened"
        advice = spelling_note(paths) or "Check the paths and the right to read them."
    raise UserError(
        f"--data_dir has no readable image: {len(paths)} files looked at, {found}, for example "
        f"{', '.join(paths[:3])}. {advice}"
    )


def require_folder(root: str) -> None:
    """Raises UserError, with the layouts that there are, unless there is a folder at `root`."""
    named = f"--data_dir={root}"
    if presence.is_folder(root, named):
        return
    there = presence.exists(root, named)
    problem = "is a file, not a folder. A manifest ends in .csv, .tsv or .jsonl" if there else "does not exist"
    raise UserError(f"{named}: {problem}. {_LAYOUTS.format(root=root)}")


def _single_class(root: Folder, roots: dict[str, Folder], name: str) -> str:
    """Says that there is one class; a folder around the classes, or around images that a list labels, is a common
    reason.
    """
    holder = next(iter(roots.values()))
    text = f"{holder.path} has a single class, {name}; a classifier needs two or more."
    if name in holder.folders:
        below = join(holder.path, name)
        folders = read_folder(below).folders
        if not folders:
            text += flat_folder.list_advice(root, name)
        else:
            text += f" If {', '.join(folders[:3])} in it are the classes or the splits, give --data_dir={below}."
    return text


def _split_folders(root: Folder) -> dict[str, Folder]:
    """Finds the folders that hold the classes of the splits; the root itself is one of training images."""
    names: dict[str, str] = {}
    for split, words in SPLIT_WORDS.items():
        found = [name for name in root.folders if split_of(name) == split]
        exact = [name for word in words for name in found if name.lower() == word]
        if found:  # validation before val before val_data
            names[split] = (exact or found)[0]
    if not names:
        return {"train": root}
    folders = {split: read_folder(join(root.path, name)) for split, name in names.items()}
    return folders if _are_splits(root, folders) else {"train": root}


def _are_splits(root: Folder, found: dict[str, Folder]) -> bool:
    """Tells splits from classes with such names: a class holds images itself, and has other classes beside it."""
    others = [name for name in root.folders if not split_of(name) and not _SECOND_TEST.fullmatch(name)]
    if "train" in found:
        train = found["train"]
        return not others or len(found) > 1 or (bool(train.folders) and not train.images)
    if len(others) > _FEW_FOLDERS:
        return False
    return all(read_folder(join(root.path, name)).is_output for name in others)


class _ClassReader:
    """A reader of the classes of all splits, in one walk. `walk` counts what was found and not taken."""

    def __init__(self, root: Folder, layouts: str, roots: dict[str, Folder]) -> None:
        """roots: split -> the folder that holds its classes. One that is only a link to another's is taken out."""
        self._root, self._layouts, self._roots = root, layouts, roots
        self.walk = Walk([root.path, *(folder.path for folder in roots.values())])
        if root in roots.values():
            return
        self._leave_out_beside_classes(root)
        names = {os.path.basename(folder.path) for folder in roots.values()}
        for name in root.folders:
            if name not in names:
                self.leave_out([name], f"folder {name}")
        first: dict[str, str] = {}
        for split, folder in list(roots.items()):  # train comes first
            same = first.setdefault(real(folder.path), split)
            if same != split:
                self.leave_out([folder.path], f"folder {os.path.basename(folder.path)}, a link to that of {same}")
                del roots[split]

    def leave_out(self, paths: Sequence[str], kind: str) -> None:
        """Counts images that are not taken."""
        self.walk.leave_out(kind, paths)

    def read(self) -> dict[str, dict[str, list[str]]]:
        """Returns split -> class name -> paths of its images. Of the two ways to write an accent in Unicode, names have
        the composed one; macOS writes the other.
        """
        classes: dict[str, dict[str, list[str]]] = {}
        for split, folder in list(self._roots.items()):
            listed = flat_folder.read_listed(folder)
            if listed is not None:
                classes[split] = listed.classes
                self.walk.leave_out_files(folder, listed.name)
                self.leave_out(listed.unlisted, f"that {listed.name} does not list")
                for kind, paths in listed.refused.items():
                    self.leave_out(paths, kind)
                continue
            self._leave_out_beside_classes(folder)
            if not folder.folders:
                self._require_labels(split, folder)
        starts = {
            join(folder.path, name): name in folder.links
            for split, folder in self._roots.items()
            if split not in classes
            for name in folder.folders
        }
        found = self.walk.images(starts)
        for split, folder in self._roots.items():
            if split not in classes:
                self._require_images(split, folder, found)
                classes[split] = {}
                for name in folder.folders:
                    paths = found[join(folder.path, name)]
                    if paths:
                        classes[split].setdefault(unicodedata.normalize("NFC", name), []).extend(paths)
        return classes

    def _leave_out_beside_classes(self, folder: Folder) -> None:
        self.walk.leave_out_files(folder)
        for name in folder.images:
            self.walk.leave_out(f"{os.path.splitext(name)[1].lower()} outside the class folders", [name])

    def _require_labels(self, split: str, folder: Folder) -> None:
        """Raises UserError for a folder without class folders; a test folder, whose labels others keep, is left out."""
        if split == "test" and len(self._roots) > 1:
            del self._roots[split]
            return
        raise UserError(f"--data_dir={self._root.path}: {flat_folder.explain(folder, self._root, self._layouts)}")

    def _require_images(self, split: str, folder: Folder, found: dict[str, list[str]]) -> None:
        """Raises UserError when no class has images, and in train when one has none."""
        paths = {join(folder.path, name): found[join(folder.path, name)] for name in folder.folders}
        empty = [path for path, images in paths.items() if not images and path not in self.walk.explained]
        if folder.is_output:  # a run among its images: folders without any are its own
            self.leave_out(empty, OUTPUT)
            return
        extensions = " ".join(EXTENSIONS)
        if empty and not any(paths.values()):
            raise UserError(
                f"--data_dir={self._root.path}: {folder.path} has {len(paths)} class folders but no image in them; "
                f"readable extensions are {extensions}."
            )
        if empty and split == "train":
            more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
            raise UserError(
                f"--data_dir={self._root.path}: no image ({extensions}) in the class folder {empty[0]}{more}. Put "
                "images into it, or move it elsewhere."
            )
