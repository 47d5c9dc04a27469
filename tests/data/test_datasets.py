"""What --dataset and --data_dir may name, and what each source makes of the same images."""

import os
import shutil

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.records.tfrecord_layout import shard_name
from efficientnet_tpu.errors import UserError
from tests.support.labelled_images import read_examples, write_shard

CLASSES = ("ape", "bee", "cow")
PER_CLASS = {"train": 6, "validation": 2}


@pytest.fixture
def refusal(open_data):
    """The message of the UserError that flags are refused with."""

    def message(**options):
        with pytest.raises(UserError) as error:
            open_data(**options)
        return str(error.value)

    return message


@pytest.fixture(scope="module")
def contents(tf):
    """split -> [(file content, label)], every content different."""
    generator = np.random.default_rng(0)
    return {
        split: [
            (tf.io.encode_png(generator.integers(0, 256, (6, 5, 3), np.uint8)).numpy(), label)
            for label in range(len(CLASSES))
            for _ in range(count)
        ]
        for split, count in PER_CLASS.items()
    }


@pytest.fixture(scope="module")
def folder(contents, tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    for split, examples in contents.items():
        for number, (content, label) in enumerate(examples):
            path = root / split / CLASSES[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return root


@pytest.fixture
def shards(tf, contents, tmp_path):
    """3 training and 2 validation shards as a foreign converter writes them: no dataset.json, labels from 1 on."""
    for split, count in (("train", 3), ("validation", 2)):
        for index in range(count):
            write_shard(tf, tmp_path / shard_name(split, index, count), contents[split][index::count])
    return tmp_path


@pytest.fixture
def converted(tf, folder, tmp_path):
    """The folder as make-tfrecords writes it."""
    from efficientnet_tpu.data.conversion import make_tfrecords

    options = {"data_dir": str(folder), "output_dir": f"{tmp_path}/out", "train_shards": 3, "validation_shards": 2}
    make_tfrecords.convert(with_options(Config(), options))
    return tmp_path / "out"


def _check(data, contents, label_names=CLASSES):
    """`data` is `contents`: every image once with its label from 0 on, in a stored and in a shuffled order."""
    from efficientnet_tpu.data.split import HostShard

    assert data.label_names == label_names
    for split in (data.train, data.validation):
        expected = contents["train" if split is data.train else "validation"]
        assert split.num_images == len(expected)
        stored = read_examples(split)
        assert sorted(stored) == sorted(expected)
        for epoch in range(2):
            shuffled = read_examples(split, np.array([1, epoch], np.int64))
            assert sorted(shuffled) == sorted(expected)
        assert split is data.validation or shuffled != stored
        content, label = split.load(next(iter(split.handles(HostShard(), None))))
        assert (content.dtype.name, label.dtype.name) == ("string", "int32")
        assert split.locate(HostShard(), None, 0)


def test_folder_with_both_splits(open_data, folder, contents):
    _check(open_data(data_dir=folder), contents)


def test_folder_of_classes_holds_out_a_share(open_data, folder, contents):
    data = open_data(data_dir=folder / "train", validation_percent=30)
    assert data.label_names == CLASSES
    train, validation = read_examples(data.train), read_examples(data.validation)
    assert (len(train), len(validation)) == (data.train.num_images, data.validation.num_images)
    assert sorted(train + validation) == sorted(contents["train"])
    assert 0 < len(validation) < len(train)


def test_a_class_whose_name_begins_like_a_shards(open_data, folder, tmp_path):
    for name in ("train-station", "bus-stop"):
        shutil.copytree(folder / "train" / "ape", tmp_path / name)
    assert open_data(data_dir=tmp_path, validation_percent=30).label_names == ("bus-stop", "train-station")


def test_tfrecords_with_dataset_json(open_data, converted, contents, capsys):
    _check(open_data(data_dir=converted), contents)
    assert "counting" not in capsys.readouterr().out


@pytest.mark.slow
def test_tfrecords_without_dataset_json_are_counted_and_their_classes_numbered(open_data, shards, contents, capsys):
    _check(open_data(data_dir=shards), contents, ("class 0", "class 1", "class 2"))
    assert f"counting the images in {shards}" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-8-sig", pytest.param("utf-8", marks=pytest.mark.slow)])
def test_labels_txt_names_the_classes(open_data, shards, contents, encoding):
    (shards / "labels.txt").write_text("".join(f"{name}\r\n" for name in CLASSES), encoding=encoding, newline="")
    _check(open_data(data_dir=shards), contents)


@pytest.mark.parametrize("names", [CLASSES[:2], (*CLASSES, "dog")])
def test_labels_txt_of_another_length_is_refused(refusal, shards, names):
    (shards / "labels.txt").write_text("\n".join(names))
    assert refusal(data_dir=shards) == f"{shards}/labels.txt: has {len(names)} names, the images have 3 classes."


@pytest.mark.parametrize("source", ["shards", "converted"])
@pytest.mark.parametrize(
    ("split", "index", "count"),
    [("train", 0, 3), *(pytest.param(*one, marks=pytest.mark.slow) for one in (("train", 2, 3), ("validation", 1, 2)))],
)
def test_a_missing_shard_is_named(refusal, request, source, split, index, count):
    root = request.getfixturevalue(source)
    name = shard_name(split, index, count)
    (root / name).unlink()
    message = refusal(data_dir=root)
    assert message.startswith(f"--data_dir={root}: {count - 1} of {count} {split} shards are there; {name} is missing.")


@pytest.mark.parametrize("source", ["shards", "converted"])
def test_without_validation_shards(refusal, request, source):
    root = request.getfixturevalue(source)
    for path in root.glob("validation-*"):
        path.unlink()
    message = refusal(data_dir=root)
    assert message.startswith(f"--data_dir={root}: has no validation images, only 18 of train.")
    assert "validation-00000-of-00001" in message


def test_empty_shards(tf, refusal, shards):
    for index in range(3):
        write_shard(tf, shards / shard_name("train", index, 3), [])
    assert refusal(data_dir=shards) == f"--data_dir={shards}: the train shards hold no image."


def test_shards_of_a_single_class(tf, refusal, shards, contents):
    for split in ("train", "validation"):
        for path in shards.glob(f"{split}-*"):
            write_shard(tf, path, [(content, 0) for content, _ in contents[split]])
    assert refusal(data_dir=shards) == f"--data_dir={shards}: has one class, class 0; training needs two."


def test_minival_of_a_single_shard_is_refused(tf, refusal, contents, tmp_path):
    for split in ("train", "validation"):
        write_shard(tf, tmp_path / shard_name(split, 0, 1), contents[split])
    message = refusal(data_dir=tmp_path, minival_percent=5)
    assert message.startswith(f"--minival_percent=5: --data_dir={tmp_path} has a single training shard")


def test_a_damaged_shard_cannot_be_counted(refusal, shards):
    path = shards / shard_name("train", 1, 3)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    message = refusal(data_dir=shards)
    assert message.startswith(f"{path}: the file has a wrong checksum in record 5, at byte ")
    assert "Copy the shard again" in message


@pytest.mark.parametrize(
    ("keep", "words"), [(5, "is cut off inside of record 0, at byte 0"), (-1, "is cut off inside of record 5")]
)
def test_a_shard_that_is_cut_off_cannot_be_counted(refusal, shards, keep, words):
    """Cut off where a record's length should be, TensorFlow takes it for the end."""
    path = shards / shard_name("train", 2, 3)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(data_dir=shards).startswith(f"{path}: the file {words}")


@pytest.mark.parametrize(
    "form",
    [
        "{split}-{index:05d}-of-{count:05d}.tfrecord",
        pytest.param("{split}-{index}-of-{count}", marks=pytest.mark.slow),
        pytest.param("{split}-{index}", marks=pytest.mark.slow),
    ],
)
def test_shards_may_be_numbered_otherwise(open_data, refusal, shards, contents, form):
    for split, count in (("train", 3), ("validation", 2)):
        for index in range(count):
            (shards / shard_name(split, index, count)).rename(
                shards / form.format(split=split, index=index, count=count)
            )
    _check(open_data(data_dir=shards), contents, ("class 0", "class 1", "class 2"))
    (shards / form.format(split="train", index=1, count=3)).unlink()
    if "of" in form:
        assert "2 of 3 train shards are there" in refusal(data_dir=shards)


def test_shards_of_something_else_are_refused(tf, refusal, tmp_path):
    for split in ("train", "validation"):
        with tf.io.TFRecordWriter(str(tmp_path / shard_name(split, 0, 1))) as writer:
            writer.write(b"not an example")
    message = refusal(data_dir=tmp_path)
    assert message.startswith(
        f"{tmp_path}/train-00000-of-00001: not a shard of images as `python main.py make-tfrecords` writes"
    )


def test_labels_from_zero_are_refused(tf, refusal, shards, contents):
    path = shards / shard_name("validation", 0, 2)
    write_shard(tf, path, [(content, label - 1) for content, label in contents["validation"]])
    assert refusal(data_dir=shards).startswith(f"{path}: a label is 0; image/class/label counts from 1")


@pytest.mark.parametrize("source", ["shards", "converted"])
def test_a_shard_too_many_is_named(refusal, request, source):
    """Of another conversion into the same directory, its images would come twice."""
    root = request.getfixturevalue(source)
    shutil.copy(root / shard_name("train", 0, 3), root / shard_name("train", 0, 4))
    message = refusal(data_dir=root)
    assert message.startswith(f"--data_dir={root}: train-00000-of-00004 is not one of the 3 train shards.")


def test_a_manifest_of_the_folder(open_data, folder, contents, tmp_path):
    lines = [f"{path},{path.parent.name},{path.parent.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *lines]))
    _check(open_data(data_dir=tmp_path / "list.csv"), contents)


def test_what_a_folder_holds_besides_images_is_said(open_data, folder, tmp_path, capsys):
    root = tmp_path / "copy"
    shutil.copytree(folder, root)
    for name in (
        "train/ape/a.heic",
        "train/ape/b.heic",
        "train/bee/notes.TXT",
        "validation/ape/c.heic",
        "train/loose.png",
    ):
        (root / name).touch()
    open_data(data_dir=root)
    assert capsys.readouterr().out == "left out: 3 .heic, 1 .png outside the class folders, 1 .txt\n"


def test_minival_of_a_folder(open_data, folder, contents):
    data = open_data(data_dir=folder, minival_percent=20)
    parts = [read_examples(split) for split in (data.train, data.minival)]
    assert sorted(parts[0] + parts[1]) == sorted(contents["train"])
    assert {label for _, label in parts[1]} == {0, 1, 2}
    assert open_data(data_dir=folder).minival is None
    assert open_data(data_dir=folder).fingerprint != data.fingerprint


@pytest.mark.parametrize("source", ["folder", "shards", "manifest", "fake"])
def test_labels_of_a_run_are_checked_whatever_the_source(tf, open_data, request, tmp_path, source):
    """As evaluation and a continued run do: other classes are refused, the same ones in another place are not."""
    from efficientnet_tpu.run import run_record

    if source == "folder":
        same, other = request.getfixturevalue("folder"), tmp_path / "other"
        shutil.copytree(same, other)
        for split in ("train", "validation"):
            (other / split / "cow").rename(other / split / "yak")
        options = [{"data_dir": path} for path in (same, other)]
    elif source == "shards":
        same = request.getfixturevalue("shards")
        options = [{"data_dir": same}, {"dataset": "sample"}]
    elif source == "manifest":
        rows = [(f"{name}/{index}.png", name) for name in CLASSES for index in range(6)]
        for name, old, new in (("same", "", ""), ("other", "cow", "yak")):
            text = "".join(f"{request.getfixturevalue('folder')}/train/{path},{label}\n" for path, label in rows)
            (tmp_path / f"{name}.csv").write_text("path,label\n" + text.replace(f",{old}", f",{new}"))
        options = [{"data_dir": tmp_path / f"{name}.csv"} for name in ("same", "other")]
    else:
        options = [{"dataset": "fake:3:10:10"}, {"dataset": "fake:4:10:10"}]
    config = with_options(Config(), {"model_dir": str(tmp_path / "run")} | {k: str(v) for k, v in options[0].items()})
    run_record.save(run_record.describe(config, open_data(**options[0])))
    tf.train.Checkpoint(step=tf.Variable(1)).write(f"{tmp_path}/run/checkpoints/ckpt-1")
    assert run_record.with_classes_of_run(open_data(**options[0]), config).label_names
    with pytest.raises(UserError, match=f"are not among the 3 of the run in --model_dir={tmp_path}/run"):
        run_record.with_classes_of_run(open_data(**options[1]), config)


@pytest.mark.slow
def test_sample(open_data):
    data = open_data(dataset="sample")
    assert (len(data.label_names), data.train.num_images, data.validation.num_images) == (10, 17_700, 10_000)
    labels = [label for _, label in read_examples(data.validation)]
    assert np.bincount(labels).tolist() == [1000] * 10


@pytest.mark.parametrize(
    ("dataset", "advice"),
    [("sampel", " Did you mean sample?"), ("tdfs:cifar10", " Did you mean tfds?"), ("imagenet", ""), ("", "")],
)
def test_unknown_dataset(refusal, dataset, advice):
    message = refusal(dataset=dataset)
    assert message.startswith(f"--dataset={dataset}: must be auto, sample, tfds:NAME, fake")
    assert message.endswith(advice)


def test_a_bucket_that_cannot_be_reached(tf, refusal, monkeypatch):
    def isdir(path):
        raise tf.errors.FailedPreconditionError(None, None, "could not resolve host")

    monkeypatch.setattr(tf.io.gfile, "isdir", isdir)
    message = refusal(data_dir="gs://bucket/images")
    assert message == "--data_dir=gs://bucket/images: cannot be reached: could not resolve host."


def test_without_any_data(refusal):
    assert refusal().startswith("--data_dir is missing: ")


def test_the_fingerprint_tells_data_apart_but_not_where_it_lies(open_data, folder, converted, tmp_path):
    before = open_data(data_dir=folder).fingerprint
    moved = tmp_path / "moved"
    os.symlink(folder, moved)
    assert open_data(data_dir=moved).fingerprint == before
    assert open_data(data_dir=folder / "train", validation_percent=30).fingerprint != before
    converted_fingerprint = open_data(data_dir=converted).fingerprint
    assert converted_fingerprint != before
    os.symlink(converted, tmp_path / "converted")
    assert open_data(data_dir=tmp_path / "converted").fingerprint == converted_fingerprint


def test_every_source_has_a_name_with_a_meaning_and_every_name_a_source(tf):
    from efficientnet_tpu.config.data import DATASETS
    from efficientnet_tpu.data.datasets import SOURCES

    assert [name.partition(":")[0].split()[0] for name in DATASETS] == list(SOURCES)


def _write_records(tf, path, examples, kind="", base=1, keys=("image/encoded", "image/class/label")):
    """Writes a file of records as others do; a label that is a text is written as such."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), kind) as writer:
        for content, label in examples:
            example = tf.train.Example()
            example.features.feature[keys[0]].bytes_list.value.append(content)
            feature = example.features.feature[keys[1]]
            if isinstance(label, str):
                feature.bytes_list.value.append(label.encode())
            else:
                feature.int64_list.value.append(label + base)
            writer.write(example.SerializeToString())


OF_ONE_KIND = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("GZIP", "ZLIB")]


@pytest.mark.parametrize("kind", ["mixed", *OF_ONE_KIND])
def test_compressed_shards(tf, open_data, contents, tmp_path, kind):
    for split, examples in contents.items():
        for index in range(3):
            this_kind = ("", "GZIP", "ZLIB")[index] if kind == "mixed" else kind
            _write_records(tf, tmp_path / shard_name(split, index, 3), examples[index::3], this_kind)
    _check(open_data(data_dir=tmp_path), contents, ("class 0", "class 1", "class 2"))


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("train.tfrecord", "val.tfrecord"),
        pytest.param("train/0.tfrec", "val/0.tfrec", marks=pytest.mark.slow),
        pytest.param("train-0", "valid-0", marks=pytest.mark.slow),
    ],
)
def test_shards_of_other_names_and_keys(tf, open_data, refusal, contents, tmp_path, train, validation):
    for name, split in ((train, "train"), (validation, "validation")):
        _write_records(tf, tmp_path / name, contents[split], base=0, keys=("image", "class"))
    assert "Give --tfrecord_keys=image=image,label=class" in refusal(data_dir=tmp_path)
    data = open_data(data_dir=tmp_path, tfrecord_keys="image=image,label=class")
    _check(data, contents, ("class 0", "class 1", "class 2"))


def test_records_with_names_of_classes(tf, open_data, contents, tmp_path):
    for split, examples in contents.items():
        named = [(content, CLASSES[label]) for content, label in reversed(examples)]
        _write_records(tf, tmp_path / f"{split}.tfrecord", named, keys=("image", "label"))
    _check(open_data(data_dir=tmp_path, tfrecord_keys="image=image,label=label"), contents)


def test_whether_labels_count_from_0_or_1_is_not_guessed(tf, open_data, refusal, contents, tmp_path):
    keys = "image=image,label=label"
    for split, examples in contents.items():
        _write_records(tf, tmp_path / f"{split}.tfrecord", examples, keys=("image", "label"))
    message = refusal(data_dir=tmp_path, tfrecord_keys=keys)
    assert "no label is 0, the lowest is 1." in message
    assert f"--tfrecord_keys={keys},first_label=0 or --tfrecord_keys={keys},first_label=1" in message
    data = open_data(data_dir=tmp_path, tfrecord_keys=f"{keys},first_label=1")
    _check(data, contents, ("class 0", "class 1", "class 2"))
    assert len(open_data(data_dir=tmp_path, tfrecord_keys=f"{keys},first_label=0").label_names) == 4


def test_labels_from_0_under_the_usual_key(tf, open_data, refusal, contents, tmp_path):
    for split, examples in contents.items():
        _write_records(tf, tmp_path / shard_name(split, 0, 1), examples, base=0)
    assert refusal(data_dir=tmp_path).endswith("If its classes count from 0, give --tfrecord_keys=first_label=0")
    data = open_data(data_dir=tmp_path, tfrecord_keys="first_label=0")
    _check(data, contents, ("class 0", "class 1", "class 2"))


def test_test_shards_are_kept_apart_or_validated_on(tf, open_data, contents, tmp_path, capsys):
    _write_records(tf, tmp_path / "train.tfrecord", contents["train"])
    _write_records(tf, tmp_path / "test.tfrecord", contents["validation"])
    data = open_data(data_dir=tmp_path)
    assert (data.test, data.words["validation"]) == (None, "test")
    assert "validation: the images of test, as there are no others" in capsys.readouterr().out
    _write_records(tf, tmp_path / "val.tfrecord", contents["validation"][::2])
    data = open_data(data_dir=tmp_path)
    assert (data.validation.num_images, data.test.num_images) == (3, 6)
    (tmp_path / "test.tfrecord").unlink()
    assert open_data(data_dir=tmp_path).fingerprint == data.fingerprint
    # Those of a competition have no labels.
    _write_records(
        tf, tmp_path / "test.tfrecord", [(content, "x") for content, _ in contents["train"]], keys=("image", "id")
    )
    assert open_data(data_dir=tmp_path).test is None
    assert "left out: the test shards; " in capsys.readouterr().out


def test_shards_of_validation_images_alone_are_measured_on(tf, refusal, contents, shards):
    from efficientnet_tpu.config.data import DataConfig
    from efficientnet_tpu.data.datasets import open_splits

    for path in shards.glob("train-*"):
        path.unlink()
    (shards / "labels.txt").write_text("".join(f"{name}\n" for name in (*CLASSES, "yak")))
    data = open_splits(DataConfig(data_dir=str(shards)))
    assert (list(data.splits), data.label_names) == (["validation"], (*CLASSES, "yak"))
    assert sorted(read_examples(data.validation)) == sorted(contents["validation"])
    assert refusal(data_dir=shards).startswith(f"--data_dir={shards}: has no training images, only 6 of validation.")
