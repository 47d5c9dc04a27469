"""Writes the images that all contestants read: train/<class>/ and validation/<class>/ in one folder."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from efficientnet_tpu.data.sources.fashion_mnist.idx_to_folder import CLASSES, read_idx

SPLITS = ("train", "validation")
HELD_OUT_PERCENT = 20
_IMAGES = (".jpg", ".jpeg", ".png")
_RECORD = "split.json"
_IDX = {"train": "train", "validation": "t10k"}


def write_split(data_dir: Path, folder: Path, most: int, tuning: bool = False) -> Path:
    """Writes `folder`/{train,validation}/<class>/ unless it is there already; returns `folder`.

    data_dir: <class>/*.jpg, of which the 20% of each class with the lowest hashes of their content are held out;
    {train,test}/<class>/*.jpg or {train,validation}/<class>/*.jpg, which stay as they are; or MNIST's four idx.gz
    files.
    most: images of a class and split; 0: all.
    tuning: leaves out the images that would be held out, and holds out 20% of the others: a recipe that is chosen by
    them has not seen the images that it is measured on.
    Files are linked where the file system can. Exits with a message where `folder` is of other images.
    """
    wanted = {"data_dir": str(data_dir.resolve()), "images_of_a_class": most, "tuning": tuning}
    record = folder / _RECORD
    if record.exists():
        found = json.loads(record.read_text())
        if any(found[key] != value for key, value in wanted.items()):
            sys.exit(f"{folder}: has the images of {found}, not of {wanted}; give another --output_dir")
        return folder
    shutil.rmtree(folder, ignore_errors=True)  # a part that a killed process has left
    write = _write_idx if (data_dir / "train-images-idx3-ubyte.gz").exists() else _link_files
    write(data_dir, folder, most)
    if tuning:
        _hold_out_again(folder)
    counts = {split: len(list((folder / split).glob("*/*"))) for split in SPLITS}
    if not all(counts.values()):
        sys.exit(f"--data_dir={data_dir}: has no <class>/*.jpg, no {{train,test}}/<class>/*.jpg and no idx.gz files")
    record.write_text(json.dumps(wanted | counts) + "\n")
    return folder


def count_images(folder: Path, split: str) -> int:
    """Returns the number of images of a split that `write_split` has written."""
    return json.loads((folder / _RECORD).read_text())[split]


def _link_files(data_dir: Path, folder: Path, most: int) -> None:
    """Links the files of a folder of images."""
    second = next((name for name in ("validation", "test") if (data_dir / name).is_dir()), None)
    roots = {"train": data_dir / "train", "validation": data_dir / second} if second else {"": data_dir}
    for given, root in roots.items():
        for directory in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ():
            files = [path for path in directory.iterdir() if path.suffix.lower() in _IMAGES]
            parts = {given: sorted(files)} if given else _parts(_by_content(files))
            for split, part in parts.items():
                target = folder / split / directory.name
                target.mkdir(parents=True, exist_ok=True)
                for file in part[: most or None]:
                    _link(file, target / file.name)


def _hold_out_again(folder: Path) -> None:
    """Replaces the held-out images by a share of the training images."""
    shutil.rmtree(folder / "validation", ignore_errors=True)
    for directory in (folder / "train").iterdir():
        target = folder / "validation" / directory.name
        target.mkdir(parents=True)
        for file in _parts(_by_content(list(directory.iterdir()), b"tuning"))["validation"]:
            file.rename(target / file.name)


def _by_content(files: list[Path], salt: bytes = b"") -> list[Path]:
    """Returns the files in the order of the hashes of their contents."""
    return sorted(files, key=lambda file: hashlib.sha256(salt + file.read_bytes()).digest())


def _parts(files: list[Path]) -> dict[str, list[Path]]:
    num_held_out = -(-len(files) * HELD_OUT_PERCENT // 100)
    return {"validation": files[:num_held_out], "train": files[num_held_out:]}


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, target)


def _write_idx(data_dir: Path, folder: Path, most: int) -> None:
    """Writes the images of MNIST's files as PNG."""
    for split, prefix in _IDX.items():
        images = read_idx(data_dir / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(data_dir / f"{prefix}-labels-idx1-ubyte.gz")
        for label, name in enumerate(CLASSES):
            target = folder / split / name
            target.mkdir(parents=True)
            for number in np.flatnonzero(labels == label)[: most or None]:
                Image.fromarray(images[number]).save(target / f"{number:05d}.png")
