"""The whole program, from image files to answers, as it is typed."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.training.learning_rate import learning_rate, make_schedule

ROOT = Path(__file__).parent.parent
CLASSES = ["circle", "square", "triangle"]


def _run(*arguments):
    cli.main(["main.py", *arguments])


def _log(model_dir, kind):
    entries = [json.loads(line) for line in (model_dir / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] == kind]


def _checkpoint(tf, model_dir):
    """Name -> value of everything in the newest checkpoint, but for the counter of the saves made."""
    reader = tf.train.load_checkpoint(str(model_dir / "checkpoints"))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith(("_CHECKPOINTABLE", "save_"))]
    return {name: reader.get_tensor(name) for name in names}


def _assert_same(checkpoint, other):
    assert checkpoint.keys() == other.keys()
    assert len(checkpoint) > 300  # the model's and the average's weights, two slots for each trainable one
    different = [name for name, value in checkpoint.items() if not np.array_equal(value, other[name])]
    assert different == []


@pytest.fixture(scope="module")
def shards(shapes, tmp_path_factory):
    """`shapes` as TFRecords."""
    output_dir = tmp_path_factory.mktemp("shards") / "shapes"
    _run("make-tfrecords", f"--data_dir={shapes}", f"--output_dir={output_dir}", "--train_shards=3")
    return output_dir


def test_training_learns(trained):
    first, last = _log(trained, "train")[0], _log(trained, "train")[-1]
    assert last["loss"] < 0.75 * first["loss"]
    assert _log(trained, "validation")[-1]["top_1_accuracy"] >= 0.6  # guessing: a third


def test_a_run_leaves_what_it_promises(trained):
    names = {str(path.relative_to(trained)) for path in trained.rglob("*")}
    assert {"run.json", "labels.txt", "log.jsonl", "best/best.json", "checkpoints/ckpt-30.index"} <= names
    assert {"tensorboard/train", "tensorboard/validation"} <= names
    assert {"rerun.flags", "log.csv", "results.json", "curves.png"} <= names
    assert not [name for name in names if "tmp" in name or "write_test" in name]


def test_run_json_defines_the_run(trained, shapes):
    content = json.loads((trained / "run.json").read_text())
    assert content["label_names"] == CLASSES == (trained / "labels.txt").read_text().split()
    assert content["num_train_images"] == 42
    assert re.fullmatch("[0-9a-f]{16}", content["data_fingerprint"])
    config = content["config"]
    assert (config["model"], config["data_dir"]) == ("efficientnet-nano", str(shapes))
    assert (config["train_batch_size"], config["moving_average_decay"]) == (14, 0.8)
    [start] = content["starts"]
    assert {"time", "step", "command", "options", "git_revision", "python", "versions"} == start.keys()
    assert start["step"] == 0
    assert {"tensorflow", "keras", "numpy"} <= start["versions"].keys()


def test_results_json_is_what_evaluate_measures(trained, capsys):
    results = json.loads((trained / "results.json").read_text())["results"]
    last = _log(trained, "validation")[-1]
    assert [one["checkpoint"] for one in results] == ["best", "last"]
    assert results[1]["top_1_accuracy"] == last["top_1_accuracy"]
    assert results[1]["measured"]["images"] == "validation"
    _run("evaluate", f"--model_dir={trained}", "--checkpoint=last")
    output = capsys.readouterr().out
    assert f"measured on 15 images of {results[1]['measured']['fingerprint'][:8]} at " in output


@pytest.mark.slow
def test_rerun_flags_repeat_the_run(trained, tmp_path):
    _run(f"--flagfile={trained}/rerun.flags", f"--model_dir={tmp_path}/again")
    again = tmp_path / "again"
    for kind in ("train", "validation"):
        assert [entry["loss"] for entry in _log(again, kind)] == [entry["loss"] for entry in _log(trained, kind)]
    assert (again / "rerun.flags").read_text() == (trained / "rerun.flags").read_text()


def test_the_logged_learning_rates_are_the_schedules(trained):
    recipe = TrainConfig(
        train_epochs=10, train_batch_size=14, base_learning_rate=0.05, lr_warmup_epochs=0.5
    )  # as in tiny_recipe
    schedule = make_schedule(recipe, 42)
    assert schedule.total_steps == 30
    for entry in _log(trained, "train"):
        assert entry["learning_rate"] == pytest.approx(float(learning_rate(schedule, entry["step"] - 1)))


@pytest.mark.slow
def test_shards_evaluate_as_the_folder_they_were_made_of(trained, shards, capsys):
    _run("evaluate", f"--model_dir={trained}", f"--data_dir={shards}", "--eval_batch_size=4")
    output = capsys.readouterr().out
    logged = _log(trained, "validation")[-1]
    assert "the images are not the same files" in output
    assert f"top-1 {logged['top_1_accuracy']:.2%} (" in output
    assert f"  loss {logged['loss']:.4f}  15 of 57 images" in output


@pytest.mark.parametrize("source", ["model_dir", "saved_model"])
def test_predict(trained, exported, shapes, capsys, source):
    directory = {"model_dir": trained, "saved_model": exported}[source]
    _run("predict", f"--{source}={directory}", "--format=csv", "--top_k=1", f"{shapes}/validation/*/0*.png")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "path,rank,class,probability"
    assert len(lines) == 1 + 9
    assert {line.split(",")[2] for line in lines[1:]} <= set(CLASSES)


# Of 15 images all right, Wilson's interval ends at 15 / (15 + 1.96^2).
INTERVALS = (
    r"validation: top-1 \d+\.\d\d% \(\d+\.\d\d to \d+\.\d\d\)  "
    r"loss \d+\.\d{4}  15 of 57 images  \(\d+ s\)"
)


def test_as_a_program(trained):
    """In a process of its own: nothing but the answer on stdout, nothing at all on stderr."""
    done = subprocess.run(
        [sys.executable, "main.py", "evaluate", f"--model_dir={trained}"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    *chosen, head, measured, result = done.stdout.splitlines()
    best = json.loads((trained / "best" / "best.json").read_text())
    assert head == f"efficientnet-nano at step {best['step']} (best checkpoint), 1 x CPU"
    assert f"step {best['step']}: top-1 {best['top_1_accuracy']:.2%} of the validation images" in chosen[0]
    assert chosen[1:] == ["the best was chosen by these images: its figure flatters"]
    assert measured.startswith("measured on 15 images of ")
    assert re.fullmatch(INTERVALS, result)


@pytest.mark.parametrize(
    ("shape", "same"), [("exponential", True), ("constant", True), ("cosine", False), ("poly", False)]
)
def test_cosine_and_poly_depend_on_the_length_of_the_run(shape, same):
    """A run that is to be prolonged must have been on the longer run's curve from the start."""
    steps = np.arange(300)
    config = TrainConfig(learning_rate_schedule=shape, lr_warmup_epochs=5.0, lr_end=0.01)
    short, long = (
        learning_rate(make_schedule(dataclasses.replace(config, train_epochs=epochs), 10_000), steps)
        for epochs in (8.0, 12.0)
    )
    assert np.array_equal(short, long) == same


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(tf, trained, tmp_path, capsys):
    """To the bit. Its directory as it was after the first checkpoint."""
    shutil.copytree(trained, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("ckpt-30.*"):
        path.unlink()
    newest = 'model_checkpoint_path: "ckpt-15"\nall_model_checkpoint_paths: "ckpt-15"\n'
    (tmp_path / "run" / "checkpoints" / "checkpoint").write_text(newest)
    _run(f"--model_dir={tmp_path}/run")  # everything else is in run.json
    assert "continuing from step 15" in capsys.readouterr().out
    _assert_same(_checkpoint(tf, tmp_path / "run"), _checkpoint(tf, trained))
    last, expected = _log(tmp_path / "run", "validation")[-1], _log(trained, "validation")[-1]
    for name in ("step", "epoch", "loss", "top_1_accuracy", "top_5_accuracy", "num_images"):
        assert last[name] == expected[name]
    starts = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 15]


@pytest.mark.slow
def test_a_run_that_is_prolonged_is_the_longer_run_to_the_bit(tf, trained, shapes, tiny_recipe, tmp_path, capsys):
    flags = [f"--data_dir={shapes}", f"--model_dir={tmp_path}", *tiny_recipe]
    _run(*flags, "--train_epochs=5")
    assert "continuing" not in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.index")] == ["ckpt-15.index"]
    _run(f"--model_dir={tmp_path}", "--train_epochs=10")  # the rest is in run.json
    printed = capsys.readouterr().out
    assert "continuing from step 15" in printed
    assert "changed from step 15 on: --train_epochs=10.0 (was 5.0)\n" in printed
    record = json.loads((tmp_path / "run.json").read_text())
    epochs = [(start["step"], start["options"]["train_epochs"]) for start in record["starts"]]
    assert (epochs, record["config"]["train_epochs"]) == ([(0, 5.0), (15, 10.0)], 10.0)
    _assert_same(_checkpoint(tf, tmp_path), _checkpoint(tf, trained))


def test_a_finished_run_says_so_and_is_left_alone(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    before = _log(trained, "validation")
    _run(f"--model_dir={tmp_path}/run", "--base_learning_rate=7", "--moving_average_decay=0", "--eval_batch_size=5")
    printed = capsys.readouterr().out
    assert f"this run has finished: top-1 {before[-1]['top_1_accuracy']:.2%} (" in printed
    assert "--base_learning_rate=7.0, --moving_average_decay=0.0, --eval_batch_size=5: change nothing in" in printed
    assert (tmp_path / "run" / "run.json").read_bytes() == (trained / "run.json").read_bytes()
    assert _log(tmp_path / "run", "validation") == before
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("*.index")) == [
        "ckpt-15.index", "ckpt-30.index"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(tf, shards, tiny_recipe, tmp_path, monkeypatch, capsys):
    """Between two checkpoints: the steps since the last one are made again. Reads shards."""
    from efficientnet_tpu import train

    flags = [f"--data_dir={shards}", *tiny_recipe, "--train_epochs=4", "--epochs_per_eval=2", "--shuffle_buffer=16"]
    _run(*flags, f"--model_dir={tmp_path}/straight")
    make_train_loop = train.make_train_loop

    def make_interrupted_loop(strategy, train_step, clock):
        loop, loops = make_train_loop(strategy, train_step, clock), []

        def interrupted_loop(iterator, num_steps):
            loops.append(int(num_steps))
            if sum(loops) > 8:
                raise KeyboardInterrupt
            return loop(iterator, num_steps)

        return interrupted_loop

    with monkeypatch.context() as patch:
        patch.setattr(train, "make_train_loop", make_interrupted_loop)
        with pytest.raises(SystemExit, match="130"):
            _run(*flags, f"--model_dir={tmp_path}/run", "--steps_per_loop=2")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("*.index")] == ["ckpt-6.index"]
    capsys.readouterr()
    _run(*flags, f"--model_dir={tmp_path}/run")
    assert "continuing from step 6" in capsys.readouterr().out
    _assert_same(_checkpoint(tf, tmp_path / "run"), _checkpoint(tf, tmp_path / "straight"))


@pytest.mark.slow
def test_four_virtual_replicas_train(shapes, tiny_recipe, tmp_path, capsys):
    flags = [f"--data_dir={shapes}", *tiny_recipe, "--train_batch_size=16", "--train_epochs=1", "--epochs_per_eval=1"]
    _run(*flags, f"--model_dir={tmp_path}", "--virtual_replicas=4")
    assert "on 4 x CPU" in capsys.readouterr().out
    [validation] = _log(tmp_path, "validation")
    assert (validation["step"], validation["num_images"]) == (2, 15)
    assert np.isfinite(validation["loss"])
    _run("evaluate", f"--model_dir={tmp_path}")  # on one device: the checkpoint does not know how many there were
    output = capsys.readouterr().out
    assert "1 x CPU" in output
    assert f"loss {validation['loss']:.3f}" in output


@pytest.mark.slow
def test_large_photographs_are_kept_reduced_for_the_next_run_and_trained_on_alike(
    shapes, tiny_recipe, tmp_path, capsys, tf
):
    from PIL import Image

    for path in shapes.rglob("*.*"):
        large = tmp_path / "large" / path.relative_to(shapes)
        large.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.resize((8 * image.width, 8 * image.height)).save(large)
    time.sleep(2.1)  # a file that was written just now is not kept: it may change within the same time stamp
    flags = [*tiny_recipe, f"--data_dir={tmp_path}/large", "--train_epochs=4", "--epochs_per_eval=2"]
    _run(*flags, f"--model_dir={tmp_path}/plain")
    assert "--cache=memory or --cache=DIR decodes each once" in capsys.readouterr().out
    caches = {"memory": "memory", "first": f"{tmp_path}/cache", "second": f"{tmp_path}/cache"}
    said = {}
    for name, cache in caches.items():
        _run(*flags, f"--model_dir={tmp_path}/{name}", f"--cache={cache}")
        said[name] = capsys.readouterr().out
    assert ": train: 0 of 42 images are kept; " in said["first"]
    assert ": train: 42 of 42 images are kept\n" in said["second"]
    assert ": validation: 15 of 15 images are kept\n" in said["second"]
    checkpoints = [_checkpoint(tf, tmp_path / name) for name in caches]
    for checkpoint in checkpoints[1:]:
        _assert_same(checkpoint, checkpoints[0])
    files = sorted((tmp_path / "cache").rglob("*"))
    _run("evaluate", f"--model_dir={tmp_path}/second")
    assert sorted((tmp_path / "cache").rglob("*")) == files
    last = _log(tmp_path / "second", "validation")[-1]["top_1_accuracy"]
    assert f"top-1 {100 * last:.2f}%" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "cache")
    _run("evaluate", f"--model_dir={tmp_path}/second")  # the run's cache is gone, and not made again
    assert not (tmp_path / "cache").exists()
