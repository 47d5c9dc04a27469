"""benchmarks/inference.py: its table is right, and this project's part of it runs."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("inference", None)
    import inference

    return inference


def row(benchmark, name, seconds):
    """A runtime whose turns, of 4 images, took so many seconds of one core each."""
    from peers.live import Turn

    settings = benchmark.InferenceSettings("efficientnet-b0", 32, batch_size=2, workers=1, folder="")
    turns = [Turn(images=4, seconds=2 * each, cpu_seconds=each, other_cores=0.0) for each in seconds]
    return benchmark.MeasuredRuntime(name, settings, turns=turns, ready_s=1.26, peak_mb=99.6)


def test_ratios_are_those_of_a_round(benchmark):
    rows = [row(benchmark, "onnx", [1.0, 2.0, 4.0]), row(benchmark, "keras_function", [2.0, 8.0, 4.0])]
    lines = benchmark.table(rows).splitlines()
    first, second = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:4])
    assert first[:2] == ["onnx", "500.00 (250.00-1000.00)"]
    assert first[2:] == ["1.0 (0.5-2.0)", "0.50 (0.25-1.00)", "-", "1.3", "100"]
    assert second[3] == "1.00 (1.00-1.00)"


def test_what_is_missing_is_said(benchmark):
    missing = row(benchmark, "openvino", [])
    missing.failure = "not installed: openvino"
    assert "openvino: not installed: openvino" in benchmark.table([missing])


@pytest.mark.parametrize("flag", ["--runtimes=jax", "--rounds=0"])
def test_bad_options(benchmark, capsys, flag):
    with pytest.raises(SystemExit):
        benchmark.main([flag])
    assert flag.partition("=")[0] in capsys.readouterr().err


def test_every_runtime_has_its_module(benchmark):
    for name, runtime in benchmark.RUNTIMES.items():
        assert (BENCHMARKS / "peers" / f"{runtime.module}.py").is_file(), name
        assert runtime.settings is benchmark.InferenceSettings


def test_images_are_bytes_and_the_others_are_normalised(benchmark):
    from peers import inference_batch

    settings = benchmark.InferenceSettings("efficientnet-b0", 8, batch_size=2, workers=1, folder="")
    images, normalised = inference_batch.images(settings), inference_batch.normalised(settings)
    assert (images.dtype, images.shape) == (np.uint8, (2, 8, 8, 3))
    assert (normalised.dtype, normalised.shape) == (np.float32, (2, 3, 8, 8))
    assert abs(normalised.mean()) < 1
