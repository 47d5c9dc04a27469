"""benchmarks/predict.py: its ratios are right."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("predict", "inference"):
        sys.modules.pop(name, None)
    import predict

    return predict


def row(benchmark, name, seconds):
    """A program whose turns, of 10 images, took so long, with half as much CPU time."""
    from peers.live import Turn

    settings = benchmark.PredictSettings("efficientnet-b0", "run", 32, 5, 1, "photos", "")
    turns = [Turn(images=10, seconds=each, cpu_seconds=each / 2, other_cores=0.0) for each in seconds]
    return benchmark.MeasuredRuntime(name, settings, turns=turns, peak_mb=99.6)


def test_ratios_are_those_of_a_round(benchmark):
    rows = [
        row(benchmark, "ours", [4.0, 10.0]),
        row(benchmark, "decode", [1.0, 1.0]),
        row(benchmark, "infer", [3.0, 7.0]),
        row(benchmark, "timm", [8.0, 15.0]),
    ]
    lines = benchmark.table(rows).splitlines()
    assert lines[2] == "| ours | 350.00 (200.00-500.00) | 1.8 (1.0-2.5) | 100 |"
    assert lines[7:11] == [
        "images/s of what decoding and inference allow: 0.90 (0.80-1.00)",
        "CPU time that they need, of ours: 0.90 (0.80-1.00)",
        "images/s of timm's: 1.75 (1.50-2.00)",
        "CPU time of timm's: 0.58 (0.50-0.67)",
    ]


def test_what_did_not_run_has_no_ratio(benchmark):
    missing = row(benchmark, "timm", [])
    missing.failure = "not installed: timm"
    text = benchmark.table([row(benchmark, "ours", [1.0]), missing])
    assert "timm: not installed: timm" in text
    assert "images/s of" not in text


@pytest.mark.parametrize("flags", [["--programs=jax"], ["--rounds=0"], ["--data_dir=/none"]])
def test_bad_options(benchmark, capsys, tmp_path, flags):
    with pytest.raises(SystemExit):
        benchmark.main([f"--data_dir={tmp_path}", *flags])
    assert flags[0].partition("=")[0] in capsys.readouterr().err


def test_every_program_has_its_module(benchmark):
    from peers import registry

    for name, program in benchmark.PREDICTORS.items():
        assert (BENCHMARKS / "peers" / f"{program.module}.py").is_file(), name
        assert registry.find_peer(name, benchmark.PredictSettings) is program
    # Rows of one name in two benchmarks are told apart by their settings.
    assert registry.find_peer("ours", registry.Settings).module == "ours"
