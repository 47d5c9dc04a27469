"""run.json: what a run is, and who may continue it."""

import dataclasses
import json
import platform
import re
import sys
from types import SimpleNamespace

import pytest

from efficientnet_tpu.config.config import OPTIONS, Config, options_of, run_options, with_options
from efficientnet_tpu.errors import UserError


@pytest.fixture(scope="module")
def run_record(tf):
    from efficientnet_tpu.run import run_record

    return run_record


@pytest.fixture
def record(run_record, tmp_path):
    """Of a run in tmp_path/run, with one option of every kind changed."""
    options = {
        "model_dir": f"{tmp_path}/run", "model": "efficientnet-b3", "resolution": 64, "width_coefficient": 1.25,
        "horizontal_flip": False, "seed": 9, "data_dir": "/photos", "train_epochs": 1.5, "train_batch_size": 256,
    }  # fmt: skip
    return run_record.RunRecord(with_options(Config(), options), ("bär", "cat"), "0123456789abcdef", 42, ())


@pytest.fixture
def saved(run_record, record):
    """The record, stored in its model_dir."""
    run_record.save(run_record.prepare(record))
    save_checkpoint(record)
    return record


def save_checkpoint(record):
    """What makes a begun run one to continue."""
    import tensorflow as tf

    tf.train.Checkpoint(step=tf.Variable(1)).write(f"{record.config.run.model_dir}/checkpoints/ckpt-1")


def test_what_is_saved_can_be_loaded(run_record, record, tmp_path):
    assert run_record.prepare(record) == record
    assert list(tmp_path.iterdir()) == []
    run_record.save(record)
    assert run_record.load(f"{tmp_path}/run") == record
    assert (tmp_path / "run" / "labels.txt").read_text() == "bär\ncat\n"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["labels.txt", "run.json"]


def test_run_json_is_readable(run_record, saved, tmp_path):
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    assert content["config"] == run_options(saved.config)
    assert content["label_names"] == ["bär", "cat"]
    assert (content["data_fingerprint"], content["num_train_images"]) == ("0123456789abcdef", 42)


def test_describe_says_what_this_process_is(tf, run_record, monkeypatch):
    from efficientnet_tpu.data.split import ImageData

    monkeypatch.setattr(sys, "argv", ["main.py", "--seed=3"])
    data = ImageData(("a", "b"), SimpleNamespace(num_images=20), SimpleNamespace(num_images=4), "f" * 16)
    record = run_record.describe(Config(), data)
    assert (record.label_names, record.data_fingerprint, record.num_train_images) == (("a", "b"), "f" * 16, 20)
    [start] = record.starts
    assert start["command"] == "main.py --seed=3"
    assert start["python"] == platform.python_version()
    assert start["versions"]["tensorflow"] == tf.__version__
    assert {"keras", "numpy"} <= start["versions"].keys()
    assert {"time", "git_revision"} <= start.keys()
    assert start["options"] == run_options(Config())


def test_data_dir_is_stored_whole(run_record, tmp_path, monkeypatch):
    """The next command may be given in another directory."""
    from efficientnet_tpu.data.split import ImageData

    monkeypatch.chdir(tmp_path)
    data = ImageData(("a", "b"), SimpleNamespace(num_images=20), SimpleNamespace(num_images=4), "f" * 16)
    for given, stored in (("photos", f"{tmp_path}/photos"), ("gs://bucket/photos", "gs://bucket/photos"), ("", "")):
        config = with_options(Config(), {"data_dir": given})
        assert run_record.describe(config, data).config.data.data_dir == stored


def test_every_start_is_kept(run_record, record, tmp_path):
    save_checkpoint(record)
    for number in (1, 2, 3):
        start = {"command": f"start {number}"}
        begun = run_record.prepare(dataclasses.replace(record, starts=(start,)))
        run_record.save(run_record.at_step(begun, 10 * number))
    starts = run_record.load(f"{tmp_path}/run").starts
    assert [(start["command"], start["step"]) for start in starts] == [
        ("start 1", 10),
        ("start 2", 20),
        ("start 3", 30),
    ]


def test_what_changes_is_said_with_its_values_and_its_step(run_record, record):
    changed = with_options(record.config, {"model_dir": "/moved", "train_epochs": 3.0, "horizontal_flip": True})
    changes = run_record.changed_options(record.config, changed)
    assert changes == {"horizontal_flip": (False, True), "train_epochs": (1.5, 3.0)}
    assert run_record.describe_changes(changes, 1200) == (
        "changed from step 1,200 on: --horizontal_flip=True (was False), --train_epochs=3.0 (was 1.5)"
    )


def test_a_run_may_be_moved(run_record, saved, tmp_path):
    (tmp_path / "run").rename(tmp_path / "moved")
    assert run_record.load(f"{tmp_path}/moved").config.run.model_dir == f"{tmp_path}/moved"


def test_a_run_may_go_on_with_other_training(run_record, saved):
    changed = with_options(saved.config, {"train_epochs": 3.0, "base_learning_rate": 0.5})
    assert run_record.prepare(dataclasses.replace(saved, config=changed)).config == changed


@pytest.mark.parametrize(
    ("option", "before", "now"),
    [
        ("model", "efficientnet-b3", "efficientnet-b4"),
        ("resolution", 64, 32),
        ("width_coefficient", 1.25, 1.5),
        ("batch_norm_epsilon", 0.001, 0.01),
        ("optimizer", "rmsprop", "sgd"),
        ("train_batch_size", 256, 128),
        ("seed", 9, 10),
    ],
)
def test_another_model_or_order_is_refused(run_record, saved, tmp_path, option, before, now):
    other = dataclasses.replace(saved, config=with_options(saved.config, {option: now}))
    with pytest.raises(UserError) as error:
        run_record.prepare(other)
    assert str(error.value) == (
        f"--{option}={now}: the checkpoints in --model_dir={tmp_path}/run were made with {option}={before}. "
        "Use that, or another --model_dir."
    )
    assert run_record.load(f"{tmp_path}/run") == saved


def test_another_number_of_images_is_refused(run_record, saved):
    with pytest.raises(UserError, match=r"^--data_dir=/photos: its 43 training images are not the 42 of the run"):
        run_record.prepare(dataclasses.replace(saved, num_train_images=43))


def test_a_run_of_an_earlier_version_has_what_that_version_did(run_record, saved, tmp_path):
    """Its run.json lacks an option that came later, whose default would be another behavior."""
    path = tmp_path / "run" / "run.json"
    content = json.loads(path.read_text())
    came_later = {name: option.before[0] for name, option in OPTIONS.items() if option.before}
    assert came_later.items() >= {"exif_orientation": False, "background": "none"}.items()
    assert all(run_options(Config())[name] != value for name, value in came_later.items())
    for name in came_later:
        del content["config"][name]
    path.write_text(json.dumps(content))
    old = run_record.load(f"{tmp_path}/run").config
    assert old == with_options(saved.config, came_later)
    # What it states is its own.
    content["config"]["exif_orientation"] = True
    path.write_text(json.dumps(content))
    assert run_record.load(f"{tmp_path}/run").config == with_options(old, {"exif_orientation": True})


def test_a_run_that_never_saved_binds_nobody(run_record, record):
    run_record.save(run_record.prepare(record))
    other = dataclasses.replace(record, config=with_options(record.config, {"model": "efficientnet-b0", "seed": 1}))
    assert run_record.prepare(other) == other


@pytest.mark.parametrize(
    ("option", "value", "refused"),
    [
        ("resolution", 96, False),
        ("dropout_rate", 0.0, False),
        ("model", "efficientnet-b0", True),
        ("width_coefficient", 2.0, True),
    ],
)
def test_weights_may_be_used_at_another_resolution_but_not_in_another_model(run_record, record, option, value, refused):
    other = with_options(record.config, {option: value})
    if refused:
        with pytest.raises(UserError, match=f"^--{option}={value}: the checkpoints in"):
            run_record.require_same_weights(record.config, other)
    else:
        run_record.require_same_weights(record.config, other)


def test_a_flag_left_out_is_refused_where_the_run_has_it(run_record, saved):
    other = dataclasses.replace(saved, config=with_options(saved.config, {"resolution": None}))
    with pytest.raises(UserError, match=r"^--resolution left to the model: .* were made with resolution=64"):
        run_record.prepare(other)


def images_of(*label_names):
    """Data of so many classes, with one training image of each: its label is its number."""
    from efficientnet_tpu.data.sources.file_split import file_split
    from efficientnet_tpu.data.split import ImageData

    examples = [(f"/photos/{name}.jpg", label) for label, name in enumerate(label_names)]
    return ImageData(label_names, file_split(examples), file_split(examples), "f" * 16)


@pytest.mark.parametrize(
    ("label_names", "words"),
    [
        (("bär", "cat", "dog"), r"1 of its 3 classes \(dog\) are not among the 2 of the run in --model_dir=.*/run\. "),
        (
            ("bär", "cow"),
            r"1 of its 2 classes \(cow\) are not among the 2 of the run in --model_dir=.*/run, which also has cat",
        ),
        (("cat",), r"has 1 of the 2 classes of the run in --model_dir=.*/run, and lacks bär\."),
    ],
)
def test_other_classes_are_refused(run_record, saved, label_names, words):
    with pytest.raises(UserError, match="^--data_dir=/photos: " + words):
        run_record.with_classes_of_run(images_of(*label_names), saved.config)


@pytest.mark.parametrize(
    ("label_names", "labels"), [(("bär", "cat"), [0, 1]), (("cat", "bär"), [1, 0]), (("cat", "ba\u0308r"), [1, 0])]
)
def test_the_same_classes_in_another_order_get_the_labels_of_the_run(tf, run_record, saved, label_names, labels):
    data = images_of(*label_names)
    ours = run_record.with_classes_of_run(data, saved.config)
    assert ours.label_names == ("bär", "cat")
    assert ours.fingerprint == data.fingerprint
    for split in (ours.train, ours.validation):
        assert split.labels().numpy().tolist() == labels
        assert split.paths().numpy().tolist() == data.train.paths().numpy().tolist()
    # Nothing is put between the images of a run as they were and its steps.
    assert (ours.train is data.train) == (label_names == ("bär", "cat"))


def test_a_new_run_has_the_classes_of_its_data(run_record, record):
    data = images_of("x", "y")
    assert run_record.with_classes_of_run(data, record.config) is data


def test_other_images_of_the_same_classes_are_noted(run_record, saved, capsys):
    run_record.prepare(saved)
    assert capsys.readouterr().out == ""
    run_record.prepare(dataclasses.replace(saved, data_fingerprint="0" * 16))
    assert "the images are not the same files" in capsys.readouterr().out


def test_directory_without_a_run(run_record, tmp_path):
    with pytest.raises(UserError, match=f"--model_dir={tmp_path}: no trained run here"):
        run_record.load(str(tmp_path))


def test_a_bucket_that_cannot_be_reached(tf, run_record, monkeypatch):
    def exists(path):
        raise tf.errors.FailedPreconditionError(None, None, "could not resolve host")

    monkeypatch.setattr(tf.io.gfile, "exists", exists)
    with pytest.raises(UserError, match="--model_dir=gs://bucket/run: cannot be reached: could not resolve host"):
        run_record.load("gs://bucket/run")


def rewrite(tmp_path, **options):
    """Puts other options into the stored run.json."""
    path = tmp_path / "run" / "run.json"
    content = json.loads(path.read_text())
    content["config"] |= options
    path.write_text(json.dumps(content))
    return path


def test_the_options_of_all_commands_are_read_as_earlier_versions_stored_them(run_record, saved, tmp_path, capsys):
    everything = options_of(with_options(saved.config, {"grid_step": 0.5, "print": True}))
    rewrite(tmp_path, **everything)
    assert run_record.load(f"{tmp_path}/run") == saved
    assert capsys.readouterr() == ("", "")


def test_unknown_options_are_reported_in_one_line(run_record, saved, tmp_path, capsys):
    path = rewrite(tmp_path, no_such_flag=1, of_tomorrow="x")
    assert run_record.load(f"{tmp_path}/run") == saved
    assert run_record.load(f"{tmp_path}/run") == saved
    assert run_record.prepare(saved).config == saved.config
    output = capsys.readouterr()
    assert output.out == ""  # predict's is for programs
    [line] = output.err.splitlines()
    assert str(path) in line
    assert "--no_such_flag=1" in line
    assert "--of_tomorrow=x" in line


def test_a_renamed_option_is_found_under_its_earlier_name(run_record, saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(OPTIONS, "train_epochs", dataclasses.replace(OPTIONS["train_epochs"], alias="num_epochs"))
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace('"train_epochs"', '"num_epochs"'))
    assert run_record.load(f"{tmp_path}/run").config.train.train_epochs == 1.5
    assert capsys.readouterr().err == ""


def test_a_value_outside_the_limits_is_reported_and_replaced(run_record, saved, tmp_path, capsys):
    rewrite(tmp_path, label_smoothing=7.0, augment="of-tomorrow", shuffle_buffer="many")
    assert run_record.load(f"{tmp_path}/run") == saved
    [line] = capsys.readouterr().err.splitlines()
    for words in ("--label_smoothing=7.0: ", "--augment=of-tomorrow: ", "--shuffle_buffer=many: ", "default 0.1"):
        assert words in line


@pytest.mark.parametrize(("option", "value"), [("width_coefficient", 50.0), ("optimizer", "of-tomorrow"), ("seed", -1)])
def test_a_value_that_the_checkpoints_belong_to_is_not_replaced(run_record, saved, tmp_path, option, value):
    rewrite(tmp_path, **{option: value})
    with pytest.raises(UserError, match=f"run.json: not a run record of this version: --{option}={value}: "):
        run_record.load(f"{tmp_path}/run")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"config": [], "label_names": [], "starts": []}'],
    ids=["empty", "list", "nothing in it", "no options"],
)  # fmt: skip
def test_a_foreign_run_json_is_named(run_record, tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=f"{tmp_path}/run.json: not a run record of this version"):
        run_record.load(str(tmp_path))


@pytest.mark.parametrize("below", ["file", "file/run"])
def test_model_dir_that_cannot_be_written(run_record, record, tmp_path, below):
    (tmp_path / "file").write_text("precious")
    model_dir = f"{tmp_path}/{below}"
    unwritable = dataclasses.replace(record, config=with_options(record.config, {"model_dir": model_dir}))
    with pytest.raises(UserError, match=f"--model_dir={model_dir}: cannot be written: "):
        run_record.save(unwritable)
    assert (tmp_path / "file").read_text() == "precious"


def test_git_revision_is_the_checkouts_or_none(run_record, monkeypatch):
    def missing(*arguments, **options):
        raise FileNotFoundError

    revision = run_record._git_revision()
    assert revision is None or re.fullmatch(r"\S+", revision)
    monkeypatch.setattr(run_record.subprocess, "run", missing)
    assert run_record._git_revision() is None
