"""benchmarks/train_step.py: its table is right, and this project's part of it runs."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("train_step", None)
    import train_step

    return train_step


def settings(benchmark, ema=False, folder=""):
    return benchmark.TrainSettings("efficientnet-nano", 32, batch_size=4, ema=ema, steps=2, workers=1, folder=folder)


def row(benchmark, name, seconds, ema=False):
    """A trainer whose turns, of 2 steps of 4 images, took so many seconds of one core each."""
    turns = [benchmark.Turn(images=8, seconds=each, cpu_seconds=each, other_cores=0.0) for each in seconds]
    return benchmark.MeasuredTrainer(name, settings(benchmark, ema), turns=turns)


def test_speeds_are_compared_round_by_round_with_the_same_work(benchmark):
    rows = [
        row(benchmark, "project", [1.0, 2.0, 4.0]),
        row(benchmark, "keras_fit", [2.0, 6.0, 4.0]),
        row(benchmark, "project", [3.0] * 3, ema=True),
        row(benchmark, "keras_fit", [6.0] * 3, ema=True),
    ]
    rows[-1].versions = {"keras": "3.0"}
    lines = benchmark.table(rows).splitlines()
    project, _, average, _ = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:6])
    ratios = ["2.00 (1.00-3.00)"] * 2
    assert project == ["project", "1.00 (0.50-2.00)", "4.0 (2.0-8.0)", *ratios, "-", "-"]
    assert average[:2] == ["project, moving average", "1.50 (1.50-1.50)"]
    assert average[3] == "2.00 (2.00-2.00)"
    assert lines[-1] == "keras 3.0"


def test_costs_are_in_percent_of_the_smaller(benchmark):
    lines = benchmark.cost_lines({"run": [1.03, 1.02], "step": [1.0, 1.0], "bare": [0.5, 1.0]})
    assert "2.5 (2.0-3.0) % more CPU time" in lines
    assert "54.0 (2.0-106.0) % more" in lines


def test_what_is_missing_is_said(benchmark):
    missing = row(benchmark, "timm_eager", [])
    missing.failure = "not installed: timm"
    assert "timm_eager: not installed: timm" in benchmark.table([missing])


@pytest.mark.parametrize("flag", ["--trainers=jax", "--rounds=0"])
def test_bad_options(benchmark, capsys, flag):
    with pytest.raises(SystemExit):
        benchmark.main([flag])
    assert flag.partition("=")[0] in capsys.readouterr().err


@pytest.mark.slow
def test_this_projects_part(tf, benchmark, monkeypatch, capsys, tmp_path):
    from peers import step_costs

    from efficientnet_tpu.hardware import distribution

    monkeypatch.setattr(distribution, "connect", lambda hardware: tf.distribute.get_strategy())
    costs = step_costs.measure(settings(benchmark, ema=True, folder=str(tmp_path)), rounds=2)
    assert {name: len(seconds) for name, seconds in costs.items()} == {"run": 2, "step": 2, "bare": 2}
    assert min(min(seconds) for seconds in costs.values()) > 0
    # It reported as training does.
    assert "images/s" in capsys.readouterr().out


def test_a_peers_name_is_of_one_benchmark(benchmark):
    from peers.registry import PEERS, RUNTIMES, TRAINERS

    assert len(PEERS | TRAINERS | RUNTIMES) == len(PEERS) + len(TRAINERS) + len(RUNTIMES)
