"""What make-tfrecords writes, every image once, as dataset.json says; what it says; and what it refuses."""

import json

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.records.tfrecord_layout import DATASET_JSON, ENCODED_KEY, LABEL_KEY, DatasetInfo
from efficientnet_tpu.errors import UserError
from tests.support.conversion import CLASSES, contents, convert, write_folder


@pytest.fixture(scope="module")
def folder(tf, tmp_path_factory):
    return write_folder(tf, tmp_path_factory.mktemp("images"))


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
    info = convert(folder, tmp_path / "out")
    assert info.label_names == CLASSES
    for split, num_images, sizes in (("train", 21, [6, 5, 5, 5]), ("validation", 6, [3, 3])):
        assert [shard.num_images for shard in info.splits[split].shards] == sizes
        records = []
        for index, shard in enumerate(info.splits[split].shards):
            assert shard.name == f"{split}-{index:05d}-of-{len(sizes):05d}"
            in_shard = list(_read(tf, tmp_path / "out" / shard.name))
            assert len(in_shard) == shard.num_images
            records += in_shard
        assert len(records) == num_images == info.splits[split].num_images
        assert dict(records) == _files(folder, split)  # as many keys as records: every image once
    expected = {shard.name for split in info.splits.values() for shard in split.shards} | {DATASET_JSON}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_seed_decides_the_order(tf, folder, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        convert(folder, tmp_path / name, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    labels = [label for path in sorted((tmp_path / "a").glob("train-*")) for _, label in _read(tf, path)]
    assert labels != sorted(labels)


@pytest.mark.slow
def test_no_more_shards_than_images(folder, tmp_path):
    info = convert(folder, tmp_path / "out", train_shards=100, validation_shards=100)
    last = info.splits["train"].shards[20]
    assert (last.name, last.num_images) == ("train-00020-of-00021", 1)
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
    info = convert(broken, tmp_path / "out")
    assert sum(shard.num_images for shard in info.splits["train"].shards) == 21  # dealt before it is known which decode
    assert info.splits["validation"].num_images == 6
    output = capsys.readouterr().out
    assert f"skipped 13 files that cannot be decoded, listed in {tmp_path}/out/unreadable_images.jsonl:" in output
    listed = [json.loads(line) for line in (tmp_path / "out" / "unreadable_images.jsonl").read_text().splitlines()]
    assert f"  {listed[9]['where']}: {listed[9]['reason']}\n  and 3 more\n" in output
    assert listed[10]["where"] not in output
    bad = {f"{broken}/train/bee/bad{i:02d}.png": "truncated PNG" for i in range(12)}
    expected = {**bad, f"{broken}/validation/cow/empty.jpg": "empty file"}
    assert {line["where"]: line["reason"] for line in listed} == expected
    assert len(listed) == 13


def test_class_without_a_decodable_image(tf, folder, tmp_path):
    broken = tmp_path / "broken"
    for split in ("train", "validation"):
        for name in ("ape", "bee"):
            (broken / split / name).mkdir(parents=True)
            source = folder / split / name / "0.png"
            (broken / split / name / "0.png").write_bytes(source.read_bytes() if name == "ape" else b"BM")
    # check_readable is content with a sample; the conversion is not.
    with pytest.raises(UserError, match=f"--data_dir={broken}: no training image of the class bee decodes"):
        convert(broken, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.mark.slow
def test_output_dir_may_exist_but_empty(folder, tmp_path):
    (tmp_path / "out").mkdir()
    assert convert(folder, tmp_path / "out").splits["train"].num_images == 21


def test_refuses_an_output_dir_in_use(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match=f"--output_dir={tmp_path}: is not empty"):
        convert(folder, tmp_path)
    with pytest.raises(UserError, match=f"--output_dir={tmp_path}/mine.txt: is a file"):
        convert(folder, tmp_path / "mine.txt")
    with pytest.raises(UserError, match=f"--output_dir={tmp_path}/mine.txt/out: cannot be written"):
        convert(folder, tmp_path / "mine.txt" / "out")
    assert contents(tmp_path) == {"mine.txt": b"precious"}


def test_refuses_to_write_into_the_images(folder):
    with pytest.raises(UserError, match=f"--output_dir={folder}/out: is inside --data_dir={folder}"):
        convert(folder, folder / "out")


def test_a_shard_that_is_not_stored_as_written_is_an_error(folder, tmp_path, monkeypatch):
    from efficientnet_tpu.data.conversion import shard_file

    write_shard = shard_file.write_shard

    def write(path, images):
        written = write_shard(path, images)
        with open(path, "r+b") as file:
            file.seek(40)
            file.write(b"xx")
        return written

    monkeypatch.setattr(shard_file, "write_shard", write)
    with pytest.raises(UserError, match=r"written a moment ago, the file is cut off, or has a wrong checksum"):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_size_and_checksum_in_dataset_json(tf, folder, tmp_path):
    from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

    for split in convert(folder, tmp_path / "out").splits.values():
        for shard in split.shards:
            content = (tmp_path / "out" / shard.name).read_bytes()
            assert shard.bytes == len(content)
            assert shard.crc32c == pywrap_tensorflow.crc32c(content)


def test_crc32c_of_rfc_3720(tf):
    from efficientnet_tpu.data.records.crc32c import crc32c

    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"56789", crc32c(b"1234")) == 0xE3069283


def test_manifest(tf, folder, tmp_path, capsys):
    lines = [f"{path},{path.parent.name},{path.parent.parent.name}\n" for path in folder.rglob("*.*") if path.is_file()]
    (tmp_path / "images.csv").write_text(
        "path,label,split\n" + "".join(lines) + f"{folder}/train/ape/none.png,ape,train\n"
    )
    info = convert(tmp_path / "images.csv", tmp_path / "out", minival_percent=10.0)
    assert info.label_names == CLASSES
    assert set(info.splits) == {"train", "validation"}
    for split, split_info in info.splits.items():
        records = [record for shard in split_info.shards for record in _read(tf, tmp_path / "out" / shard.name)]
        assert dict(records) == _files(folder, split)
    assert f"  {folder}/train/ape/none.png: cannot be had: " in capsys.readouterr().out


def test_a_dataset_of_another_kind_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="--dataset=sample: make-tfrecords converts the image files"):
        convert(folder, tmp_path / "out", dataset="sample")


def test_writes_to_a_file_system_without_directories(tf, folder):
    """ram://, in place of gs://: no renaming of whole directories."""
    from efficientnet_tpu.data.conversion import make_tfrecords

    options = {"data_dir": str(folder), "output_dir": "ram://test_make_tfrecords/out/", "train_shards": 3}
    make_tfrecords.convert(with_options(Config(), options))
    with tf.io.gfile.GFile("ram://test_make_tfrecords/out/dataset.json") as file:
        info = DatasetInfo.from_json(file.read())
    paths = [f"ram://test_make_tfrecords/out/{shard.name}" for shard in info.splits["train"].shards]
    assert dict(record for path in paths for record in _read(tf, path)) == _files(folder, "train")
    assert not any(name.startswith("out.") for name in tf.io.gfile.listdir("ram://test_make_tfrecords"))


@pytest.mark.slow
def test_prints_progress_and_a_summary(folder, tmp_path, capsys, monkeypatch):
    from efficientnet_tpu.display import terminal

    monkeypatch.setattr(terminal, "SECONDS_PER_LINE", 0.0)
    convert(folder, tmp_path / "out")
    output = capsys.readouterr().out
    assert "written: 27/27 images" in output
    assert "0 s to go" in output
    num_bytes = sum(path.stat().st_size for path in (tmp_path / "out").iterdir() if path.name != DATASET_JSON)
    assert f"{tmp_path}/out: 27 images of 3 classes, {num_bytes:,} bytes" in output
    assert "skipped" not in output
