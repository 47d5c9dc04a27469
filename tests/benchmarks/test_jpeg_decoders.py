"""benchmarks/jpeg_decoders.py and input_stages.py: their tables are right, and what they compare does the same work."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch, tf):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    return load


def test_decoders_are_compared_with_tensorflow_at_the_same_work(load):
    benchmark = load("jpeg_decoders")

    def row(work, name, times, equal=5):
        return benchmark.Row(work, name, None, [], None, equal=equal, times=times)

    rows = [
        row("window", "TensorFlow", [1.0, 2.0, 4.0]),
        row("whole", "TensorFlow", [10.0] * 3),
        row("window", "other", [0.5, 3.0, 4.0], equal=3),
    ]
    cells = [cell.strip() for cell in benchmark.table(rows, num_images=5).splitlines()[-1].split("|")[1:-1]]
    assert cells == ["window", "other", "3.00 (0.50-4.00)", "1.00", "3 of 5"]


def test_a_stage_costs_what_the_pipeline_before_it_did_not(load):
    lines = load("input_stages").table({"reading": [1.0, 1.0, 2.0], "decoding": [3.0, 4.0, 4.0]}).splitlines()
    assert lines[-2:] == [
        "| reading | 1.00 (1.00-2.00) | 1.00 |",
        "| decoding | 2.00 (2.00-3.00) | 4.00 |",
    ]


@pytest.fixture
def photographs(tmp_path):
    random = np.random.default_rng(0)
    for number in range(8):
        pixels = random.integers(0, 256, (40, 50, 3), np.uint8)
        folder = tmp_path / "data" / f"class {number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", subsampling=number // 2 % 3)  # 4:4:4, 4:2:2, 4:2:0
    return tmp_path / "data"


@pytest.mark.slow
def test_libjpeg_makes_the_pixels_of_tensorflow(load, photographs, capsys):
    load("jpeg_decoders").main([f"--data_dir={photographs}", "--rounds=1"])
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if "libjpeg" in line]
    equal = {cells[4].strip() for cells in rows if "Huffman" not in cells[1]}
    assert equal <= {"8 of 8"}, rows  # none where no compiler is


@pytest.mark.slow
def test_stages_of_this_project(load, photographs, capsys):
    benchmark = load("input_stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "set_up_threads", lambda: None)
        benchmark.main([f"--data_dir={photographs}", "--size=32", "--batch_size=2", "--batches=2", "--rounds=1"])
    assert len(capsys.readouterr().out.split("with those before |")[1].splitlines()) == 8


def test_peers_that_have_no_policy_stand_beside_none(load):
    registry = load("peers.registry")
    assert {"ffcv", "ffcv_400"} <= set(registry.default_peers("none"))
    assert not {"ffcv", "ffcv_400"} & set(registry.default_peers("autoaugment"))
    assert "timm_rand" in registry.default_peers("autoaugment")
    assert "timm_rand" not in registry.default_peers("none")
