"""Image files with labels, in splits, as a folder or a manifest gives them, and the holding out of splits not given.

A hash of the name decides, so that nearly all images stay in their split when others come or go.
"""

import dataclasses
import functools
import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts.printable import escaped

Example = tuple[str, int]  # path and 0-based label
FEW_IMAGES = 1000
# What people call the splits, in folders and lists; the first of several that are there is taken.
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "eval"),
    "test": ("test", "testing"),
}


@functools.cache
def split_of(word: str) -> str | None:
    """Returns the split that a word means, in any capitals: train, validation or test; None for other words.

    Test_set, train-images and valid_data are such words too.
    """
    word = re.sub(r"[ _-]?(set|images|imgs|data)$", "", word.lower())
    return next((split for split, words in SPLIT_WORDS.items() if word in words), None)


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Sorts the names of classes: as numbers when all are (0, 1, 2.0, 10), else as text."""
    unique = set(names)
    numbers = {name: _number(name) for name in unique}
    if None in numbers.values():
        return tuple(sorted(unique))
    return tuple(sorted(unique, key=lambda name: (numbers[name], name)))


def _number(name: str) -> float | None:
    """Returns the number that a name is written as: 7, -1 or 2.0, and neither nan, 1e5 nor 1_000."""
    whole, _, fraction = name.removeprefix("-").partition(".")
    if not whole.isdecimal() or not (fraction.isdecimal() if "." in name else True):
        return None
    return float(name) if "." in name else int(name)  # a float would take two long numbers for one


def left_out_line(left_out: Mapping[str, int]) -> str:
    """Returns 'left out: 1 .heic, 3 .txt', or nothing when nothing was."""
    counts = [f"{count:,} {escaped(what)}" for what, count in left_out.items()]
    return f"left out: {', '.join(counts)}" if counts else ""


class ArchivePlace(NamedTuple):
    """Where an image lies in an archive: its path, and the bytes of the image in it."""

    archive: str
    offset: int
    size: int


@dataclass(frozen=True)
class LabelledFiles:
    """Class names in the order of the labels, and the sorted examples of the splits that there are: train, validation,
    test and, if asked for, minival. A set to measure on alone has no train.

    left_out: what was found and not taken, such as {".txt": 3}. words: split -> what the data call it, as "valid".
    held_out: the splits that were taken out of the training images. places: of images in archives, by their paths,
    which are no files then.
    """

    label_names: tuple[str, ...]
    splits: dict[str, tuple[Example, ...]]
    left_out: dict[str, int] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()
    places: Mapping[str, ArchivePlace] = field(default_factory=dict)

    def left_out_line(self) -> str:
        """Returns 'left out: 1 .heic, 3 .txt', or nothing when nothing was."""
        return left_out_line(self.left_out)

    def with_held_out(
        self, data_dir: str, base: str, validation_percent: int | None, minival_percent: float, by: str = "class"
    ) -> "LabelledFiles":
        """Adds the splits that training needs beside its images: validation and, if asked for, minival.

        Test images are validated on when there are no others; else a share of the training images is held out. The
        names that decide are the paths below the folder `base`. Raises UserError, naming `data_dir`, when no class has
        an image to spare. A set without training images stays as it is, and 0 per cent hold nothing out; None are
        those of `default_percent`. by: --hold_out_by.
        """
        if "train" not in self.splits:
            return self
        splits, words = dict(self.splits), dict(self.words)
        if "validation" not in splits and "test" in splits:
            splits["validation"], words["validation"] = splits.pop("test"), words.pop("test", "test")
        asked = []
        if validation_percent is None:
            validation_percent = default_percent(len(splits["train"]))
        if "validation" not in splits and validation_percent:
            asked.append(("validation", validation_percent, _validation_hash, "validate on"))
        if minival_percent:
            asked.append(("minival", minival_percent, _minival_hash, "hold out by --minival_percent"))
        below = base.rstrip("/") + "/"
        for split, percent, hash_of, purpose in asked:
            examples = splits["train"]
            hashes = np.array([hash_of(path.removeprefix(below).encode()) for path, _ in examples])
            held_out = _held_out(examples, hashes, percent, by)
            if not held_out.any():
                raise UserError(
                    f"--data_dir={data_dir}: {len(examples)} images, one of each class, leave none to {purpose}. Add "
                    "images to the classes."
                )
            splits["train"] = tuple(example for example, out in zip(examples, held_out, strict=True) if not out)
            splits[split] = tuple(example for example, out in zip(examples, held_out, strict=True) if out)
        return dataclasses.replace(self, splits=splits, words=words, held_out=tuple(split for split, *_ in asked))


def default_percent(num_images: int) -> int:
    """Returns the share of the training images that is held out to validate on where none is given: 10 per cent.

    Of few images it is 20: of 60, 6 would make one image 17 points of accuracy.
    """
    return 20 if num_images < FEW_IMAGES else 10


def _validation_hash(name: bytes) -> float:
    """Returns 0..99."""
    return zlib.crc32(name) % 100


def _minival_hash(name: bytes) -> float:
    """Returns 0..100, independent of the other hash, which has chosen before."""
    return 100 * int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64


def _held_out(examples: tuple[Example, ...], hashes: np.ndarray, percent: float, by: str) -> np.ndarray:
    """Decides which examples to hold out, bool [examples]: of every class those with the lowest hashes, at least one
    and never the class's last. by "class" they are `percent` of its images, rounded up; by "name" as many as have a
    hash below `percent`.
    """
    labels = np.array([label for _, label in examples])
    by_class = np.lexsort((hashes, labels))  # stable: equal hashes in the order of the examples
    sizes = np.bincount(labels)
    share = np.bincount(labels, weights=hashes < percent)
    if by == "class":
        share = np.ceil(np.round(sizes * percent / 100, 9))
    chosen = np.minimum(np.maximum(share.astype(int), 1), sizes - 1)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its class
    held_out = np.zeros(len(labels), bool)
    held_out[by_class] = rank < np.repeat(chosen, sizes)
    return held_out
