"""Opens the source of images that --dataset and --data_dir name: files, shards, TFDS, the sample or made-up images.

A new source is a module with a function that makes ImageData, a row here, and its meaning in DATASETS of `config`.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from efficientnet_tpu.config.data import DATASETS, DataConfig
from efficientnet_tpu.data.archives import imagenet_archives
from efficientnet_tpu.data.archives.archive_split import archive_split
from efficientnet_tpu.data.class_names import require_printable
from efficientnet_tpu.data.data_place import require_data_place
from efficientnet_tpu.data.records.shard_names import TFDS_FILES, find_below, find_shards
from efficientnet_tpu.data.records.tfds import open_prepared, open_tfds
from efficientnet_tpu.data.records.tfrecords import open_tfrecords
from efficientnet_tpu.data.sources import image_folder, manifest
from efficientnet_tpu.data.sources.file_split import file_split
from efficientnet_tpu.data.sources.folder_walk import names_in
from efficientnet_tpu.data.sources.labelled_files import Example, LabelledFiles, split_of
from efficientnet_tpu.data.sources.listed_paths import manifest_folder
from efficientnet_tpu.data.sources.synthetic import open_fake
from efficientnet_tpu.data.split import ImageData, Split, fingerprint
from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.storage import presence
from efficientnet_tpu.texts.printable import shown

SAMPLE_DIR = str(Path(__file__).parent / "sources" / "fashion_mnist")


def open_data(config: DataConfig) -> ImageData:
    """Opens the images that `config` names, to train on. Raises UserError for a set without what training needs."""
    data = open_splits(config)
    if len(data.label_names) < 2:
        raise UserError(f"{config.source}: has one class, {data.label_names[0]}; training needs two.")
    require_training_images({name: split.num_images for name, split in data.splits.items()}, config)
    return data


def open_splits(config: DataConfig, hold_out: bool = True) -> ImageData:
    """Opens the images that `config` names, in the splits that there are: a set to measure on needs no others.

    hold_out: takes out of the training images what else training needs.
    """
    kind, _, name = config.dataset.partition(":")
    if kind not in SOURCES:
        raise UserError(f"--dataset={shown(config.dataset)}: must be {', '.join(DATASETS)}.{nearest(kind, SOURCES)}")
    if not hold_out:
        config = dataclasses.replace(config, validation_percent=0, minival_percent=0.0)
    data = SOURCES[kind](name, config)
    if not data.label_names:
        raise UserError(f"{config.source}: has no classes. Labelled images are wanted.")
    require_printable(data.label_names, config.source)
    return data


def find_files(config: DataConfig) -> LabelledFiles:
    """Lists the image files of --data_dir, a folder or a manifest, in splits. Prints what was left out."""
    if imagenet_archives.are_archives(config.data_dir):
        read = imagenet_archives.read
    else:
        read = manifest.read if manifest.is_manifest(config.data_dir) else image_folder.scan
    files = read(config.data_dir, config.validation_percent, config.minival_percent, config.hold_out_by)
    require_printable(files.label_names, config.source)
    for examples in files.splits.values() if not files.places else ():
        image_folder.check_readable(examples)
    if files.left_out:
        print(files.left_out_line(), flush=True)
    if split_of(files.words.get("validation", "")) == "test":
        print(f"validation: the images of {files.words['validation']}, as there are no others", flush=True)
    if "test" in files.splits:
        print(f"kept apart: {len(files.splits['test']):,} images of {files.words.get('test', 'test')}", flush=True)
    return files


def folder_of_paths(data_dir: str) -> str:
    """Returns how the paths of `find_files` begin that are below data_dir: with a folder that may be another one on
    another machine.
    """
    base = manifest_folder(data_dir) if manifest.is_manifest(data_dir) else data_dir
    return base.rstrip("/") + "/"


def split_of_files(files: LabelledFiles, examples: Sequence[Example]) -> Split:
    """Makes the Split of some of the images that `find_files` has listed."""
    return archive_split(examples, files.places) if files.places else file_split(examples)


def require_training_images(sizes: Mapping[str, int], config: DataConfig) -> None:
    """Raises UserError for a data set that can only be measured on. sizes: split -> images."""
    found = ", ".join(f"{size:,} of {split}" for split, size in sizes.items())
    for split, words in (("train", "training"), ("validation", "validation")):
        if split not in sizes:
            raise UserError(
                f"{config.source}: has no {words} images, only {found}. Put them into a folder {split}, or give their "
                f"lines the split {split}, or their shards names as {split}-00000-of-00001."
            )


def _open_data_dir(name: str, config: DataConfig) -> ImageData:
    """Opens shards if there are any, else image files."""
    require_data_place(config)
    names = names_in(config.data_dir) if presence.is_folder(config.data_dir, config.source) else []
    if set(TFDS_FILES) <= set(names):
        return open_prepared(config)
    if shards := find_shards(config.data_dir, names):
        return open_tfrecords(shards, config)
    try:
        files = find_files(config)
    except UserError as error:
        if names and (below := find_below(config.data_dir)):
            raise UserError(f"{config.source}: the records are further down. Give --data_dir={below}") from error
        raise
    below = folder_of_paths(config.data_dir)
    # A test split came later: with it, the fingerprints of earlier runs would be others.
    ours = (examples for split, examples in files.splits.items() if split != "test")
    names = (path.removeprefix(below) for examples in ours for path, _ in examples)
    splits = {name: split_of_files(files, examples) for name, examples in files.splits.items()}
    missing = dict.fromkeys({"train", "validation"} - splits.keys())
    return ImageData(
        files.label_names,
        fingerprint=fingerprint(names),
        words=files.words,
        held_out=files.held_out,
        **missing,
        **splits,
    )


def _open_sample(name: str, config: DataConfig) -> ImageData:
    """Opens the embedded shards."""
    return open_tfrecords(find_shards(SAMPLE_DIR, os.listdir(SAMPLE_DIR)), config)


# By the part of --dataset before a colon; each takes the part after it.
SOURCES: dict[str, Callable[[str, DataConfig], ImageData]] = {
    "auto": _open_data_dir,
    "sample": _open_sample,
    "tfds": open_tfds,
    "fake": open_fake,
}
