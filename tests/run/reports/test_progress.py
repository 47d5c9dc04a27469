"""The progress of a run: the clock, the lines, the files."""

import itertools
import json
import types

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.run.reports.course import Course
from efficientnet_tpu.run.reports.log_entries import read_log

VALUES = {"loss": 1.25, "top_1_accuracy": 0.5, "learning_rate": 0.016}
RESULTS = {"top_1_accuracy": 0.763, "top_5_accuracy": 0.932, "loss": 0.98764, "num_images": 50_000.0}


@pytest.fixture
def make_progress(tf, tmp_path):
    """Of 100 steps of 10 images, an epoch 40 steps, evaluations at 50 and 100; made at any step."""
    from efficientnet_tpu.run.reports.progress import Progress

    (tmp_path / "run").mkdir()
    options = {"model_dir": f"{tmp_path}/run", "train_batch_size": 10, "steps_per_loop": 30}

    def make(step=0, evaluated=0, is_chief=True, **others):
        course = Course(step, [50, 100], 40.0, 10)
        config = with_options(Config(), options | others)
        early_stopping = EarlyStopping(evaluated_step=evaluated)
        return Progress(config, 1000, course, early_stopping, Files() if is_chief else None)

    return make


class Files:
    """The files of a run, which only note that they are asked for."""

    measurement = types.SimpleNamespace(describe=lambda num_images: f"{num_images:,.0f} images of 3f2a91c4")

    def __init__(self):
        self.saves = []

    def on_start(self):
        self.saves.append("start")

    def on_save(self, best, is_end=False):
        self.saves.append((best.best_step, is_end))


@pytest.fixture
def progress(make_progress):
    return make_progress()


def test_summary():
    from efficientnet_tpu.run.reports.log_entries import summary

    assert summary(RESULTS, 10) == "top-1 76.30%  top-5 93.20%  loss 0.9876"
    assert summary(RESULTS, 9) == "top-1 76.30%  loss 0.9876"
    few = {**RESULTS, "num_images": 200.0, "raw_top_1_accuracy": 0.75}
    # Wilson's interval of 152.6 of 200.
    assert summary(few, 5) == "top-1 76.30% (69.95 to 81.66) (raw 75.00%)  loss 0.9876"


def test_a_line_of_training(progress, capsys):
    progress.on_steps(1, 1, 20.0, 1.0, VALUES)
    assert capsys.readouterr().out == "first step after 20 s\n"
    progress.on_steps(11, 10, 2.0, 0.5, VALUES)
    assert capsys.readouterr().out == (
        "step  11/100  epoch 0.28  loss 1.2500  top-1 50.0%  lr 0.01600  50 images/s  waiting for data 25%  "
        "18 s to go, and 2 evaluations\n"
    )


def test_a_line_of_evaluation(progress, capsys):
    progress.on_evaluation(50, 7.4, RESULTS)
    assert capsys.readouterr().out == (
        "-- validation  epoch 1.25  top-1 76.30%  top-5 93.20%  loss 0.9876\n   50,000 images of 3f2a91c4; 7 s\n"
    )


def _time_left(capsys):
    return capsys.readouterr().out.rstrip("\n").rpartition("  ")[2]


def test_the_time_left_counts_the_evaluations_to_come(progress, capsys):
    progress.on_steps(1, 1, 20.0, 0.0, VALUES)
    progress.on_steps(20, 19, 19.0, 0.0, VALUES)  # a second each
    assert _time_left(capsys) == "1 min 20 s to go, and 2 evaluations"
    progress.on_steps(50, 30, 30.0, 0.0, VALUES)
    assert _time_left(capsys) == "50 s to go, and 2 evaluations"
    progress.on_evaluation(50, 100.0, RESULTS)
    progress.on_steps(60, 10, 10.0, 0.0, VALUES)
    assert _time_left(capsys) == "2 min 20 s to go"
    progress.on_steps(100, 40, 40.0, 0.0, VALUES)
    assert _time_left(capsys) == "1 min 40 s to go"


def test_loops_are_one_step_then_one_then_ten_seconds_worth(progress):
    assert progress.steps_to_next_line() == 1
    progress.on_steps(1, 1, 20.0, 0.0, VALUES)
    assert progress.steps_to_next_line() == 1
    progress.on_steps(2, 1, 0.5, 0.0, VALUES)
    assert progress.steps_to_next_line() == 20
    progress.on_steps(22, 20, 2.0, 0.0, VALUES)
    assert progress.steps_to_next_line() == 30  # --steps_per_loop
    for step in range(23, 33):
        progress.on_steps(step, 1, 60.0, 0.0, VALUES)
    assert progress.steps_to_next_line() == 1


def test_log_jsonl_has_a_line_for_every_report(progress, tmp_path):
    progress.on_steps(1, 1, 20.0, 0.0, VALUES)  # compiling: no measurement
    progress.on_steps(20, 19, 38.0, 9.5, VALUES)
    progress.log_evaluation(50, RESULTS)
    entries = read_log(str(tmp_path / "run" / "log.jsonl")).entries
    times = [entry.pop("time") for entry in entries]
    assert times == sorted(times)
    measured = {"images_per_second": 5.0, "data_wait_share": 0.25}
    assert entries == [
        {"kind": "train", "step": 20, "epoch": 0.5, **VALUES, **measured},
        {"kind": "validation", "step": 50, "epoch": 1.25, **RESULTS},
    ]


def test_tensorboard_gets_the_same_numbers(tf, progress, tmp_path):
    progress.on_steps(1, 1, 20.0, 0.0, VALUES)
    progress.on_steps(20, 19, 38.0, 9.5, VALUES)
    progress.log_evaluation(50, RESULTS)
    for kind, step, expected in (("train", 20, VALUES), ("validation", 50, RESULTS)):
        [path] = (tmp_path / "run" / "tensorboard" / kind).iterdir()
        records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        events = [tf.compat.v1.Event.FromString(record) for record in records]
        values = itertools.chain.from_iterable(
            ((event.step, value.tag, float(tf.make_ndarray(value.tensor))) for value in event.summary.value)
            for event in events
        )
        found = {tag: (at, value) for at, tag, value in values}
        for name, value in expected.items():
            assert found[name] == (step, pytest.approx(value))


def test_steps_and_evaluations_that_come_again_are_dropped_from_the_log(make_progress, tmp_path):
    first = make_progress()
    first.on_steps(1, 1, 1.0, 0.0, VALUES)
    for step in (20, 40, 60):
        first.on_steps(step, 20, 1.0, 0.0, VALUES)
        first.log_evaluation(step, RESULTS)
    log = tmp_path / "run" / "log.jsonl"
    log.write_text(log.read_text() + '{"half a line')
    make_progress(step=40, evaluated=20)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(entry["kind"], entry["step"]) for entry in entries] == [("train", 20), ("validation", 20), ("train", 40)]


def test_output_that_is_lost_is_told_in_the_log_once(progress, tmp_path, monkeypatch):
    from efficientnet_tpu.run.reports import run_logs

    lost = {}
    monkeypatch.setattr(run_logs, "lost_output", lambda: dict(lost))
    for step in (1, 20, 40, 60):
        progress.on_steps(step, 20, 1.0, 0.0, VALUES)
        lost["stdout"] = "Broken pipe"
    entries = read_log(str(tmp_path / "run" / "log.jsonl")).entries
    told = [("train", 20, None), ("output", 20, "stdout: Broken pipe"), ("train", 40, None), ("train", 60, None)]
    assert [(entry["kind"], entry["step"], entry.get("lost")) for entry in entries] == told


def test_hosts_other_than_the_chief_report_nothing(make_progress, tmp_path, capsys):
    progress = make_progress(is_chief=False)
    progress.on_steps(1, 1, 20.0, 0.0, VALUES)
    progress.on_steps(50, 49, 10.0, 0.0, VALUES)
    progress.log_evaluation(50, RESULTS)
    progress.on_save(50, 1.0, EarlyStopping(), announce=True)
    progress.on_validation_of_best(RESULTS, EarlyStopping())
    progress.on_end(RESULTS, EarlyStopping().after(50, 0.763), is_early=False)
    assert capsys.readouterr().out == ""
    assert not list((tmp_path / "run").iterdir())


def test_lines_of_a_directory_that_was_out_of_reach_are_made_up_for(make_progress, tmp_path):
    from efficientnet_tpu.storage import directory_lock

    run, away = tmp_path / "run", tmp_path / "away"
    progress = make_progress()
    progress.on_steps(1, 1, 1.0, 0.0, VALUES)
    with directory_lock.held(str(run)):
        run.rename(away)
        progress.on_steps(20, 19, 1.0, 0.0, VALUES)
        assert not run.exists()
        away.rename(run)
        progress.on_steps(40, 20, 1.0, 0.0, VALUES)
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == [20, 40]


def test_compiling_is_said_before_it_is_done(progress, capsys):
    progress.on_call(1)
    assert capsys.readouterr().out == "compiling, and filling the input pipeline ...\n"
    progress.on_steps(1, 1, 20.0, 0.0, VALUES)
    progress.on_call(1)
    assert capsys.readouterr().out == "first step after 20 s\n"


def test_quiet_prints_evaluations_and_no_steps(make_progress, capsys):
    progress = make_progress(quiet=True)
    progress.on_call(1)
    progress.on_steps(1, 1, 20.0, 0.0, VALUES)
    progress.on_steps(50, 49, 5.0, 0.0, VALUES)
    assert capsys.readouterr().out == ""
    progress.on_evaluation(50, 7.4, RESULTS)
    assert capsys.readouterr().out.startswith("-- validation  epoch 1.25")


def test_an_input_bound_run_is_told_so_once(progress, capsys):
    progress.on_steps(1, 1, 20.0, 20.0, VALUES)
    progress.on_steps(10, 9, 25.0, 24.0, VALUES)  # too short to tell
    assert "wait for images" not in capsys.readouterr().out
    progress.on_steps(20, 10, 25.0, 1.0, VALUES)
    told = [line for line in capsys.readouterr().out.splitlines() if "wait for images" in line]
    [line] = told
    assert line.startswith("steps wait for images 50% of their time: `")
    assert "benchmark input" in line
    progress.on_steps(30, 10, 25.0, 25.0, VALUES)
    assert "wait for images" not in capsys.readouterr().out


def test_a_run_that_waits_little_is_not(progress, capsys):
    for step in (1, 20, 40, 60):
        progress.on_steps(step, 20, 100.0, 19.0, VALUES)
    assert "wait for images" not in capsys.readouterr().out


def test_the_end_names_files_and_next_commands(progress, tmp_path, capsys):
    progress.on_steps(1, 1, 10.0, 0.0, VALUES)
    progress.on_steps(100, 99, 80.0, 20.0, VALUES)
    progress.on_evaluation(100, 10.0, RESULTS)
    progress.on_end(RESULTS, EarlyStopping().after(100, 0.763), is_early=False)
    out = capsys.readouterr().out
    assert (
        "time: 10 s starting, 1 min 0 s training, 20 s waiting for data, 10 s evaluating and saving; goodput 60%" in out
    )
    assert f"{tmp_path}/run has curves.png, results.json, log.csv; rerun.flags repeats the run" in out
    assert f"report {tmp_path}/run" in out
    assert progress._files.saves == ["start", (100, True)]
