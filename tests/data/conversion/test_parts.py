"""Shards written in parts, as by several machines: together they are the set of one machine, bit for bit."""

import itertools
import json
import shutil
import subprocess
import sys

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.config.shard_part import ShardPart, read_shard_part
from efficientnet_tpu.data.data_place import require_data_place
from efficientnet_tpu.data.records.tfrecord_layout import default_num_shards
from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.errors import UserError
from tests.support.conversion import contents, convert, write_folder
from tests.support.imagenet_archives import write_archives, write_folder_of_archives


@pytest.fixture(scope="module")
def folder(tf, tmp_path_factory):
    """A folder in which an image of each split does not decode."""
    root = write_folder(tf, tmp_path_factory.mktemp("images"))
    for path in ("train/bee/bad.png", "validation/cow/bad.jpg"):
        (root / path).write_bytes(b"BM")
    return root


def _part(folder, output_dir, shards, **options):
    """Gives the command of a part, or verifies all."""
    from efficientnet_tpu.data.conversion import make_tfrecords

    options = {"train_shards": 4, "validation_shards": 2, **options}
    data_dir = {} if shards == "verify" else {"data_dir": str(folder)}
    config = with_options(Config(), {"output_dir": str(output_dir), "shards": shards, **data_dir, **options})
    make_tfrecords.convert(config)


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    """A directory with the set of one machine, out, and all three parts of the same, parts.partial."""
    root = tmp_path_factory.mktemp("written")
    convert(folder, root / "out")
    shutil.copytree(folder, root / "copy")  # another machine has it in another place, from another time
    for number, images in zip((2, 3, 1), (folder, root / "copy", folder), strict=True):
        _part(images, root / "parts", f"{number}/3")
    shutil.rmtree(root / "copy")
    return root


def _shards(directory):
    """The shards and dataset.json: of images that do not decode, the list has the paths that each machine had."""
    return {name: content for name, content in contents(directory).items() if name != UNREADABLE_JSONL}


@pytest.fixture
def parts(written, tmp_path):
    """A copy of the three parts, in tmp_path / "parts.partial"."""
    shutil.copytree(written / "parts.partial", tmp_path / "parts.partial")
    return tmp_path / "parts"


def test_the_value_of_the_flag():
    assert read_shard_part("2/8") == ShardPart(2, 8)
    assert read_shard_part("") is read_shard_part("verify") is None
    for text in ("0/8", "9/8", "8", "1/0", "a/b", "1/8/2", "-1/8", "1/99999", "all", "1.0/2", "¹/2"):
        with pytest.raises(ValueError, match=r"K/N"):
            read_shard_part(text)


@pytest.mark.parametrize(
    ("split", "num_images", "num_shards"),
    [
        ("train", 1_281_167, 1024), ("validation", 50_000, 128),  # ImageNet's
        ("train", 1_256_145, 1024), ("train", 14_197_122, 8192), ("validation", 10_000, 32),
        ("train", 50_000, 64), ("train", 300, 64), ("validation", 300, 4),
        ("train", 128_000, 128), ("train", 127_999, 64),
    ],
)  # fmt: skip
def test_how_many_shards_there_are_by_default(split, num_images, num_shards):
    assert default_num_shards(split, num_images) == num_shards


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_parts_are_disjoint_and_the_whole(count):
    from efficientnet_tpu.data.conversion.planned_set import PlannedSet, PlannedSplit

    splits = {"train": PlannedSplit(1024, (1,)), "validation": PlannedSplit(128, (1,))}
    planned = PlannedSet("", ("a",), splits, None)
    of_parts = [planned.shard_names(ShardPart(number, count)) for number in range(1, count + 1)]
    assert sorted(itertools.chain(*of_parts)) == sorted(planned.shard_names())
    for split in splits:
        sizes = [sum(name.startswith(split) for name in names) for names in of_parts]
        assert max(sizes) - min(sizes) <= 1
    assert PlannedSet.from_json(json.loads(json.dumps(planned.to_json()))) == planned


def test_the_parts_are_the_set_of_one_machine(written, parts, tmp_path, capsys):
    _part(None, parts, "verify")
    assert _shards(parts) == _shards(written / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]
    output = capsys.readouterr().out
    assert "train: every record read; 7 to 7 images of a class" in output
    assert "validation: every record read; 2 to 2 images of a class" in output
    assert "27 images of 3 classes" in output
    assert "skipped 2 files that cannot be decoded" in output
    _part(None, parts, "verify")  # once more, of what is complete
    assert f"{parts}: complete, and every record read: 27 images of 3 classes, digest " in capsys.readouterr().out
    shard = parts / "train-00000-of-00004"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(
        UserError, match=r"1 of 6 shards in .*parts are not what was written:\n  train-00000-of-00004: is"
    ):
        _part(None, parts, "verify")


def test_a_part_that_is_whole_writes_nothing_again(folder, parts, capsys):
    before = contents(parts.with_suffix(".partial"))
    _part(folder, parts, "2/3")
    assert "continuing; 2 shards were finished" in capsys.readouterr().out
    assert contents(parts.with_suffix(".partial")) == before


def _damage(directory, case):
    shard = directory / "train-00001-of-00004"
    if case == "no part":
        for path in directory.glob("part-*"):
            path.unlink()
    elif case == "a part is missing":
        (directory / "part-00002-of-00003.jsonl").unlink()
    elif case == "a part is not finished":
        record = directory / "part-00003-of-00003.jsonl"
        record.write_text("".join(record.read_text().splitlines(keepends=True)[:-1]))
    elif case == "a damaged record":
        record = directory / "part-00003-of-00003.jsonl"
        record.write_bytes(record.read_bytes().replace(b"label_names", b"label_namez"))
    elif case == "a part of another number":
        shutil.copy(directory / "part-00003-of-00003.jsonl", directory / "part-00003-of-00004.jsonl")
    elif case == "a shard is gone":
        shard.unlink()
    elif case == "a wrong bit":
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    elif case == "another shard":  # a whole one
        shutil.copy(directory / "train-00002-of-00004", shard)


NOT_COMPLETE = {
    "no part": r"holds no part. Give the --output_dir of the commands with --shards=K/N",
    "a part is missing": r"2 of 3 parts are in .*; 2/3 is missing. Give --shards=2/3 on a machine",
    "a part is not finished": r"part 3 of 3 has 1 of its 2 shards; validation-00001-of-00002 is missing",
    "a damaged record": r"part-00003-of-00003.jsonl is damaged. Give --shards=3/3 again",
    "a part of another number": r"holds parts of 3 and 4. Remove the part-\* files of one of them",
    "a shard is gone": r"1 of 6 shards in .* are not what was written:\n  train-00001-of-00004: is not there",
    "a wrong bit": r"train-00001-of-00004: is cut off, or has a wrong checksum",
    "another shard": r"train-00001-of-00004: has another .*crc32c than was written",
}


@pytest.mark.parametrize("case", NOT_COMPLETE)
def test_what_is_not_whole_is_not_published(parts, case):
    directory = parts.with_suffix(".partial")
    _damage(directory, case)
    before = contents(directory)
    with pytest.raises(UserError, match=NOT_COMPLETE[case]):
        _part(None, parts, "verify")
    assert contents(directory) == before
    assert not parts.exists()


@pytest.mark.slow
def test_the_command_of_a_damaged_part_mends_it(written, folder, parts):
    _damage(parts.with_suffix(".partial"), "a wrong bit")
    _part(folder, parts, "2/3")
    _part(None, parts, "verify")
    assert _shards(parts) == _shards(written / "out")


def test_images_that_were_counted_and_are_not_there_are_missed(parts, monkeypatch):
    """As if the lists of images and shards disagreed."""
    from efficientnet_tpu.data.conversion.finished_set import FinishedSet

    counts = FinishedSet.class_counts
    monkeypatch.setattr(FinishedSet, "class_counts", lambda found, split: [1 + counts(found, split)[0], 7, 7])
    with pytest.raises(UserError, match=r"holds 7 train images of the class ape; listed and decoded were 8"):
        _part(None, parts, "verify")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, r"part-0000\d-of-00003.jsonl has images of other names or sizes, another --seed"),
        ({"train_shards": 5}, r"has 4 train shards, not 5. Give all machines the same images and flags"),
        ({"shards": "1/2"}, r"--shards=1/2: .* holds a part of 3, part-00001-of-00003.jsonl. Take as many parts"),
        ({"shards": ""}, r"holds parts that were written with --shards=K/N"),
        ({"shards": "1/7"}, r"--shards=1/7: the set has 6 shards \(4 train and 2 validation\), too few for 7 parts"),
    ],
)
def test_another_set_in_the_same_directory_is_refused(folder, parts, options, message):
    before = contents(parts.with_suffix(".partial"))
    with pytest.raises(UserError, match=message):
        _part(folder, parts, **{"shards": "2/3", **options})
    assert contents(parts.with_suffix(".partial")) == before


def test_a_part_beside_an_interrupted_conversion_is_refused(folder, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "journal.json").write_text("")
    with pytest.raises(UserError, match=r"holds a conversion without --shards"):
        _part(folder, tmp_path / "out", "1/2")
    assert contents(tmp_path / "out.partial") == {"journal.json": b""}


@pytest.mark.slow
def test_one_part_at_two_machines_is_refused_and_another_goes_on(folder, written, parts):
    from efficientnet_tpu.data.conversion import finished_set

    with finished_set.part_lock(str(parts), ShardPart(2, 3)):
        for shards in ("2/3", "verify"):
            with pytest.raises(UserError, match=r"parts.part-00002-of-00003: another conversion is at work there"):
                _part(folder, parts, shards)
        _part(folder, parts, "1/3")
    _part(None, parts, "verify")
    assert _shards(parts) == _shards(written / "out")


def test_training_on_an_incomplete_set_is_refused(parts):
    for place in (parts, parts.with_suffix(".partial"), f"{parts}/"):
        with pytest.raises(UserError) as error:
            require_data_place(DataConfig(data_dir=str(place)))
        message = str(error.value)
        assert message.startswith(f"--data_dir={place}: make-tfrecords has not finished these shards; {parts}.partial")
        assert f"make-tfrecords --output_dir={parts} --shards=verify`" in message
        assert "\n" not in message
    _part(None, parts, "verify")
    require_data_place(DataConfig(data_dir=str(parts)))


@pytest.mark.slow
def test_parts_in_a_bucket(tf, folder, written):
    """ram://, in place of gs://: no renaming of whole directories."""
    root = "ram://test_parts"
    for number in (1, 2):
        _part(folder, f"{root}/out", f"{number}/2")
    _part(None, f"{root}/out", "verify")
    found = {}
    for name in tf.io.gfile.listdir(f"{root}/out"):
        with tf.io.gfile.GFile(f"{root}/out/{name}", "rb") as file:
            found[name] = file.read()
    del found[UNREADABLE_JSONL]
    assert found == _shards(written / "out")
    assert not any(name.startswith("out.") for name in tf.io.gfile.listdir(root))


_STOPS_IN_A_SHARD = """
import sys, time
from efficientnet_tpu import cli
from efficientnet_tpu.data.conversion import shard_file
write_shard, begun = shard_file.write_shard, []
def write(path, images):
    begun.append(path)
    if len(begun) == 2:
        write_shard(path, [next(images)])
        print("NOW", flush=True)
        time.sleep(600)
    return write_shard(path, images)
shard_file.write_shard = write
cli.main(["main.py", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_from_the_archives_to_a_training_by_two_machines_one_of_which_is_killed(tf, tmp_path):
    """The documented sequence on miniatures, through main: two parts at a time, kill -9 amid one, verify, train."""
    from efficientnet_tpu import cli

    archives, output_dir = write_archives(tmp_path / "archives", per_class=8), tmp_path / "shards"
    flags = [f"--data_dir={archives}", f"--output_dir={output_dir}", "--train_shards=6", "--validation_shards=2"]
    command = [sys.executable, "-c", _STOPS_IN_A_SHARD, "make-tfrecords", *flags, "--shards=1/2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert any(line == "NOW\n" for line in first.stdout)
        # The other machine, at the same time; and the same part once more, which is refused.
        second = [sys.executable, "main.py", "make-tfrecords", *flags, "--shards=2/2"]
        assert subprocess.run(second, check=False).returncode == 0
        again = subprocess.run([*second[:-1], "--shards=1/2"], capture_output=True, text=True, check=False)
        assert again.returncode == 2
        assert "another conversion is at work there" in again.stderr
        first.kill()
    training = [
        "main.py", f"--data_dir={output_dir}", f"--model_dir={tmp_path / 'run'}", "--model=efficientnet-nano",
        "--resolution=32", "--train_epochs=1", "--train_batch_size=4", "--minival_percent=2",
    ]  # fmt: skip
    with pytest.raises(UserError, match="make-tfrecords has not finished these shards"):
        cli.main(training)
    with pytest.raises(UserError, match=r"part 1 of 2 has 1 of its 4 shards"):
        cli.main(["main.py", "make-tfrecords", f"--output_dir={output_dir}", "--shards=verify"])
    cli.main(["main.py", "make-tfrecords", *flags, "--shards=1/2"])
    cli.main(["main.py", "make-tfrecords", f"--output_dir={output_dir}", "--shards=verify"])
    assert {path.name for path in tmp_path.iterdir()} == {"archives", "shards"}
    cli.main(["main.py", "make-tfrecords", *flags[:1], f"--output_dir={tmp_path / 'one'}", *flags[2:]])
    assert contents(output_dir) == contents(tmp_path / "one")
    # As from the folder that the archives unpack to, bit for bit.
    unpacked = write_folder_of_archives(tmp_path / "folder", per_class=8)
    cli.main(["main.py", "make-tfrecords", f"--data_dir={unpacked}", f"--output_dir={tmp_path / 'two'}", *flags[2:]])
    assert contents(output_dir) == contents(tmp_path / "two")
    cli.main(["main.py", "check-data", f"--data_dir={archives}", "--model=efficientnet-nano"])
    cli.main(["main.py", "check-data", f"--data_dir={output_dir}", "--model=efficientnet-nano"])
    cli.main(training)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any(entry["kind"] == "minival" for entry in log)
