"""The trainings of a study as processes: the end of one, and the end of all when one fails or the study is stopped."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run import subprocess_training
from efficientnet_tpu.studies import trial
from tests.support import stand_in_training


@pytest.fixture
def training(tf, monkeypatch):
    """Makes trainings call another function, in processes as theirs."""
    from efficientnet_tpu.studies import trial_process

    return lambda function: monkeypatch.setattr(trial_process, "train_by_flags", function)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (stand_in_training.fails, r"ended with status 2; all it printed is in .*output.txt:\nno such file"),
        (stand_in_training.is_killed, "ended with status -9"),
    ],
)
def test_a_failed_training_says_what_it_printed(training, tmp_path, function, message):
    training(function)
    with pytest.raises(UserError, match=message):
        trial.run(Config(), str(tmp_path / "one"), threading.Event())


@pytest.mark.slow
def test_a_failure_stops_what_is_running(training, tmp_path):
    training(stand_in_training.waits)

    def fail(stop):
        while not (tmp_path / "one" / trial.OUTPUT).exists() or not (tmp_path / "one" / trial.OUTPUT).read_text():
            time.sleep(0.05)
        raise UserError("it failed")

    waiting = lambda stop: trial.run(Config(), str(tmp_path / "one"), stop)  # noqa: E731
    never = []
    with pytest.raises(UserError, match="it failed"):
        list(trial.run_all([waiting, fail, lambda stop: never.append(1)], 2))
    assert never == []
    assert (tmp_path / "one" / trial.OUTPUT).read_text().split() == ["up", "stopped"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_what_is_running(training, tmp_path, number):
    training(stand_in_training.waits)
    output = tmp_path / "one" / trial.OUTPUT

    def send():
        while not output.exists() or not output.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        list(trial.run_all([partial(trial.run, Config(), str(tmp_path / "one"))], 1))
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before


@pytest.mark.slow
def test_a_training_without_hope_is_ended(tf, tmp_path):
    options = {"dataset": "sample", "model": "efficientnet-nano", "resolution": 16, "train_batch_size": 512}
    config = with_options(Config(), {**options, "train_epochs": 20.0, "lr_warmup_epochs": 0.0, "epochs_per_eval": 1.0})
    asked = []
    outcome = trial.run(
        config, str(tmp_path), threading.Event(), is_hopeless=lambda evaluations: asked.append(evaluations) or True
    )
    assert outcome.is_pruned
    assert 0 < outcome.epoch < 20
    assert outcome.chosen_by == outcome.top_1 == asked[0][-1].top_1
    assert len(asked) == 1


@pytest.mark.slow
def test_a_training_is_what_its_flags_make_it(tf, tmp_path):
    options = {"dataset": "sample", "model": "efficientnet-nano", "resolution": 16, "train_batch_size": 512}
    config = with_options(Config(), {**options, "train_epochs": 1.0, "lr_warmup_epochs": 0.0})
    outcome = trial.run(config, str(tmp_path / "one"), threading.Event())
    lines = [json.loads(line) for line in (tmp_path / "one" / "log.jsonl").read_text().splitlines()]
    last = [line for line in lines if "top_1_accuracy" in line][-1]
    assert outcome.top_1 == last["top_1_accuracy"] > 0.05
    assert outcome.epoch == pytest.approx(1, abs=0.02)  # whole steps
    assert outcome.cpu_seconds > 5
    again = trial.run(config, str(tmp_path / "one"), threading.Event())  # finished: nothing is trained
    assert (again.top_1, again.epoch) == (outcome.top_1, outcome.epoch)


@pytest.mark.slow
def test_two_candidates_end_to_end(tf, tmp_path, capsys):
    pytest.importorskip("optuna", reason="grid-search needs the extra `search`")
    flags = ["--flagfile=scaling-study", "--dataset=sample", "--train_batch_size=512", "--train_epochs=1"]
    flags += ["--lr_warmup_epochs=0", "--grid_step=0.4", "--study_workers=2", f"--output_dir={tmp_path}"]
    cli.main(["main.py", "grid-search", *flags])
    text = capsys.readouterr().out
    assert "2 candidates, which are 2 networks, 2 of them to be trained" in text
    assert (tmp_path / "1-1.4-1" / "run.json").exists()
    assert (tmp_path / "grid_search.csv").read_text().count("\n") == 3


@pytest.mark.slow
def test_a_study_that_was_killed_takes_its_trainings_up_again(tf, tmp_path):
    """At once, while they save: they stop with it."""
    flags = ["--flagfile=scaling-study", "--dataset=sample", "--train_epochs=6", "--epochs_per_eval=6"]
    flags += ["--study_seeds=1", "--study_workers=2", f"--output_dir={tmp_path}/study"]
    command = [sys.executable, "-m", "efficientnet_tpu", "scaling-study", *flags]
    outputs = [tmp_path / "study" / f"{way}-0" / trial.OUTPUT for way in ("base", "depth")]

    def start_and_wait_for(said):
        study = subprocess.Popen(
            command, env=subprocess_training.environment(), cwd=tmp_path, stdout=subprocess.DEVNULL
        )
        while not all(output.exists() and said in output.read_text() for output in outputs):
            assert study.poll() is None
            time.sleep(0.1)
        return study

    study = start_and_wait_for("\nstep ")
    study.kill()
    study.wait()
    study = start_and_wait_for("\ncontinuing from step ")
    study.terminate()
    study.wait()
    assert study.returncode == 128 + signal.SIGTERM
    for output in outputs:
        assert "stopped by SIGTERM: step" in output.read_text()


@pytest.mark.slow
def test_a_grid_search_that_was_killed_is_finished_by_the_same_command(tf, tmp_path):
    pytest.importorskip("optuna", reason="grid-search needs the extra `search`")
    flags = ["--flagfile=scaling-study", "--dataset=sample", "--train_epochs=4", "--epochs_per_eval=2"]
    flags += ["--grid_step=0.4", "--study_workers=2", f"--output_dir={tmp_path}/study"]
    command = [sys.executable, "-m", "efficientnet_tpu", "grid-search", *flags]
    start = partial(
        subprocess.Popen,
        command,
        env=subprocess_training.environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )

    def outputs():
        return [path.read_text() for path in (tmp_path / "study").glob(f"*/{trial.OUTPUT}")]

    study = start()
    while [("\nstep " in text) for text in outputs()] != [True, True]:
        assert study.poll() is None
        time.sleep(0.1)
    study.kill()
    study.communicate()
    study = start()
    said, _ = study.communicate(timeout=900)
    assert study.returncode == 0
    assert "2 candidates, which are 2 networks" in said
    assert all("\ncontinuing from step " in text for text in outputs())
    rows = (tmp_path / "study" / "grid_search.csv").read_text().splitlines()
    assert len(rows) == 3
    for log in (tmp_path / "study").glob("*/log.jsonl"):  # each evaluation once, as without the kill
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        steps = [entry["step"] for entry in entries if entry["kind"] == "validation"]
        assert steps == sorted(set(steps))
        assert len(steps) == 2
