"""Image classification sets of TensorFlow Datasets, already prepared on disk: their shards are read as our own."""

import os
import re
from typing import Any

import tensorflow as tf

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.records.record_split import RecordRange, RecordSplit
from efficientnet_tpu.data.records.shard_names import TFDS_FILES, find_below
from efficientnet_tpu.data.sources.labelled_files import default_percent
from efficientnet_tpu.data.split import ImageData, fingerprint
from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.storage.regular_file import require_regular


def open_tfds(name: str, config: DataConfig) -> ImageData:
    """Opens the set `name` (or name/config:version) in data_dir, by default TFDS's own directory.

    Never downloads: TFDS retries for minutes where there is no network.
    """
    return _open(_prepared(name, config.data_dir), config)


def open_prepared(config: DataConfig) -> ImageData:
    """Opens the set that TFDS has prepared in the directory data_dir, that of a version."""
    import tensorflow_datasets as tfds

    for path in (os.path.join(config.data_dir, name) for name in TFDS_FILES):
        require_regular(path, path)
    try:
        builder = tfds.builder_from_directory(config.data_dir)
    except Exception as error:  # of any kind, from a file that is no JSON to a feature of another package
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{config.source}: TFDS cannot read what it has prepared there: {reason}") from error
    return _open(builder, config)


def _open(builder: Any, config: DataConfig) -> ImageData:
    """Opens a prepared set, a tfds.core.DatasetBuilder.

    Without a validation or test split, the last part of the training split is held out; the first part is for minival,
    if there shall be one.
    """
    import tensorflow_datasets as tfds

    file_format = builder.info.file_format
    if file_format.value != "tfrecord":
        raise UserError(
            f"{config.source}: {builder.data_path} is prepared in the format {file_format.value}. Prepare it as "
            f"tfrecord: tfds.builder('{builder.name}', file_format='tfrecord', ...).download_and_prepare()"
        )
    image_key, label_key = _classification_keys(config.source, builder.info)
    # The image stays encoded, and what else a record holds is not decoded.
    decoders = {image_key: tfds.decode.SkipDecoding()}
    wanted = tfds.decode.PartialDecoding({image_key: True, label_key: True})
    features = wanted.extract_features(builder.info.features)

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = features.deserialize_example(record, decoders=decoders)
        return example[image_key], example[label_key]

    ranges, words, held_out = _ranges(builder.info, config)
    present = set(tf.io.gfile.listdir(str(builder.data_path)))
    splits = {}
    for split, instruction in ranges.items():
        instructions = builder.info.splits[instruction].file_instructions
        missing = [file.basename() for file in instructions if file.basename() not in present]
        if missing:
            raise UserError(f"{config.source}: {builder.data_path} lacks {missing[0]}. Copy or prepare it again.")
        slices = tuple(RecordRange(str(file.filename), file.skip, file.take) for file in instructions)
        for part in slices:
            require_regular(part.path, part.path)
        splits[split] = RecordSplit(slices, parse, config.shuffle_buffer)
    # A test split came later: with it, the fingerprints of earlier runs would be others.
    ours = [instruction for split, instruction in ranges.items() if split != "test"]
    identity = fingerprint([builder.info.full_name, *ours])
    labels = builder.info.features[label_key]
    label_names = tuple(labels.int2str(label) for label in range(labels.num_classes or 0))
    missing = dict.fromkeys({"train", "validation"} - splits.keys())
    return ImageData(label_names, fingerprint=identity, words=words, held_out=held_out, **missing, **splits)


def _prepared(name: str, data_dir: str) -> Any:
    """Returns the tfds.core.DatasetBuilder of a set whose files are there."""
    import tensorflow_datasets as tfds

    _, _, rest = name.partition(":")
    if rest and not rest.startswith(tuple("0123456789*")):  # not a version: huggingface:NAME would ask the network
        raise UserError(f"--dataset=tfds:{name}: sets of other packages are not read. Name one of TFDS's own.")
    _require_described(name, data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = nearest(name, tfds.list_builders(with_community_datasets=False))
        raise UserError(f"--dataset=tfds:{name}: TFDS has no such set.{known}") from error
    except Exception as error:  # another configuration or version, no name at all, or files that are damaged
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"--dataset=tfds:{name}: {reason}") from error
    if not builder.info.splits:
        place = f", data_dir={data_dir!r}" if data_dir else ""
        by_hand = getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None)
        page = f"https://www.tensorflow.org/datasets/catalog/{builder.name}"
        raise UserError(
            f"--dataset=tfds:{name}: not prepared in {builder.data_path}. On a machine with network access run:\n"
            f"python -c \"import tensorflow_datasets as tfds; tfds.builder('{name}'{place}).download_and_prepare()\"\n"
            "and point --data_dir at the directory that it has filled."
            + (f" Some archives you must fetch yourself before: {page}" if by_hand else "")
        )
    return builder


def _require_described(name: str, data_dir: str) -> None:
    """Raises UserError for a set in data_dir whose shards lie there without what TFDS writes of them."""
    folder = os.path.join(data_dir, re.split("[:/]", name)[0]) if data_dir else ""
    if not folder or not tf.io.gfile.isdir(folder):
        return
    found = find_below(folder)
    if found and not set(TFDS_FILES) <= set(tf.io.gfile.listdir(found)):
        raise UserError(
            f"--dataset=tfds:{name}: {found} has shards, but no {' and no '.join(TFDS_FILES)}, by which TFDS knows "
            f"them. Without --dataset they are read as other records: --data_dir={found}"
        )


def _classification_keys(source: str, info: Any) -> tuple[str, str]:
    """Finds the keys of image and label among a set's features: those it calls supervised, else by usual names."""
    import tensorflow_datasets as tfds

    features = info.features if isinstance(info.features, tfds.features.FeaturesDict) else {}
    found = []
    for kind, usual in ((tfds.features.Image, "image"), (tfds.features.ClassLabel, "label")):
        # Sorted: of a set read without its code, they come in no particular order.
        keys = sorted(key for key, feature in features.items() if isinstance(feature, kind))
        preferred = [key for key in (*(info.supervised_keys or ()), usual) if key in keys] or keys
        if not preferred:
            raise UserError(f"{source}: is not a set of images with one class label each.")
        if preferred is keys and len(keys) > 1:
            raise UserError(f"{source}: which is the {usual}: {', '.join(keys)}? This program cannot tell.")
        found.append(preferred[0])
    return found[0], found[1]


def _ranges(info: Any, config: DataConfig) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Returns TFDS's instructions for our splits, such as train[2%:90%], other words for splits, and those held out."""
    ranges = {split: split for split in ("train", "validation", "test") if split in info.splits}
    words: dict[str, str] = {}
    held_out = []
    if not ranges:
        raise UserError(f"{config.source}: has no split called train, but {', '.join(sorted(info.splits))}.")
    if "train" in ranges and "validation" not in ranges:
        if "test" in ranges:
            ranges["validation"] = words["validation"] = ranges.pop("test")
        elif config.validation_percent != 0:
            end = 100 - (config.validation_percent or default_percent(info.splits["train"].num_examples))
            ranges |= {"train": f"train[:{end}%]", "validation": f"train[{end}%:]"}
            held_out.append("validation")
    if config.minival_percent and "train" in ranges:
        num_images = info.splits[ranges["train"]].num_examples
        num_minival = max(1, round(num_images * config.minival_percent / 100))
        ranges |= {"train": f"train[{num_minival}:{num_images}]", "minival": f"train[:{num_minival}]"}
        held_out.append("minival")
    return ranges, words, tuple(held_out)
