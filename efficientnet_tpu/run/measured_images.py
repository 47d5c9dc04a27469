"""The images that a run is measured on: which of a data set's, and under which labels."""

import dataclasses
import functools
import os
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.config.data_paths import archives_in
from efficientnet_tpu.data.datasets import open_splits
from efficientnet_tpu.data.relabelled_split import with_classes
from efficientnet_tpu.data.sources.labelled_files import split_of
from efficientnet_tpu.data.split import ImageData, Split
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run.run_record import RunRecord


@dataclass(frozen=True)
class MeasuredImages:
    """Images of a data set to measure on.

    name: what they are, as "validation". data: all splits of the set; total: how many images they have together.
    own_splits: which splits of the set that the run was trained on; none of another set. note: a line on why these
    images, or "".
    """

    split: Split
    name: str
    data: ImageData
    own_splits: tuple[str, ...]
    note: str

    @property
    def words(self) -> str:
        """Returns what the images are, before "of a data set"."""
        return "images" if self.name == "all" else f"{self.name} images"

    @property
    def total(self) -> int:
        return sum(split.num_images for split in self.data.splits.values())

    def with_classes(self, label_names: tuple[str, ...], labels: tuple[int, ...]) -> "MeasuredImages":
        """Returns the images under the labels of a run. labels: for each class of the data, its label there."""
        one = ImageData(self.data.label_names, None, self.split, self.data.fingerprint)
        return dataclasses.replace(self, split=with_classes(one, label_names, labels).validation)


def open_measured_images(stored: RunRecord, config: Config) -> MeasuredImages:
    """Opens the images that --eval_split names, of the run's data set or of another one.

    Of the run's own they are those that it was not trained on. Another set has none of them: where it has no
    validation split, all of its images are measured, and nothing is held out.
    """
    is_own = _is_same_source(stored.config.data, config.data)
    # The run's own set may be somewhere else by now.
    may_be_own = is_own or not _exists(stored.config.data)
    data = open_splits(config.data, hold_out=may_be_own or config.eval.eval_split == "minival")
    is_own = is_own or (may_be_own and data.fingerprint == stored.data_fingerprint)
    return choose_images(data, config.eval.eval_split, config.data.source, is_own)


def choose_images(data: ImageData, eval_split: str, source: str, is_own: bool) -> MeasuredImages:
    """Chooses images by --eval_split. source: the flag that named the data. is_own: a run was trained on them."""
    splits, everything = data.splits, list(data.splits)
    name = eval_split
    if eval_split == "test" and split_of(data.words.get("validation", "")) == "test":
        name = "validation"  # the test images are validated on, for lack of others
    trained_on = splits["train"].num_images if is_own and "train" in splits else 0
    note = ""
    if name == "validation":
        name, note = _validation_images(data, source, is_own)
    if name == "all":
        chosen = everything
    elif name in splits:
        chosen = [name]
    else:
        raise UserError(_missing(eval_split, source, everything))
    if trained_on and "train" in chosen:
        note = f"note: the run was trained on {trained_on:,} of these images"
    split = functools.reduce(lambda first, second: first.join(second), (splits[one] for one in chosen))
    called = data.words.get(name, name)
    words = called if split_of(called) != name else name
    return MeasuredImages(split, words, data, tuple(chosen) if is_own else (), note)


def _validation_images(data: ImageData, source: str, is_own: bool) -> tuple[str, str]:
    """Returns what is measured where validation images are asked for, and a line on it where that is not plain."""
    splits = data.splits
    if "validation" in splits and "validation" not in data.held_out:
        return "validation", ""
    if "validation" in splits and is_own:
        return "validation", (
            f"measured are the {data.validation.num_images:,} images held out of training, of {source}; "
            "--eval_split=all measures all of them"
        )
    measured = "all" if "train" in splits else "test"
    which = "all of its images" if measured == "all" else "its test images"
    return measured, f"{source} has no validation images of its own: {which} are measured"


def _missing(eval_split: str, source: str, there: list[str]) -> str:
    if eval_split == "minival":
        return "--eval_split=minival: nothing is held out of the training images; --minival_percent does."
    return f"--eval_split={eval_split}: {source} has no such images. Give one of {', '.join(there)}, all."


def _is_same_source(stored: DataConfig, given: DataConfig) -> bool:
    if stored.dataset != given.dataset:
        return False
    if "://" in stored.data_dir or "://" in given.data_dir or not stored.data_dir or not given.data_dir:
        return stored.data_dir.rstrip("/") == given.data_dir.rstrip("/")
    paths = [[os.path.realpath(path) for path in _paths(data)] for data in (stored, given)]
    return paths[0] == paths[1]


def _exists(data: DataConfig) -> bool:
    """Returns whether a run's data set is still where it was, if it is in a place; an import has none."""
    if not data.data_dir:
        return True
    try:
        return all(tf.io.gfile.exists(path) for path in _paths(data))
    except tf.errors.OpError:
        return False


def _paths(data: DataConfig) -> list[str]:
    return archives_in(data.data_dir) or [data.data_dir]
