"""dataset.json keeps what it is told and refuses what is foreign; shards are named as ImageNet's."""

import json

import pytest

from efficientnet_tpu.data.records import tfrecord_layout
from efficientnet_tpu.data.records.tfrecord_layout import DatasetInfo, ShardInfo, SplitInfo
from efficientnet_tpu.errors import UserError

SHARDS = (ShardInfo("train-00000-of-00002", 2), ShardInfo("train-00001-of-00002", 1))
INFO = DatasetInfo(("a", "b"), {"train": SplitInfo(3, SHARDS)})


def test_dataset_json_round_trip():
    assert DatasetInfo.from_json(INFO.to_json()) == INFO
    assert json.loads(INFO.to_json()) == {
        "format": 1,
        "label_names": ["a", "b"],
        "splits": {"train": {"num_images": 3, "shards": [["train-00000-of-00002", 2], ["train-00001-of-00002", 1]]}},
    }


def test_dataset_json_may_tell_size_and_checksum_of_a_shard():
    shards = (ShardInfo("train-00000-of-00002", 2, bytes=70, crc32c=0), ShardInfo("train-00001-of-00002", 1))
    info = DatasetInfo(("a", "b"), {"train": SplitInfo(3, shards)})
    assert DatasetInfo.from_json(info.to_json()) == info
    assert json.loads(info.to_json())["splits"]["train"]["shards"] == [
        ["train-00000-of-00002", 2, 70, 0],
        ["train-00001-of-00002", 1],
    ]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"format": 1', '"format": 2', "format 2, this program reads format 1"),
        ('"label_names"', '"names"', "'label_names' is missing"),
        ('"num_images": 3', '"num_images": 4', "num_images is 4, the shards hold 3"),
        ('"format"', "", ""),
        (INFO.to_json(), "[]", ""),
        (', 2], ["train-00001-of-00002", 1', "", ""),
    ],
)
def test_foreign_dataset_json_is_refused(old, new, reason):
    text = INFO.to_json()
    assert old in text
    with pytest.raises(UserError) as error:
        DatasetInfo.from_json(text.replace(old, new), "/d/dataset.json")
    message = str(error.value)
    assert message.startswith("--data_dir: /d/dataset.json is not what make-tfrecords writes (")
    assert reason in message


def test_shard_names_are_those_of_imagenet():
    count = tfrecord_layout.IMAGENET_TRAIN_SHARDS
    assert tfrecord_layout.shard_name("train", 1023, count) == "train-01023-of-01024"
    count = tfrecord_layout.IMAGENET_VALIDATION_SHARDS
    assert tfrecord_layout.shard_name("validation", 0, count) == "validation-00000-of-00128"
