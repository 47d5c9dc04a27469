"""Image classification sets of TensorFlow Datasets, already prepared on disk."""

import tensorflow as tf

from efficientnet_tpu.config import DataConfig, UserError, nearest
from efficientnet_tpu.data.image_data import ImageData, Split, fingerprint, shuffle


def open_tfds(name: str, config: DataConfig) -> ImageData:
    """The set `name` (or name/config:version) in data_dir, by default TFDS's own directory.

    Never downloads: TFDS retries for minutes where there is no network. Without a validation or test split, the last
    part of the training split is held out.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=config.data_dir or None)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        known = nearest(name, tfds.list_builders(with_community_datasets=False))
        raise UserError(f"--dataset=tfds:{name}: TFDS has no such set.{known}") from error
    if not builder.info.splits:
        raise UserError(
            f"--dataset=tfds:{name}: not prepared in {builder.data_path}. On a machine with network access run:\n"
            f"python -c \"import tensorflow_datasets as tfds; tfds.builder('{name}', data_dir=...)"
            '.download_and_prepare()"\nand point --data_dir at that data_dir.'
        )
    image_key, label_key = _classification_keys(name, builder.info)
    train, validation = _splits(builder.info, config.validation_percent)
    labels = builder.info.features[label_key]
    reading = tfds.ReadConfig(try_autocache=False)  # read anew in every epoch, it would be cached anew as well

    def split(instruction: str) -> Split:
        def read(order: tf.Tensor | None) -> tf.data.Dataset:
            examples = builder.as_dataset(
                split=instruction, decoders={image_key: tfds.decode.SkipDecoding()}, read_config=reading
            )
            examples = examples.map(lambda example: (example[image_key], tf.cast(example[label_key], tf.int32)))
            return examples if order is None else shuffle(examples, order, config.shuffle_buffer)

        return Split(builder.info.splits[instruction].num_examples, read)

    identity = fingerprint([builder.info.full_name, train, validation])
    return ImageData(tuple(labels.names), split(train), split(validation), identity)


def _classification_keys(name: str, info: object) -> tuple[str, str]:
    """Names of the image and the label among a set's features."""
    import tensorflow_datasets as tfds

    keys = {}
    for key, feature in info.features.items():
        for kind in (tfds.features.Image, tfds.features.ClassLabel):
            if isinstance(feature, kind):
                keys.setdefault(kind, key)
    if len(keys) < 2:
        raise UserError(f"--dataset=tfds:{name}: is not a set of images with one class label each.")
    return keys[tfds.features.Image], keys[tfds.features.ClassLabel]


def _splits(info: object, validation_percent: int) -> tuple[str, str]:
    """TFDS split instructions for training and validation."""
    for held_out in ("validation", "test"):
        if held_out in info.splits:
            return "train", held_out
    return f"train[:{100 - validation_percent}%]", f"train[{100 - validation_percent}%:]"
