"""Shards are found under the names that converters give them, and splits by the words in these names."""

import pytest

NUMBERED = {
    "train": ["train-00000-of-00002", "train-00001-of-00002"],
    "validation": ["validation-00000-of-00001"],
}


@pytest.fixture(scope="module")
def find(tf, tmp_path_factory):
    """find(names) -> (splits, words) of a directory with these files; a name that ends in / is a folder."""
    from efficientnet_tpu.data.records.shard_names import find_shards

    def splits_of(*names):
        root = tmp_path_factory.mktemp("shards")
        for name in names:
            path = root / name
            if name.endswith("/"):
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        found = find_shards(str(root), [path.name for path in root.iterdir()])
        return found and (found.splits, found.words)

    return splits_of


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ([*NUMBERED["train"], *NUMBERED["validation"], "labels.txt"], NUMBERED),
        (["train.tfrecord", "val.tfrecords"], {"train": ["train.tfrecord"], "validation": ["val.tfrecords"]}),
        (["train-0", "train-1", "valid-0"], {"train": ["train-0", "train-1"], "validation": ["valid-0"]}),
        (
            ["ab_test-train.tfrecord-00000-of-00001", "ab_test-test.tfrecord-00000-of-00001"],
            {
                "train": ["ab_test-train.tfrecord-00000-of-00001"],
                "test": ["ab_test-test.tfrecord-00000-of-00001"],
            },
        ),
        (["train00-2071.tfrec", "Testing01.TFREC"], {"train": ["train00-2071.tfrec"], "test": ["Testing01.TFREC"]}),
        (["train/00.tfrec", "val/00.tfrec"], {"train": ["train/00.tfrec"], "validation": ["val/00.tfrec"]}),
        (["Training/a.tfrecord.gz", "dev/a.tfrecord.gz"], {
            "train": ["Training/a.tfrecord.gz"], "validation": ["dev/a.tfrecord.gz"],
        }),
        (["00-64x64-24.tfrec", "01-64x64-24.tfrec"], {"train": ["00-64x64-24.tfrec", "01-64x64-24.tfrec"]}),
    ],
)  # fmt: skip
def test_names_of_shards(find, names, splits):
    assert find(*names)[0] == splits


@pytest.mark.parametrize(
    "names",
    [
        ["cat/1.jpg", "dog/1.jpg", "train.csv"],
        ["train-station/1.jpg", "bus-stop/1.jpg"],
        ["train-1/1.jpg", "train-2/1.jpg"],
        ["train/cat_1/1.jpg", "val/cat_1/1.jpg"],
        ["train-00000-of-00001.parquet"],
        ["img_1", "img_2"],
        [],
    ],
)
def test_other_files_are_no_shards(find, names):
    assert find(*names) is None


def test_the_words_of_the_data_are_kept(find):
    assert find("Train-0.tfrec", "val-0.tfrec")[1] == {"train": "Train", "validation": "val"}


def test_records_further_down_are_found(tf, tmp_path):
    from efficientnet_tpu.data.records.shard_names import find_below

    (tmp_path / "set" / "1.0.0").mkdir(parents=True)
    assert find_below(str(tmp_path)) is None
    (tmp_path / "set" / "1.0.0" / "set-train.tfrecord-00000-of-00001").touch()
    assert find_below(str(tmp_path)) == f"{tmp_path}/set/1.0.0"
