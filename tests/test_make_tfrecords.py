import json
import random

import pytest

from efficientnet_tpu.config import Config, UserError, with_options
from efficientnet_tpu.data import tfrecord_layout
from efficientnet_tpu.data.tfrecord_layout import DATASET_JSON, ENCODED_KEY, LABEL_KEY, DatasetInfo, SplitInfo

CLASSES = ("ape", "bee", "cow")


@pytest.fixture(scope="module")
def folder(tf, tmp_path_factory):
    """Three classes, 7 training and 2 validation images each, every image different; .png, .jpg and .gif."""
    root = tmp_path_factory.mktemp("images")
    generator = random.Random(0)
    for split, count in (("train", 7), ("validation", 2)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = tf.constant([generator.randrange(256) for _ in range(5 * 4 * 3)], tf.uint8, shape=[5, 4, 3])
                suffix, encode = ((".png", tf.io.encode_png), (".JPG", tf.io.encode_jpeg))[i % 2]
                (root / split / name / f"{i}{suffix}").write_bytes(encode(pixels).numpy())
    return root


def _convert(folder, output_dir, **options):
    from efficientnet_tpu.data import make_tfrecords

    options = {"train_shards": 4, "validation_shards": 2, **options}
    make_tfrecords.convert_folder(
        with_options(Config(), {"data_dir": str(folder), "output_dir": str(output_dir), **options})
    )
    return DatasetInfo.from_json((output_dir / DATASET_JSON).read_text())


def _read(tf, path):
    """(bytes, label) of every record of a shard; the keys must be these two."""
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        assert set(features) == {ENCODED_KEY, LABEL_KEY}
        yield features[ENCODED_KEY].bytes_list.value[0], features[LABEL_KEY].int64_list.value[0]


def _files(folder, split):
    return {
        path.read_bytes(): 1 + label for label, name in enumerate(CLASSES) for path in (folder / split / name).iterdir()
    }


def test_round_trip(tf, folder, tmp_path):
    info = _convert(folder, tmp_path / "out")
    assert info.label_names == CLASSES
    for split, num_images, sizes in (("train", 21, [6, 5, 5, 5]), ("validation", 6, [3, 3])):
        assert [count for _, count in info.splits[split].shards] == sizes
        records = []
        for index, (name, count) in enumerate(info.splits[split].shards):
            assert name == f"{split}-{index:05d}-of-{len(sizes):05d}"
            shard = list(_read(tf, tmp_path / "out" / name))
            assert len(shard) == count
            records += shard
        assert len(records) == num_images == info.splits[split].num_images
        assert dict(records) == _files(folder, split)  # as many keys as records: every image once
    expected = {name for split in info.splits.values() for name, _ in split.shards} | {DATASET_JSON}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_seed_decides_the_order(tf, folder, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        _convert(folder, tmp_path / name, seed=seed)
    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")
    assert _contents(tmp_path / "a") != _contents(tmp_path / "c")
    labels = [label for path in sorted((tmp_path / "a").glob("train-*")) for _, label in _read(tf, path)]
    assert labels != sorted(labels)


def test_no_more_shards_than_images(folder, tmp_path):
    info = _convert(folder, tmp_path / "out", train_shards=100, validation_shards=100)
    assert info.splits["train"].shards[20] == ("train-00020-of-00021", 1)
    assert len(info.splits["validation"].shards) == 6


def test_skips_and_names_what_does_not_decode(tf, folder, tmp_path, capsys):
    broken = tmp_path / "broken"
    for path in folder.rglob("*.*"):
        copy = broken / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for i in range(12):
        (broken / "train" / "bee" / f"bad{i:02d}.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    (broken / "validation" / "cow" / "empty.jpg").write_bytes(b"")
    info = _convert(broken, tmp_path / "out")
    assert [count for _, count in info.splits["train"].shards] == [6, 5, 5, 5]
    assert info.splits["validation"].num_images == 6
    output = capsys.readouterr().out
    assert "skipped 13 files" in output
    assert "bad09.png" in output
    assert "bad10.png" not in output
    assert "and 3 more" in output


def test_class_without_a_decodable_image(tf, folder, tmp_path):
    broken = tmp_path / "broken"
    for split in ("train", "validation"):
        for name in ("ape", "bee"):
            (broken / split / name).mkdir(parents=True)
            source = folder / split / name / "0.png"
            (broken / split / name / "0.png").write_bytes(source.read_bytes() if name == "ape" else b"BM")
    # check_readable is content with a sample; the conversion is not.
    with pytest.raises(UserError, match=f"--data_dir={broken}: no training image of the class bee decodes"):
        _convert(broken, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_output_dir_may_exist_but_empty(folder, tmp_path):
    (tmp_path / "out").mkdir()
    assert _convert(folder, tmp_path / "out").splits["train"].num_images == 21


def test_refuses_an_output_dir_in_use(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match=f"--output_dir={tmp_path}: is not empty"):
        _convert(folder, tmp_path)
    with pytest.raises(UserError, match=f"--output_dir={tmp_path}/mine.txt: is a file"):
        _convert(folder, tmp_path / "mine.txt")
    with pytest.raises(UserError, match=f"--output_dir={tmp_path}/mine.txt/out: cannot be written"):
        _convert(folder, tmp_path / "mine.txt" / "out")
    assert _contents(tmp_path) == {"mine.txt": b"precious"}


def test_refuses_to_write_into_the_images(folder):
    with pytest.raises(UserError, match=f"--output_dir={folder}/out: is inside --data_dir={folder}"):
        _convert(folder, folder / "out")


def test_nothing_is_left_of_a_conversion_that_fails(tf, folder, tmp_path, monkeypatch):
    from efficientnet_tpu.data import make_tfrecords

    def interrupt(*arguments):
        assert any(path.name.startswith("out.partial-") for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(make_tfrecords, "_record", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _convert(folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_writes_to_a_file_system_without_directories(tf, folder):
    """ram://, in place of gs://: no renaming of whole directories."""
    from efficientnet_tpu.data import make_tfrecords

    options = {"data_dir": str(folder), "output_dir": "ram://test_make_tfrecords/out/", "train_shards": 3}
    make_tfrecords.convert_folder(with_options(Config(), options))
    with tf.io.gfile.GFile("ram://test_make_tfrecords/out/dataset.json") as file:
        info = DatasetInfo.from_json(file.read())
    paths = [f"ram://test_make_tfrecords/out/{name}" for name, _ in info.splits["train"].shards]
    assert dict(record for path in paths for record in _read(tf, path)) == _files(folder, "train")


def test_prints_progress_and_a_summary(folder, tmp_path, capsys, monkeypatch):
    from efficientnet_tpu.data import make_tfrecords

    monkeypatch.setattr(make_tfrecords, "_SECONDS_BETWEEN_LINES", 0.0)
    _convert(folder, tmp_path / "out")
    output = capsys.readouterr().out
    assert "train: written 21/21 images" in output
    assert "0 s to go" in output
    num_bytes = sum(path.stat().st_size for path in (tmp_path / "out").iterdir() if path.name != DATASET_JSON)
    assert f"{tmp_path}/out: 27 images of 3 classes, {num_bytes:,} bytes" in output
    assert "skipped" not in output


INFO = DatasetInfo(("a", "b"), {"train": SplitInfo(3, (("train-00000-of-00002", 2), ("train-00001-of-00002", 1)))})


def test_dataset_json_round_trip():
    assert DatasetInfo.from_json(INFO.to_json()) == INFO
    assert json.loads(INFO.to_json()) == {
        "format": 1,
        "label_names": ["a", "b"],
        "splits": {"train": {"num_images": 3, "shards": [["train-00000-of-00002", 2], ["train-00001-of-00002", 1]]}},
    }


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
