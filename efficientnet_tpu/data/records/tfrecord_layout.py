"""The layout of a directory of TFRecord shards: names, keys of a record, dataset.json, and ImageNet's known counts.

No TensorFlow here: `make_tfrecords` writes this layout, `datasets` reads it.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.texts.printable import shown

ENCODED_KEY = "image/encoded"  # bytes of a JPEG, PNG, GIF or BMP file
LABEL_KEY = "image/class/label"  # int64, 1 + label: the reference ImageNet layout keeps 0 for the background class
DATASET_JSON = "dataset.json"
FORMAT = 1
JOURNAL = "journal.json"  # of a conversion that is not finished
PART_RECORD = re.compile(r"part-(\d{5})-of-(\d{5})\.jsonl")  # of one machine's part of it
_MOST_FACTS = 4  # of a shard
_END_OF_NUMBERS = 1 << 60  # no disk has as many bytes

# ImageNet (ILSVRC 2012) as the reference converter writes it, without a dataset.json: imagenet_to_gcs.py in
# tensorflow/tpu, https://www.image-net.org/challenges/LSVRC/2012/.
IMAGENET_TRAIN_IMAGES = 1_281_167
IMAGENET_TRAIN_SHARDS = 1024
IMAGENET_VALIDATION_IMAGES = 50_000
IMAGENET_VALIDATION_SHARDS = 128


def shard_name(split: str, index: int, count: int) -> str:
    """Returns the file name of shard `index` (from 0) of `count`: train-00000-of-01024."""
    return f"{split}-{index:05d}-of-{count:05d}"


def default_num_shards(split: str, num_images: int) -> int:
    """Returns the number of shards of a split where none is asked for: the largest power of two that leaves 1,000
    training images, or 256 validation images, to a shard.

    It is 64 and 4 at least, so that a minival of 2% is one training shard of 64. ImageNet's are 1024 and 128.
    """
    images, fewest = (1000, 64) if split == "train" else (256, 4)
    return max(fewest, 1 << max(0, (num_images // images).bit_length() - 1))


def has_journal(names: Iterable[str]) -> bool:
    """Tells by the names in a directory whether a conversion is at work there, or was interrupted."""
    return any(name == JOURNAL or PART_RECORD.fullmatch(name) for name in names)


@dataclass(frozen=True)
class ShardInfo:
    """One shard: its file and the images in it; where known, the file's size and the CRC-32C of all its bytes."""

    name: str
    num_images: int
    bytes: int | None = None
    crc32c: int | None = None


@dataclass(frozen=True)
class SplitInfo:
    """One split: its images, and its shards in order."""

    num_images: int
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True)
class DatasetInfo:
    """The content of dataset.json: class names in the order of the labels, and the splits train and validation.

    max_side: of reduced copies, the pixels of their longer side; None where the images are as they were.
    """

    label_names: tuple[str, ...]
    splits: dict[str, SplitInfo]
    max_side: int | None = None

    def to_json(self) -> str:
        """Returns the text of dataset.json: a single line, because ImageNet has 1024 shards.

        A shard is [name, num_images], or [name, num_images, bytes, crc32c] where one of the latter is known.
        """
        splits = {}
        for name, split in self.splits.items():
            shards = [[shard.name, shard.num_images, shard.bytes, shard.crc32c] for shard in split.shards]
            shards = [facts[:2] if facts[2:] == [None, None] else facts for facts in shards]
            splits[name] = {"num_images": split.num_images, "shards": shards}
        content = {"format": FORMAT, "label_names": self.label_names, "splits": splits}
        if self.max_side is not None:
            content["max_side"] = self.max_side
        return json.dumps(content) + "\n"

    def digest(self) -> str:
        """Returns 16 hexadecimal digits, equal for the same classes and the same bytes of all shards."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, text: str, path: str = DATASET_JSON) -> "DatasetInfo":
        """Reads the text that `to_json` returns. Raises UserError, naming `path`, when it is not of this format."""
        try:
            content = read_json(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format {shown(content['format'], 40)}, this program reads format {FORMAT}")
            names = content["label_names"]
            if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
                raise ValueError("label_names is no list of names")
            splits = {}
            for name, facts in content["splits"].items():
                split = SplitInfo(facts["num_images"], tuple(_shard_info(shard) for shard in facts["shards"]))
                total = sum(shard.num_images for shard in split.shards)
                if total != split.num_images:
                    raise ValueError(f"num_images is {shown(split.num_images, 40)}, the shards hold {total}")
                splits[name] = split
            max_side = content.get("max_side")
            if max_side is not None and not (type(max_side) is int and max_side > 0):
                raise ValueError(f"max_side is {shown(max_side, 40)}")
            return cls(tuple(names), splits, max_side)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # A KeyError's own text is only the key.
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise UserError(
                f"--data_dir: {path} is not what make-tfrecords writes ({reason}). Write the shards again with "
                f"`{program()} make-tfrecords`."
            ) from error


def _shard_info(facts: object) -> ShardInfo:
    """Returns a shard as `DatasetInfo.to_json` writes it. Raises ValueError for anything else."""
    name, *numbers = facts if isinstance(facts, list) and 2 <= len(facts) <= _MOST_FACTS else (None,)
    known = [number for number in numbers if number is not None]
    if not isinstance(name, str) or not known or numbers[0] is None:
        raise ValueError(f"{shown(repr(facts), 80)} is no shard")
    if not all(type(number) is int and 0 <= number < _END_OF_NUMBERS for number in known):
        raise ValueError(f"the shard {shown(name, 80)} has numbers out of range")
    return ShardInfo(name, *numbers)
