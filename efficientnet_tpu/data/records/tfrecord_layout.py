"""How a directory of TFRecord shards is laid out: names, keys of a record, dataset.json, and ImageNet's known counts.

No TensorFlow here: `make_tfrecords` writes this layout, `datasets` reads it.
"""

import json
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.errors import UserError

ENCODED_KEY = "image/encoded"  # bytes of a JPEG, PNG, GIF or BMP file
LABEL_KEY = "image/class/label"  # int64, 1 + label: the reference ImageNet layout keeps 0 for the background class
DATASET_JSON = "dataset.json"
FORMAT = 1

# ImageNet (ILSVRC 2012) as the reference converter writes it, without a dataset.json: imagenet_to_gcs.py in
# tensorflow/tpu, https://www.image-net.org/challenges/LSVRC/2012/.
IMAGENET_TRAIN_IMAGES = 1_281_167
IMAGENET_TRAIN_SHARDS = 1024
IMAGENET_VALIDATION_IMAGES = 50_000
IMAGENET_VALIDATION_SHARDS = 128


def shard_name(split: str, index: int, count: int) -> str:
    """File name of shard `index` (from 0) of `count`: train-00000-of-01024."""
    return f"{split}-{index:05d}-of-{count:05d}"


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
    """What dataset.json says: class names in the order of the labels, and the splits train and validation."""

    label_names: tuple[str, ...]
    splits: dict[str, SplitInfo]

    def to_json(self) -> str:
        """The text of dataset.json; a line for a shard would be a line too many for 1024."""
        splits = {
            name: {"num_images": split.num_images, "shards": [_shard_to(shard) for shard in split.shards]}
            for name, split in self.splits.items()
        }
        return json.dumps({"format": FORMAT, "label_names": self.label_names, "splits": splits}) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str = DATASET_JSON) -> "DatasetInfo":
        """The inverse of `to_json`. Raises UserError, naming `path`, when the text is not of this format."""
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}, this program reads format {FORMAT}")
            splits = {name: _split_from(split) for name, split in content["splits"].items()}
            return cls(tuple(content["label_names"]), splits)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # A KeyError's own text is only the key.
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise UserError(
                f"--data_dir: {path} is not what make-tfrecords writes ({reason}). Write the shards again with "
                "`main.py make-tfrecords`."
            ) from error


def _shard_to(shard: ShardInfo) -> list[str | int | None]:
    """[name, num_images], or [name, num_images, bytes, crc32c] where one of the latter is known."""
    facts = [shard.bytes, shard.crc32c]
    return [shard.name, shard.num_images, *([] if facts == [None, None] else facts)]


def _split_from(content: dict[str, Any]) -> SplitInfo:
    split = SplitInfo(content["num_images"], tuple(ShardInfo(*facts) for facts in content["shards"]))
    total = sum(shard.num_images for shard in split.shards)
    if total != split.num_images:
        raise ValueError(f"num_images is {split.num_images}, the shards hold {total}")
    return split
