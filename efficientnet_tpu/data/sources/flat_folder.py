"""A split's folder whose images lie in no class folders: labels from a list inside it, or what to do about it."""

import os
import re
import shlex
from dataclasses import dataclass

from efficientnet_tpu.data.sources import listed_rows
from efficientnet_tpu.data.sources.folder_walk import Folder, join
from efficientnet_tpu.data.sources.listed_paths import ListedPaths, without_refused
from efficientnet_tpu.errors import UserError

# Lists of a split's labels that lie in its folder: Roboflow's, Hugging Face's, that of Kaggle's ImageNet; and with this
# ending Tiny ImageNet's, which has no header.
_LISTS = ("_classes.csv", "_annotations.csv", "metadata.csv", "metadata.jsonl", "labels.csv", "LOC_val_solution.csv")
_HEADLESS = "_annotations.txt"
_ILSVRC_VALIDATION = re.compile(r"ILSVRC2012_val_\d{8}\.")
_VALPREP = "https://raw.githubusercontent.com/soumith/imagenetloader.torch/master/valprep.sh"
# cat.0.jpg, american_bulldog_12.jpg: a class, then a number.
_NAMED_BY_CLASS = re.compile(r"(.*[^0-9._ -])[._ -]*[0-9]+\.[A-Za-z]+")
_SED = r"s/^(.*[^0-9._ -])[._ -]*[0-9]+\.[A-Za-z]+$/&,\1/p"


@dataclass(frozen=True)
class Listed:
    """The images of a folder as a list in it says: class name -> paths. name: the list's; unlisted: other images;
    refused: kind -> paths of pipes, devices and the like that it names.
    """

    classes: dict[str, list[str]]
    name: str
    unlisted: list[str]
    refused: dict[str, list[str]]


def read_listed(folder: Folder) -> Listed | None:
    """Reads the images and labels that a list in the folder names; None without one, or with class folders."""
    if folder.folders and folder.folders != ("images",):
        return None
    files = folder.files
    name = next((name for name in _LISTS if name in files), None)
    name = name or next((name for name in files if name.endswith(_HEADLESS)), None)
    if name is None:
        return None
    path = join(folder.path, name)
    try:
        rows = listed_rows.read(path, f"--data_dir={path}", has_header=not name.endswith(_HEADLESS))
    except UserError:
        if folder.folders:
            return None
        raise
    paths = ListedPaths(folder.path, path)
    rows = sorted(row._replace(path=paths.find(row), split=None) for row in rows)
    listed_rows.require_one_label(f"--data_dir={path}", rows)
    rows, refused = without_refused(rows)
    classes: dict[str, dict[str, None]] = {}
    for row in rows:  # a list of boxes names an image once for each
        classes.setdefault(row.class_name, {})[row.path] = None
    known = {path for found in classes.values() for path in found}
    unlisted = [name for name in folder.images if join(folder.path, name) not in known]
    return Listed({label: list(found) for label, found in classes.items()}, name, unlisted, refused)


def list_advice(holder: Folder, name: str) -> str:
    """Returns which list in a folder may have the labels of images in the folder `name`; empty without any."""
    lists = [file for file in holder.files if file.lower().endswith(listed_rows.EXTENSIONS)]
    # sample_submission.csv has the test images, whose labels are to be found.
    lists = [file for file in lists if "submission" not in file.lower()]
    if not lists:
        return ""
    likely = min(lists, key=lambda file: (not file.lower().startswith((name.lower(), "train", "label")), file))
    return f" If {likely} lists their labels, give --data_dir={join(holder.path, likely)}."


def explain(folder: Folder, root: Folder, layouts: str) -> str:
    """Returns why a folder cannot be read, and the command that makes it readable where its layout is a known one."""
    if not folder.images:
        return f"{folder.path} has no class folders. {layouts}"
    found = f"{folder.path} has images ({folder.images[0]}, ...) but no class folders."
    if _ILSVRC_VALIDATION.match(folder.images[0]):
        return (
            f"{found} They are ImageNet's validation images: `cd {shlex.quote(folder.path)} && wget -qO- {_VALPREP} | "
            "bash` moves them into folders of their classes; or put Kaggle's list of their labels beside them, "
            "LOC_val_solution.csv."
        )
    for holder in (folder, root):
        if advice := list_advice(holder, os.path.basename(folder.path)):
            return f"{found}{advice} {layouts}"
    matches = [_NAMED_BY_CLASS.fullmatch(name) for name in folder.images]
    classes = sorted({match[1] for match in matches if match})
    if all(matches) and 1 < len(classes) <= len(matches) / 2:
        target = join(folder.path, "list.csv")
        return (
            f"{found} If their names begin with the class ({', '.join(classes[:3])}), `(echo path,label; ls "
            f"{shlex.quote(folder.path)} | sed -nE '{_SED}') > {shlex.quote(target)}` writes a list of them: "
            f"--data_dir={target}. {layouts}"
        )
    return f"{found} {layouts}"
