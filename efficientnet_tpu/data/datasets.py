"""Which source of images `--dataset` and `--data_dir` name: files, shards, TFDS, the embedded sample or fakes."""

import os
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from efficientnet_tpu.config.run import DataConfig
from efficientnet_tpu.data.records.tfds import open_tfds
from efficientnet_tpu.data.records.tfrecords import open_tfrecords
from efficientnet_tpu.data.sources import image_folder, manifest
from efficientnet_tpu.data.sources.file_split import file_split
from efficientnet_tpu.data.sources.labelled_files import LabelledFiles
from efficientnet_tpu.data.sources.synthetic import open_fake
from efficientnet_tpu.data.split import ImageData, fingerprint
from efficientnet_tpu.errors import UserError, nearest

SAMPLE_DIR = str(Path(__file__).parent / "sources" / "fashion_mnist")


def open_data(config: DataConfig) -> ImageData:
    """Finds the images `config` names. Raises UserError when there is nothing to train on."""
    kind, _, name = config.dataset.partition(":")
    if kind not in SOURCES:
        raise UserError(f"--dataset={config.dataset}: must be auto, sample, fake or tfds:NAME.{nearest(kind, SOURCES)}")
    data = SOURCES[kind](config, name)
    if len(data.label_names) < 2:
        raise UserError(f"{config.source}: has one class, {data.label_names[0]}; training needs two.")
    return data


def find_files(config: DataConfig) -> LabelledFiles:
    """The image files of --data_dir, a folder or a manifest, in splits. Says what was left out."""
    read = manifest.read if manifest.is_manifest(config.data_dir) else image_folder.scan
    files = read(config.data_dir, config.validation_percent, config.minival_percent)
    for examples in files.splits.values():
        image_folder.check_readable(examples)
    if files.left_out:
        print(files.left_out_line(), flush=True)
    return files


def _open_data_dir(config: DataConfig, name: str) -> ImageData:
    """Shards if there are any, else files."""
    if not config.data_dir:
        raise UserError(
            "--data_dir is missing: a folder of images, a manifest or TFRecord shards; or --dataset=sample for the "
            "embedded one."
        )
    try:
        names = tf.io.gfile.listdir(config.data_dir) if tf.io.gfile.isdir(config.data_dir) else []
    except tf.errors.OpError as error:  # gs://: no network, no permission
        raise UserError(f"--data_dir={config.data_dir}: cannot be reached: {error.message}") from error
    first = min((name for name in names if name.startswith("train-")), default=None)
    if first and not tf.io.gfile.isdir(os.path.join(config.data_dir, first)):  # a class may be called train-station
        return open_tfrecords(config.data_dir, config)
    return _open_files(config)


def _open_files(config: DataConfig) -> ImageData:
    files = find_files(config)
    listed = manifest.is_manifest(config.data_dir)
    base = manifest.manifest_folder(config.data_dir) if listed else config.data_dir
    below = base.rstrip("/") + "/"
    names = (path.removeprefix(below) for examples in files.splits.values() for path, _ in examples)
    splits = {name: file_split(examples) for name, examples in files.splits.items()}
    return ImageData(files.label_names, fingerprint=fingerprint(names), **splits)


def _open_sample(config: DataConfig, name: str) -> ImageData:
    return open_tfrecords(SAMPLE_DIR, config)


def _open_tfds(config: DataConfig, name: str) -> ImageData:
    return open_tfds(name, config)


def _open_fake(config: DataConfig, name: str) -> ImageData:
    return open_fake(name, config)


SOURCES: dict[str, Callable[[DataConfig, str], ImageData]] = {
    "auto": _open_data_dir,
    "sample": _open_sample,
    "tfds": _open_tfds,
    "fake": _open_fake,
}
