import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys

import pytest

from efficientnet_tpu.config import Config, UserError, with_options
from efficientnet_tpu.data import tfrecord_layout
from efficientnet_tpu.data.tfrecord_layout import (
    DATASET_JSON,
    ENCODED_KEY,
    LABEL_KEY,
    DatasetInfo,
    ShardInfo,
    SplitInfo,
)

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
    info = _convert(broken, tmp_path / "out")
    assert [shard.num_images for shard in info.splits["train"].shards] == [6, 5, 5, 5]
    assert info.splits["validation"].num_images == 6
    output = capsys.readouterr().out
    assert f"skipped 13 files that cannot be decoded, listed in {tmp_path}/out/unreadable_images.jsonl:" in output
    assert f"  {broken}/train/bee/bad09.png: truncated PNG\n" in output
    assert "bad10.png" not in output
    assert "and 3 more" in output
    listed = [json.loads(line) for line in (tmp_path / "out" / "unreadable_images.jsonl").read_text().splitlines()]
    assert len(listed) == 13
    assert listed[11] == {"where": f"{broken}/train/bee/bad11.png", "reason": "truncated PNG"}
    assert listed[12] == {"where": f"{broken}/validation/cow/empty.jpg", "reason": "empty file"}


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


def _fail_at(monkeypatch, number, error):
    """From now on the shard of this number, from 0, fails halfway. Returns the names of the shards that are begun."""
    from efficientnet_tpu.data import make_tfrecords, shard_file

    begun, write_shard = [], shard_file.write_shard

    def write(path, images):
        begun.append(path.rpartition("/")[2])
        if len(begun) == number + 1:
            write_shard(path, itertools.islice(images, 2))
            raise error
        return write_shard(path, images)

    monkeypatch.setattr(make_tfrecords, "_WRITERS", 1)
    monkeypatch.setattr(shard_file, "write_shard", write)
    return begun


@pytest.fixture
def half_done(tf, folder, tmp_path):
    """A conversion to tmp_path / "out", interrupted in its third training shard of four."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _fail_at(monkeypatch, 2, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            _convert(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    return tmp_path / "out.partial"


def test_interrupted_it_continues(tf, folder, tmp_path, capsys, half_done, monkeypatch):
    from efficientnet_tpu.data import make_tfrecords

    assert f"not finished; {half_done} keeps what is done (2 shards): the same command continues" in (
        capsys.readouterr().out
    )
    checked, unreadable_files = [], make_tfrecords.unreadable_files
    monkeypatch.setattr(
        make_tfrecords, "unreadable_files", lambda *args: checked.append(args[0]) or unreadable_files(*args)
    )
    with pytest.MonkeyPatch.context() as patch:
        begun = _fail_at(patch, 99, None)
        _convert(folder, tmp_path / "out")
    assert begun == [f"train-{i:05d}-of-00004" for i in (2, 3)] + [f"validation-{i:05d}-of-00002" for i in (0, 1)]
    assert checked == ["validation"]
    assert f"{half_done}: continuing; 2 shards were finished" in capsys.readouterr().out
    _convert(folder, tmp_path / "uninterrupted")
    assert _contents(tmp_path / "out") == _contents(tmp_path / "uninterrupted")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "uninterrupted"}


@pytest.mark.parametrize("damage", ["flip", "cut", "other", "remove"])
def test_a_finished_shard_that_has_changed_is_written_again(tf, folder, tmp_path, capsys, half_done, damage):
    shard = half_done / "train-00001-of-00004"
    content = bytearray(shard.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "cut":
        del content[-5:]
    elif damage == "other":  # a shard in itself, as long, with its records in another order
        records = list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator())
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for record in reversed(records):
                writer.write(record)
        assert len(shard.read_bytes()) == len(content)
        content = shard.read_bytes()
    shard.write_bytes(content)
    if damage == "remove":
        shard.unlink()
    _convert(folder, tmp_path / "out")
    reason = {"remove": "is not there", "other": "holds 5 images"}.get(damage, "is cut off")
    output = capsys.readouterr().out
    assert f"{shard}: {reason}" in output
    assert output.count("writing it again") == 1
    _convert(folder, tmp_path / "uninterrupted")
    assert _contents(tmp_path / "out") == _contents(tmp_path / "uninterrupted")


def test_another_plan_starts_afresh(folder, tmp_path, capsys, half_done):
    _convert(folder, tmp_path / "out", train_shards=3)
    assert f"{half_done}: left by another conversion" in capsys.readouterr().out
    _convert(folder, tmp_path / "uninterrupted", train_shards=3)
    assert _contents(tmp_path / "out") == _contents(tmp_path / "uninterrupted")


def test_what_the_plan_depends_on(folder, tmp_path):
    from efficientnet_tpu.data.image_folder import scan
    from efficientnet_tpu.data.partial_conversion import fingerprint_of_plan

    shutil.copytree(folder, tmp_path / "copy")

    def plan(**options):
        return fingerprint_of_plan(scan(str(tmp_path / "copy"), 10), with_options(Config(), options))

    plans = [plan(), plan(seed=1), plan(train_shards=3), plan(validation_shards=3)]
    image = tmp_path / "copy" / "train" / "ape" / "0.png"
    os.utime(image, ns=(0, 0))
    plans.append(plan())
    (tmp_path / "copy" / "train" / "bee" / "new.png").write_bytes(image.read_bytes())
    plans.append(plan())
    assert len(set(plans)) == len(plans)
    assert plan() == plan(learning_rate_schedule="cosine")


def test_strangers_in_the_partial_directory_are_left_alone(folder, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match=r"out.partial, which holds something else: mine.txt"):
        _convert(folder, tmp_path / "out")
    assert _contents(tmp_path / "out.partial") == {"mine.txt": b"precious"}


def test_a_user_error_before_the_first_shard_leaves_nothing(folder, tmp_path, monkeypatch):
    _fail_at(monkeypatch, 0, UserError("no"))
    with pytest.raises(UserError, match="no"):
        _convert(folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_is_not_stored_as_written_is_an_error(folder, tmp_path, monkeypatch):
    from efficientnet_tpu.data import shard_file

    write_shard = shard_file.write_shard

    def write(path, images):
        written = write_shard(path, images)
        with open(path, "r+b") as file:
            file.seek(40)
            file.write(b"xx")
        return written

    monkeypatch.setattr(shard_file, "write_shard", write)
    with pytest.raises(UserError, match=r"written a moment ago, the file is cut off, or has a wrong checksum"):
        _convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_at_once_are_refused(folder, tmp_path, half_done):
    from efficientnet_tpu.data.partial_conversion import exclusive

    before = _contents(half_done)
    with exclusive(str(tmp_path / "out")), pytest.raises(UserError) as error:
        _convert(folder, tmp_path / "out")
    assert str(error.value).startswith(f"--output_dir={tmp_path}/out: process {os.getpid()} on {socket.gethostname()} ")
    assert _contents(half_done) == before
    assert _convert(folder, tmp_path / "out").splits["train"].num_images == 21


@pytest.mark.parametrize("scheme", ["", "ram:/"])
def test_the_lock_of_a_dead_process_is_taken_over(tf, tmp_path, scheme):
    from efficientnet_tpu.data.partial_conversion import exclusive

    output_dir = f"{scheme}{tmp_path}/out"
    tf.io.gfile.makedirs(f"{scheme}{tmp_path}")
    dead = subprocess.Popen(["true"])
    dead.wait()
    for pid, host, is_alive in ((dead.pid, socket.gethostname(), False), (os.getpid(), socket.gethostname(), True)):
        with tf.io.gfile.GFile(f"{output_dir}.lock", "w") as file:
            file.write(f"process {pid} on {host}")
        if is_alive and scheme:
            with pytest.raises(UserError, match=f"process {pid} on {host} is writing it"), exclusive(output_dir):
                pass
            with tf.io.gfile.GFile(f"{output_dir}.lock", "w") as file:
                file.write("process 1 on another-host")
            with pytest.raises(UserError, match=r"on another-host is writing it\..* delete"), exclusive(output_dir):
                pass
        else:
            with exclusive(output_dir):
                assert tf.io.gfile.exists(f"{output_dir}.lock")
            assert not tf.io.gfile.exists(f"{output_dir}.lock")


@pytest.mark.slow
def test_killed_it_continues(tf, folder, tmp_path):
    """SIGKILL, to a process that has stopped in its third shard."""
    program = f"""
import sys, time
from efficientnet_tpu import cli
from efficientnet_tpu.data import make_tfrecords, shard_file
write_shard, begun = shard_file.write_shard, []
def write(path, images):
    begun.append(path)
    if len(begun) == 3:
        write_shard(path, [next(images)])
        print("NOW", flush=True)
        time.sleep(600)
    return write_shard(path, images)
shard_file.write_shard, make_tfrecords._WRITERS = write, 1
cli.main(["main.py", "make-tfrecords", "--data_dir={folder}", "--output_dir={tmp_path}/out", "--train_shards=4",
          "--validation_shards=2"])
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert any(line == "NOW\n" for line in process.stdout)
        assert (tmp_path / "out.lock").read_text() == f"process {process.pid} on {socket.gethostname()}"
        with pytest.raises(UserError, match=f"process {process.pid} on "):
            _convert(folder, tmp_path / "out")
        process.kill()
    begun = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        begun = _fail_at(monkeypatch, 99, None)
        _convert(folder, tmp_path / "out")
    assert len(begun) == 4
    _convert(folder, tmp_path / "uninterrupted")
    assert _contents(tmp_path / "out") == _contents(tmp_path / "uninterrupted")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "uninterrupted"}


def test_size_and_checksum_in_dataset_json(tf, folder, tmp_path):
    from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

    for split in _convert(folder, tmp_path / "out").splits.values():
        for shard in split.shards:
            content = (tmp_path / "out" / shard.name).read_bytes()
            assert shard.bytes == len(content)
            assert shard.crc32c == pywrap_tensorflow.crc32c(content)


def test_crc32c_of_rfc_3720(tf):
    from efficientnet_tpu.data.shard_file import crc32c

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
    info = _convert(tmp_path / "images.csv", tmp_path / "out", minival_percent=10.0)
    assert info.label_names == CLASSES
    assert set(info.splits) == {"train", "validation"}
    for split, split_info in info.splits.items():
        records = [record for shard in split_info.shards for record in _read(tf, tmp_path / "out" / shard.name)]
        assert dict(records) == _files(folder, split)
    assert f"  {folder}/train/ape/none.png: cannot be had: " in capsys.readouterr().out


def test_a_dataset_of_another_kind_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="--dataset=sample: make-tfrecords converts the image files"):
        _convert(folder, tmp_path / "out", dataset="sample")


def test_writes_to_a_file_system_without_directories(tf, folder):
    """ram://, in place of gs://: no renaming of whole directories."""
    from efficientnet_tpu.data import make_tfrecords

    options = {"data_dir": str(folder), "output_dir": "ram://test_make_tfrecords/out/", "train_shards": 3}
    make_tfrecords.convert_folder(with_options(Config(), options))
    with tf.io.gfile.GFile("ram://test_make_tfrecords/out/dataset.json") as file:
        info = DatasetInfo.from_json(file.read())
    paths = [f"ram://test_make_tfrecords/out/{shard.name}" for shard in info.splits["train"].shards]
    assert dict(record for path in paths for record in _read(tf, path)) == _files(folder, "train")
    assert not any(name.startswith("out.") for name in tf.io.gfile.listdir("ram://test_make_tfrecords"))


def test_publication_object_by_object_can_be_interrupted(tf, folder, monkeypatch):
    from efficientnet_tpu.data import make_tfrecords

    root = "ram://test_interrupted_publication"
    config = with_options(Config(), {"data_dir": str(folder), "output_dir": f"{root}/out", "train_shards": 3})
    rename, published = tf.io.gfile.rename, []

    def fail_at_the_third(source, target, overwrite=False):
        if target.startswith(f"{root}/out/"):
            published.append(target)
            if len(published) == 3:
                raise KeyboardInterrupt
        rename(source, target, overwrite)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.io.gfile, "rename", fail_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            make_tfrecords.convert_folder(config)
    assert len([name for name in tf.io.gfile.listdir(f"{root}/out") if name[0] != "."]) == 2
    begun = _fail_at(monkeypatch, 99, None)
    make_tfrecords.convert_folder(config)
    assert begun == []
    assert len(tf.io.gfile.listdir(f"{root}/out")) == 3 + 4 + 1
    assert not any(name.startswith("out.") for name in tf.io.gfile.listdir(root))


def test_prints_progress_and_a_summary(folder, tmp_path, capsys, monkeypatch):
    from efficientnet_tpu.data import file_pass

    monkeypatch.setattr(file_pass, "_SECONDS_BETWEEN_LINES", 0.0)
    _convert(folder, tmp_path / "out")
    output = capsys.readouterr().out
    assert "train: written 21/21 images" in output
    assert "0 s to go" in output
    num_bytes = sum(path.stat().st_size for path in (tmp_path / "out").iterdir() if path.name != DATASET_JSON)
    assert f"{tmp_path}/out: 27 images of 3 classes, {num_bytes:,} bytes" in output
    assert "skipped" not in output


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
