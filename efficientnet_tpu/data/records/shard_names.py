"""Finding the TFRecord files of a directory, and their splits, by name: the reference's layout and those of others.

Splits are words in the names (train-00000-of-01024, val.tfrecord, my_set-train.tfrecord-00000-of-00004) or folders
(train/00.tfrec, val/00.tfrec). They go by several names, as those of folders of images do.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.data.sources.folder_walk import names_in
from efficientnet_tpu.data.sources.labelled_files import split_of

_NUMBERS = r"-\d+-of-\d+"
_ENDING = re.compile(rf"\.tf_?rec(ord)?s?({_NUMBERS})?(\.gz|\.gzip|\.zlib|\.z)?$", re.IGNORECASE)
_NUMBERED = re.compile(rf"{_NUMBERS}$")  # without an ending: train-00000-of-01024
_WORD_AND_NUMBER = re.compile(r"([A-Za-z]+)[-_]\d+")  # train-0
TFDS_FILES = ("features.json", "dataset_info.json")  # of a set that TensorFlow Datasets has prepared
_DEEPEST, _MOST_FOLDERS = 3, 50  # of the search for records further down


@dataclass(frozen=True)
class Shards:
    """Names of shards, sorted, below `root`, by split. words: split -> what the names call it."""

    root: str
    splits: dict[str, list[str]]
    words: dict[str, str]


def find_shards(root: str, names: Sequence[str]) -> Shards | None:
    """Finds the shards in a directory that holds `names`; None where there are none.

    Those whose names say no split are all taken for training images.
    """
    found = _of_one_folder(root, names)
    if found is None:
        folders = [name.rstrip("/") for name in sorted(names) if split_of(name.rstrip("/"))]
        found = _of_split_folders(root, folders) if folders else None
    return found


def find_below(root: str) -> str | None:
    """Returns the first folder below `root` that can be given as --data_dir for its records; None without any."""
    level = [root]
    looked_at = 0
    for _ in range(_DEEPEST):
        below = []
        for folder in level:
            for name in sorted(names_in(folder)):
                path = os.path.join(folder, name.rstrip("/"))
                looked_at += 1
                if looked_at > _MOST_FOLDERS:
                    return None
                if tf.io.gfile.isdir(path):
                    inside = names_in(path)
                    if set(TFDS_FILES) <= set(inside) or find_shards(path, inside):
                        return path
                    below.append(path)
        level = below
    return None


def is_record_name(name: str) -> bool:
    """Tells by its name whether a file may be one of TFRecords."""
    word = _WORD_AND_NUMBER.fullmatch(name)
    return bool(_ENDING.search(name) or _NUMBERED.search(name) or (word and split_of(word[1])))


def split_in_name(name: str) -> tuple[str, str] | None:
    """Returns the split that a shard's name tells, and the word for it; None where it tells none.

    Of several words the last counts: ab-test-train.tfrecord-00000-of-00001 is of the set ab-test.
    """
    stem = re.sub(_NUMBERS, "", _ENDING.sub("", os.path.basename(name)))
    words = [word.rstrip("0123456789") for word in re.split(r"[^A-Za-z0-9]+", stem)]
    found = [(split, word) for word in words if (split := split_of(word))]
    return found[-1] if found else None


def _of_one_folder(root: str, names: Sequence[str]) -> Shards | None:
    splits: dict[str, list[str]] = {}
    words: dict[str, str] = {}
    unnamed = []
    for name in sorted(names):
        if not is_record_name(name):
            continue
        told = split_in_name(name)
        if told:
            splits.setdefault(told[0], []).append(name)
            words.setdefault(*told)
        elif _ENDING.search(name):
            unnamed.append(name)
    # A class may be called train-1.
    splits = {split: group for split, group in splits.items() if not tf.io.gfile.isdir(os.path.join(root, group[0]))}
    if splits:
        return Shards(root, splits, {split: words[split] for split in splits})
    return Shards(root, {"train": unnamed}, {}) if unnamed else None


def _of_split_folders(root: str, folders: Sequence[str]) -> Shards | None:
    splits, words = {}, {}
    for folder in folders:
        split = split_of(folder)
        path = os.path.join(root, folder)
        if split in splits or not tf.io.gfile.isdir(path):
            continue
        shards = [f"{folder}/{name}" for name in sorted(names_in(path)) if is_record_name(name)]
        if shards and not tf.io.gfile.isdir(os.path.join(root, shards[0])):
            splits[split], words[split] = shards, folder
    return Shards(root, splits, words) if splits else None
