"""The files of a run: when they are written, and what a picture of curves is."""

import io
import types

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.run.reports.run_files import RunFiles
from efficientnet_tpu.run.reports.run_log import LogFile
from efficientnet_tpu.run.run_record import RunRecord

BEST = EarlyStopping(evaluated_step=40, best_step=30, best_accuracy=0.95)


@pytest.fixture
def files(tf, tmp_path, measurement, entries):
    (tmp_path / "run").mkdir()
    log = LogFile(f"{tmp_path}/run/log.jsonl")
    for entry in entries:
        log.append(entry)
    config = with_options(Config(), {"model_dir": f"{tmp_path}/run"})
    return RunFiles(RunRecord(config, ("a", "b"), "3f", 100, ({"versions": {}},)), "a title", measurement)


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "run").iterdir())


def test_they_are_there_after_a_save(files, tmp_path):
    files.on_start()
    assert names(tmp_path) == ["log.jsonl", "rerun.flags"]
    files.on_save(BEST)
    assert names(tmp_path) == ["curves.png", "log.csv", "log.jsonl", "rerun.flags", "results.json"]


def test_they_take_little_of_the_time_of_frequent_saves(files, tmp_path, monkeypatch):
    from efficientnet_tpu.run.reports import run_files

    now = files._written_at + 1000.0
    monkeypatch.setattr(run_files, "time", types.SimpleNamespace(monotonic=lambda: now))
    files.on_save(BEST)
    files._seconds = 0.5
    path = tmp_path / "run" / "log.csv"
    path.unlink()
    now += 49.0  # half a second is more than 1%
    files.on_save(BEST)
    assert not path.exists()
    files.on_save(BEST, is_end=True)
    assert path.exists()
    files._seconds = 0.5
    path.unlink()
    now += 51.0
    files.on_save(BEST)
    assert path.exists()


def test_a_directory_that_cannot_be_written_is_told_and_training_goes_on(files, tmp_path, capsys):
    (tmp_path / "run" / "log.csv").mkdir()
    files.on_save(BEST)
    out = capsys.readouterr().out
    assert out.startswith(f"warning: {tmp_path}/run: ")
    assert "log.csv" in out


def test_curves_are_a_picture_of_every_line(entries):
    from PIL import Image

    from efficientnet_tpu.run.reports.curves_picture import curves_png

    picture = np.asarray(Image.open(io.BytesIO(curves_png(entries, "a $ and a class"))).convert("RGB"))
    assert picture.shape == (800, 1200, 3)
    blue, orange, green = (31, 119, 180), (255, 127, 14), (44, 160, 44)  # matplotlib's first three colors
    quarters = [picture[y : y + 400, x : x + 600] for y in (0, 400) for x in (0, 600)]
    lines = [[bool((quarter == color).all(-1).any()) for color in (blue, orange, green)] for quarter in quarters]
    # training, validation, validation by raw weights: of loss and accuracy; of the rate and speed only training.
    assert lines == [[True] * 3, [True] * 3, [True, False, False], [True, False, False]]


def test_curves_of_an_empty_log_are_a_picture_too():
    from efficientnet_tpu.run.reports.curves_picture import curves_png

    assert curves_png([], "").startswith(b"\x89PNG")
