"""Which source of images `--dataset` and `--data_dir` name: shards, a folder, TFDS or the embedded sample."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from efficientnet_tpu.config import DataConfig, UserError, nearest
from efficientnet_tpu.data import image_folder
from efficientnet_tpu.data.image_data import ImageData, Split, fingerprint
from efficientnet_tpu.data.tfds_source import open_tfds
from efficientnet_tpu.data.tfrecords import open_tfrecords

SAMPLE_DIR = str(Path(__file__).parent / "fashion_mnist")


def open_data(config: DataConfig) -> ImageData:
    """Finds the images `config` names. Raises UserError when there is nothing to train on."""
    kind, _, name = config.dataset.partition(":")
    if kind not in SOURCES:
        raise UserError(f"--dataset={config.dataset}: must be auto, sample or tfds:NAME.{nearest(kind, SOURCES)}")
    data = SOURCES[kind](config, name)
    if len(data.label_names) < 2:
        raise UserError(f"{config.source}: has one class, {data.label_names[0]}; training needs two.")
    return data


def _open_directory(config: DataConfig, name: str) -> ImageData:
    """Shards if there are any, else an image folder."""
    if not config.data_dir:
        raise UserError(
            "--data_dir is missing: a folder of images or TFRecord shards; or --dataset=sample for the embedded one."
        )
    try:
        names = tf.io.gfile.listdir(config.data_dir) if tf.io.gfile.isdir(config.data_dir) else []
    except tf.errors.OpError as error:  # gs://: no network, no permission
        raise UserError(f"--data_dir={config.data_dir}: cannot be reached: {error.message}") from error
    first = min((name for name in names if name.startswith("train-")), default=None)
    if first and not tf.io.gfile.isdir(os.path.join(config.data_dir, first)):  # a class may be called train-station
        return open_tfrecords(config.data_dir, config.shuffle_buffer)
    return open_folder(config.data_dir, config.validation_percent)


def _open_sample(config: DataConfig, name: str) -> ImageData:
    return open_tfrecords(SAMPLE_DIR, config.shuffle_buffer)


def _open_tfds(config: DataConfig, name: str) -> ImageData:
    return open_tfds(name, config)


SOURCES: dict[str, Callable[[DataConfig, str], ImageData]] = {
    "auto": _open_directory,
    "sample": _open_sample,
    "tfds": _open_tfds,
}


def open_folder(root: str, validation_percent: int) -> ImageData:
    """Images as files, a folder for each class."""
    folder = image_folder.scan(root, validation_percent)
    for examples in folder.splits.values():
        image_folder.check_readable(examples)
    splits = {name: _folder_split(examples) for name, examples in folder.splits.items()}
    names = [os.path.relpath(path, root) for examples in folder.splits.values() for path, _ in examples]
    return ImageData(folder.label_names, splits["train"], splits["validation"], fingerprint(names))


def _folder_split(examples: Sequence[tuple[str, int]]) -> Split:
    paths = tf.constant([path for path, _ in examples])
    labels = tf.constant([label for _, label in examples], tf.int32)

    def read(order: tf.Tensor | None) -> tf.data.Dataset:
        indices = tf.range(len(examples))
        if order is not None:
            indices = tf.random.experimental.stateless_shuffle(indices, tf.cast(order, tf.int32))
        return tf.data.Dataset.from_tensor_slices(indices).map(
            lambda index: (tf.io.read_file(paths[index]), labels[index]), num_parallel_calls=tf.data.AUTOTUNE
        )

    return Split(len(examples), read)
