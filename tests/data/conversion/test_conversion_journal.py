"""A conversion that is interrupted, killed or started twice: it continues where it was, and the result is the same."""

import hashlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from tests.support.conversion import contents, convert, write_folder


@pytest.fixture(scope="module")
def folder(tf, tmp_path_factory):
    return write_folder(tf, tmp_path_factory.mktemp("images"))


def _fail_at(monkeypatch, number, error):
    """From now on the shard of this number, from 0, fails halfway. Returns the names of the shards that are begun."""
    from efficientnet_tpu.data.conversion import shard_file, write_shards

    begun, write_shard = [], shard_file.write_shard

    def write(path, images):
        begun.append(path.rpartition("/")[2])
        if len(begun) == number + 1:
            write_shard(path, itertools.islice(images, 2))
            raise error
        return write_shard(path, images)

    monkeypatch.setattr(write_shards, "WRITERS", 1)
    monkeypatch.setattr(shard_file, "write_shard", write)
    return begun


@pytest.fixture
def half_done(tf, folder, tmp_path):
    """A conversion to tmp_path / "out", interrupted in its third training shard of four."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _fail_at(monkeypatch, 2, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            convert(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    return tmp_path / "out.partial"


def test_interrupted_it_continues(tf, folder, tmp_path, capsys, half_done):
    assert f"not finished; {half_done} keeps what is done (2 shards): the same command continues" in (
        capsys.readouterr().out
    )
    with pytest.MonkeyPatch.context() as patch:
        begun = _fail_at(patch, 99, None)
        convert(folder, tmp_path / "out")
    assert begun == [f"train-{i:05d}-of-00004" for i in (2, 3)] + [f"validation-{i:05d}-of-00002" for i in (0, 1)]
    assert f"{half_done}: continuing; 2 shards were finished" in capsys.readouterr().out
    convert(folder, tmp_path / "uninterrupted")
    assert contents(tmp_path / "out") == contents(tmp_path / "uninterrupted")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "uninterrupted"}


@pytest.mark.slow
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
    convert(folder, tmp_path / "out")
    reason = {"remove": "is not there", "other": "holds 5 images"}.get(damage, "is cut off")
    output = capsys.readouterr().out
    assert f"{shard}: {reason}" in output
    assert output.count("writing it again") == 1
    convert(folder, tmp_path / "uninterrupted")
    assert contents(tmp_path / "out") == contents(tmp_path / "uninterrupted")


def _steps(directory, journal):
    """What the journal in a directory tells: whether it names the set, the shards, and why images were left out."""
    found = journal.Journal.read(str(directory), "journal.json")
    reasons = [image.reason for images in found.unreadable.values() for image in images]
    return found.planned is not None, sorted(found.shards), reasons


@pytest.fixture
def journal_of_four(tf, tmp_path):
    """The module, and tmp_path with a journal of a set and three shards."""
    from efficientnet_tpu.data.conversion import conversion_journal
    from efficientnet_tpu.data.conversion.planned_set import PlannedSet, PlannedSplit
    from efficientnet_tpu.data.records.tfrecord_layout import ShardInfo

    planned = PlannedSet("f00d", ("a", "b"), {"train": PlannedSplit(3, (5, 4))}, None)
    written = conversion_journal.Journal(str(tmp_path), "journal.json", planned)
    written.shard_finished(ShardInfo("train-0", 3, 40, 7))
    written.shard_finished(ShardInfo("train-1", 2, 41, 8), [conversion_journal.Unreadable("ö.jpg", 1, "empty file")])
    written.shard_finished(ShardInfo("train-2", 3, 42, 9))
    assert _steps(tmp_path, conversion_journal) == (True, ["train-0", "train-1", "train-2"], ["empty file"])
    return conversion_journal


@pytest.mark.parametrize("seed", range(5))
def test_a_journal_with_a_wrong_bit_lacks_the_steps_of_that_line(journal_of_four, tmp_path, capsys, seed):
    path = tmp_path / "journal.json"
    whole = path.read_bytes()
    for position in range(seed, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position // 5) % 8
        path.write_bytes(damaged)
        has_set, shards, _ = _steps(tmp_path, journal_of_four)
        lost = 1 + (whole[position] == ord("\n") and position < len(whole) - 1)  # its end: two lines become one
        assert has_set + len(shards) == 4 - lost
        assert "1 of its lines are damaged" in capsys.readouterr().out or whole[position] != ord("\n")


@pytest.mark.parametrize("content", [b"", b"\0" * 500, b"{}", b"null\n", b"\xff\xfe\n", b"[[[[" * 10**5])
def test_a_journal_that_tells_nothing_starts_afresh(journal_of_four, tmp_path, capsys, content):
    planned = journal_of_four.Journal.read(str(tmp_path), "journal.json").planned
    (tmp_path / "journal.json").write_bytes(content)
    assert _steps(tmp_path, journal_of_four) == (False, [], [])
    assert journal_of_four.Journal.open(str(tmp_path), planned, "").shards == {}
    assert f"{tmp_path}: left by another conversion (no journal tells of which); starting afresh" in (
        capsys.readouterr().out
    )


def test_a_journal_of_an_earlier_version_starts_afresh(journal_of_four, tmp_path, capsys):
    planned = journal_of_four.Journal.read(str(tmp_path), "journal.json").planned
    line = '{"plan": "f00d", "shard": {"name": "train-0", "num_images": 3, "bytes": 40, "crc32c": 7}}'
    (tmp_path / "journal.json").write_text(f"{hashlib.sha256(line.encode()).hexdigest()[:16]} {line}\n")
    assert journal_of_four.Journal.open(str(tmp_path), planned, "").shards == {}
    assert "left by another conversion (the images or other flags were others)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_damaged_line_of_the_journal_changes_nothing_in_the_end(folder, tmp_path, half_done):
    for number in range(3):
        shutil.copytree(half_done, tmp_path / f"out{number}.partial")
        path = tmp_path / f"out{number}.partial" / "journal.json"
        lines = path.read_bytes().splitlines(keepends=True)
        lines[number] = lines[number][:-40] + b"\0" * 39 + b"\n"
        path.write_bytes(b"".join(lines))
        convert(folder, tmp_path / f"out{number}")
    convert(folder, tmp_path / "uninterrupted")
    for number in range(3):
        assert contents(tmp_path / f"out{number}") == contents(tmp_path / "uninterrupted")


@pytest.mark.slow
def test_another_plan_starts_afresh(folder, tmp_path, capsys, half_done):
    convert(folder, tmp_path / "out", train_shards=3)
    assert f"{half_done}: left by another conversion" in capsys.readouterr().out
    convert(folder, tmp_path / "uninterrupted", train_shards=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "uninterrupted")


def test_what_the_plan_depends_on(folder, tmp_path):
    from efficientnet_tpu.data.conversion.planned_set import local_state, plan_set
    from efficientnet_tpu.data.sources.image_folder import scan

    def plan(place="copy", **options):
        files = scan(str(tmp_path / place), 10)
        config = with_options(Config(), {"data_dir": str(tmp_path / place), **options})
        return plan_set(files, config)[0].fingerprint, local_state(files)

    for place in ("copy", "elsewhere"):
        shutil.copytree(folder, tmp_path / place)
    plans = [plan()[0], plan(seed=1)[0], plan(train_shards=3)[0], plan(validation_shards=3)[0]]
    assert plan("elsewhere")[0] == plans[0]  # as on another machine
    state = plan()[1]
    image = tmp_path / "copy" / "train" / "ape" / "0.png"
    os.utime(image, ns=(0, 0))
    assert plan()[0] == plans[0]
    assert plan()[1] != state
    (tmp_path / "copy" / "train" / "bee" / "new.png").write_bytes(image.read_bytes())
    plans.append(plan()[0])
    image.write_bytes(image.read_bytes() + b"\n")
    plans.append(plan()[0])
    assert len(set(plans)) == len(plans)
    assert plan() == plan(learning_rate_schedule="cosine")


def test_strangers_in_the_partial_directory_are_left_alone(folder, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match=r"out.partial, which holds something else: mine.txt"):
        convert(folder, tmp_path / "out")
    assert contents(tmp_path / "out.partial") == {"mine.txt": b"precious"}


def test_a_user_error_before_the_first_shard_leaves_nothing(folder, tmp_path, monkeypatch):
    _fail_at(monkeypatch, 0, UserError("no"))
    with pytest.raises(UserError, match="no"):
        convert(folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_are_refused(folder, tmp_path, half_done):
    from efficientnet_tpu.storage import directory_lock

    before = contents(half_done)
    output_dir = str(tmp_path / "out")
    with directory_lock.held(output_dir, lock_file=f"{output_dir}.lock"), pytest.raises(UserError) as error:
        convert(folder, output_dir)
    assert str(error.value).startswith(f"--output_dir={output_dir}: another conversion ")
    assert f"process {os.getpid()} on {socket.gethostname()}" in str(error.value)
    assert contents(half_done) == before
    assert convert(folder, tmp_path / "out").splits["train"].num_images == 21


@pytest.mark.slow
def test_killed_it_continues(tf, folder, tmp_path):
    """SIGKILL, to a process that has stopped in its third shard."""
    program = f"""
import sys, time
from efficientnet_tpu import cli
from efficientnet_tpu.data.conversion import shard_file, write_shards
write_shard, begun = shard_file.write_shard, []
def write(path, images):
    begun.append(path)
    if len(begun) == 3:
        write_shard(path, [next(images)])
        print("NOW", flush=True)
        time.sleep(600)
    return write_shard(path, images)
shard_file.write_shard, write_shards.WRITERS = write, 1
cli.main(["main.py", "make-tfrecords", "--data_dir={folder}", "--output_dir={tmp_path}/out", "--train_shards=4",
          "--validation_shards=2"])
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert any(line == "NOW\n" for line in process.stdout)
        assert json.loads((tmp_path / "out.lock").read_text())["process"] == process.pid
        with pytest.raises(UserError, match=f"process {process.pid} on "):
            convert(folder, tmp_path / "out")
        process.kill()
    begun = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        begun = _fail_at(monkeypatch, 99, None)
        convert(folder, tmp_path / "out")
    assert len(begun) == 4
    convert(folder, tmp_path / "uninterrupted")
    assert contents(tmp_path / "out") == contents(tmp_path / "uninterrupted")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "uninterrupted"}


def test_publication_object_by_object_can_be_interrupted(tf, folder, monkeypatch):
    from efficientnet_tpu.data.conversion import finished_set, make_tfrecords

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
        patch.setattr(finished_set, "READERS", 1)
        with pytest.raises(KeyboardInterrupt):
            make_tfrecords.convert(config)
    assert len([name for name in tf.io.gfile.listdir(f"{root}/out") if name[0] != "."]) in range(2, 7)
    begun = _fail_at(monkeypatch, 99, None)
    make_tfrecords.convert(config)
    assert begun == []
    assert len(tf.io.gfile.listdir(f"{root}/out")) == 3 + 4 + 1
    assert not any(name.startswith("out.") for name in tf.io.gfile.listdir(root))
