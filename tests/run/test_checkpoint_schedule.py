"""Runs that end before their time: they save, say so, and go on as if nothing had been."""

import json
import os
import resource
import shutil
import signal
import time
import types
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.preemption import StoppedError


@pytest.fixture(scope="module")
def progress(tf):
    from efficientnet_tpu.run.reports import progress

    return progress


def _evaluations(model_dir):
    from efficientnet_tpu.run.verify_resume import logged_evaluations

    return logged_evaluations(str(model_dir))


def _assert_ends_like(model_dir, trained):
    """To the bit: weights, averages, slots, training metrics, the evaluations and their log."""
    from efficientnet_tpu.run.verify_resume import checkpoint_tensors

    found, expected = checkpoint_tensors(str(model_dir)), checkpoint_tensors(str(trained))
    assert found.keys() == expected.keys()
    assert len(found) > 300
    assert [name for name in found if found[name].tobytes() != expected[name].tobytes()] == []
    assert _evaluations(model_dir) == _evaluations(trained)


def _at_step(progress, monkeypatch, step, do):
    """Does something when the run has reported `step`."""
    on_steps = progress.Progress.on_steps

    def and_then(self, at, *values):
        on_steps(self, at, *values)
        if at == step:
            do()

    monkeypatch.setattr(progress.Progress, "on_steps", and_then)


@pytest.fixture
def arguments(shapes, tiny_recipe, tmp_path):
    """The command line of the run `trained`, elsewhere, reporting every step."""
    return ["main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}/run", *tiny_recipe, "--steps_per_loop=1"]


SLOW_SIGNALS = (pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGINT))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, *SLOW_SIGNALS])
def test_a_signal_saves_at_the_step_it_came_and_the_same_command_goes_on(
    progress, arguments, trained, tmp_path, monkeypatch, capsys, number
):
    with monkeypatch.context() as patch:
        _at_step(progress, patch, 7, lambda: os.kill(os.getpid(), number))
        with pytest.raises(StoppedError) as stopped:
            cli.main(arguments)
    assert str(stopped.value) == (
        f"stopped by {number.name}: step 7 is saved in {tmp_path}/run; the same command goes on from there"
    )
    assert "saved at step 7 " in capsys.readouterr().out
    cli.main(arguments)
    assert "continuing from step 7" in capsys.readouterr().out
    _assert_ends_like(tmp_path / "run", trained)


@pytest.mark.slow
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_run_whose_model_dir_is_gone_stops_at_its_next_write(
    progress, arguments, trained, tmp_path, monkeypatch, is_replaced
):
    run = tmp_path / "run"

    def replace():
        shutil.rmtree(run)
        if is_replaced:
            shutil.copytree(trained, run)
            (run / "training.lock").write_text('{"host": "there", "process": 7, "started": "then", "token": "theirs"}')

    _at_step(progress, monkeypatch, 7, replace)
    said = "replaced, and is now used by process 7 on there, started then," if is_replaced else "removed"
    with pytest.raises(UserError, match=f"^--model_dir={run}: was {said} while this training was at work there"):
        cli.main(arguments)
    assert run.exists() == is_replaced
    if is_replaced:
        found = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
        expected = {path.relative_to(trained): path.read_bytes() for path in trained.rglob("*") if path.is_file()}
        assert found.pop(Path("training.lock"))
        assert found == expected


@pytest.mark.slow
def test_a_signal_during_an_evaluation_saves_before_it_and_evaluates_again(
    tf, arguments, trained, tmp_path, monkeypatch, capsys
):
    from efficientnet_tpu import evaluate

    portions = evaluate.portions

    def interrupted(*arguments):
        for portion in portions(*arguments):
            yield portion
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "portions", interrupted)
        with pytest.raises(StoppedError, match="step 15 is saved"):
            cli.main(arguments)
    assert "validation  epoch" not in capsys.readouterr().out
    cli.main(arguments)
    _assert_ends_like(tmp_path / "run", trained)
    names = {path.name for path in (tmp_path / "run" / "checkpoints").glob("*.index")}
    assert names == {"ckpt-15.index", "ckpt-15.1.index", "ckpt-30.index"}  # what was reported saved is not touched


@pytest.mark.slow
@pytest.mark.parametrize("step", [11, 15])  # 15: before its evaluation
def test_stop_at_step_ends_well_and_is_over_when_it_is_reached(tf, arguments, trained, tmp_path, capsys, step):
    arguments = [*arguments, f"--stop_at_step={step}", "--steps_per_loop=1000"]
    with pytest.raises(StoppedError, match=f"^stopped by --stop_at_step: step {step} is saved") as stopped:
        cli.main(arguments)
    assert stopped.value.exit_status == 0
    cli.main(arguments)
    assert f"continuing from step {step}" in capsys.readouterr().out
    _assert_ends_like(tmp_path / "run", trained)


@pytest.mark.slow
def test_a_run_that_stops_early_keeps_the_best_and_does_not_go_on(tf, arguments, tmp_path, capsys):
    """A learning rate of next to nothing: no evaluation is better than the first."""
    arguments = [*arguments, "--early_stopping_patience=2", "--epochs_per_eval=1", "--base_learning_rate=1e-12"]
    cli.main(arguments)
    output = capsys.readouterr().out
    assert "stopped early, 2 evaluations after the best: " in output
    evaluations = _evaluations(tmp_path / "run")
    assert [entry["step"] for entry in evaluations] == [3, 6, 9]  # of 30
    assert {"raw_top_1_accuracy", "raw_loss", "train_loss", "train_top_1_accuracy"} <= evaluations[0].keys()
    cli.main(arguments)
    assert "this run has stopped early: " in capsys.readouterr().out
    assert len(_evaluations(tmp_path / "run")) == 3


@pytest.mark.slow
def test_with_a_minival_the_best_checkpoint_is_validated_in_the_end(tf, arguments, shapes, tmp_path, capsys):
    cli.main([*arguments, "--minival_percent=20", "--epochs_per_eval=2", "--moving_average_decay=0"])
    lines = capsys.readouterr().out.splitlines()
    chosen, finished = lines[-1], next(line for line in lines if line.startswith("finished: "))
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    assert f"best checkpoint: top-1 {best['top_1_accuracy']:.2%}, step {best['step']}" in finished
    assert "(raw" not in finished  # without an average there is one set of weights
    *minivals, validation = _evaluations(tmp_path / "run")
    assert {entry["kind"] for entry in minivals} == {"minival"}
    assert best["top_1_accuracy"] == max(entry["top_1_accuracy"] for entry in minivals)
    assert (validation["kind"], validation["step"], validation["num_images"]) == ("validation", best["step"], 15)
    assert chosen.startswith(f"validation of the best checkpoint, step {best['step']}: top-1 ")
    cli.main(["main.py", "evaluate", f"--model_dir={tmp_path}/run", "--checkpoint=best"])
    assert f"top-1 {validation['top_1_accuracy']:.2%}" in capsys.readouterr().out


@pytest.mark.slow
def test_it_saves_every_so_often_between_evaluations(arguments, tmp_path, capsys):
    cli.main([*arguments, "--train_epochs=2", "--minutes_per_save=1e-9", "--keep_checkpoints=20"])
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("saved at step 5 ")]
    names = {path.name for path in (tmp_path / "run" / "checkpoints").glob("*.index")}
    assert names == {f"ckpt-{step}.index" for step in range(1, 7)} | {"ckpt-6.1.index"}


@pytest.mark.slow
def test_two_trainings_of_one_model_dir_are_refused(arguments, tmp_path, progress, monkeypatch, capsys):
    refused = []

    def second():
        with pytest.raises(UserError, match="another training is at work there") as error:
            cli.main(arguments)
        refused.append(error)

    _at_step(progress, monkeypatch, 3, second)
    cli.main([*arguments, "--train_epochs=2"])
    assert refused
    assert "finished: " in capsys.readouterr().out  # the first one's


@pytest.mark.slow
def test_a_weight_that_overflows_is_not_saved(tf, arguments, tmp_path, monkeypatch):
    """In the very last step before an evaluation, whose loss was computed before."""
    from efficientnet_tpu import run_setup

    make_state, states = run_setup.make_state, []

    def kept(*options):
        states.append(make_state(*options))
        return states[-1]

    def overflow(means):
        weight = states[-1].model.weights[0]
        weight.assign(np.full(weight.shape, np.inf))
        return {}

    monkeypatch.setattr(run_setup, "make_state", kept)
    monkeypatch.setattr(run_setup.TrainMetrics, "take_since_evaluation", overflow)
    with pytest.raises(UserError, match=r"(?s)a weight became infinite .* in steps 1 to 15\. .*--gradient_clip_norm=1"):
        cli.main(arguments)
    assert not list((tmp_path / "run").rglob("*.index"))


@pytest.mark.slow
def test_a_log_that_cannot_be_written_is_made_up_for(progress, arguments, tmp_path, monkeypatch, capsys):
    """A disk that is full for a while: lines fail in the middle."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = tmp_path / "run" / "log.jsonl"

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 10, limits[1]))

    _at_step(progress, monkeypatch, 3, fill)
    _at_step(progress, monkeypatch, 5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
    monkeypatch.setattr(progress, "print", lambda *words, **how: None, raising=False)  # pytest keeps it in a file
    try:
        cli.main([*arguments, "--train_epochs=3", "--epochs_per_eval=3"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(entry["kind"], entry["step"]) for entry in entries] == [
        *(("train", step) for step in range(2, 10)),
        ("validation", 9),
    ]


@pytest.mark.slow
def test_a_clock_that_is_set_changes_nothing(tf, progress, arguments, trained, tmp_path, monkeypatch, capsys):
    """The time of day jumps back and forth by days; durations come from a clock that does not."""
    now = time.time
    _at_step(progress, monkeypatch, 4, lambda: monkeypatch.setattr(time, "time", lambda: now() - 3e5))
    _at_step(progress, monkeypatch, 9, lambda: monkeypatch.setattr(time, "time", lambda: now() + 3e5))
    cli.main(arguments)
    _assert_ends_like(tmp_path / "run", trained)
    assert "-" not in "".join(line for line in capsys.readouterr().out.splitlines() if "images/s" in line).replace(
        "top-1", ""
    )


@pytest.mark.parametrize(
    ("options", "advised", "left_out"),
    [
        ({}, "--lr_warmup_epochs=10 (now 5), or --gradient_clip_norm=1.", "--precision"),
        ({"precision": "bfloat16"}, "--gradient_clip_norm=1, or --precision=float32.", "(now 0)"),
        ({"gradient_clip_norm": 3.0}, "or --gradient_clip_norm=1.5 (now 3).", "--precision"),
    ],
)
def test_what_is_advised_after_a_divergence_fits_the_machine_and_the_flags(tf, tmp_path, options, advised, left_out):
    from efficientnet_tpu.run.checkpoint_schedule import CheckpointSchedule

    config = with_options(Config(), {"model_dir": str(tmp_path), "lr_warmup_epochs": 5.0, **options})
    checkpoints = types.SimpleNamespace(strategy=tf.distribute.get_strategy())
    schedule = CheckpointSchedule(config, None, checkpoints, None, None, 0)
    with pytest.raises(UserError) as raised:
        schedule.require_finite(float("nan"), 4, 7)
    message = str(raised.value)
    assert message.startswith("the loss became nan in steps 5 to 7. Nothing of them was saved in ")
    assert "there is no checkpoint." in message
    assert advised in message
    assert left_out not in message
