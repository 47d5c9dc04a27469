"""rerun.flags, log.csv, results.json: what the texts hold."""

import csv
import io
import json

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, run_options, with_options
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.run.reports.log_csv import log_csv
from efficientnet_tpu.run.reports.rerun_flags import rerun_flags
from efficientnet_tpu.run.reports.results_json import results_json
from tests.run.reports.conftest import evaluation


def read_flags(tmp_path, text):
    """The config that the command line makes of a flag file."""
    path = tmp_path / "rerun.flags"
    path.write_text(text)
    return with_options(Config(), cli.parse([f"--flagfile={path}"]).options)


def test_rerun_flags_are_the_runs_options(tmp_path):
    options = {
        "model": "efficientnet-lite0", "data_dir": "/photos of mine/=x", "train_batch_size": 32, "bn_mode": "frozen",
        "horizontal_flip": False, "eval_crop_padding": 0, "base_learning_rate": 1e-5, "validation_percent": 20,
    }  # fmt: skip
    config = with_options(Config(), options)
    text = rerun_flags(with_options(config, {"model_dir": "/runs/one"}))
    assert "/runs/one" not in text
    assert run_options(read_flags(tmp_path, text)) == run_options(config)


def test_rerun_flags_of_no_options_are_none(tmp_path):
    assert read_flags(tmp_path, rerun_flags(Config())) == Config()


@pytest.mark.parametrize(
    ("value", "shown"), [("https://me:word@host/x", "https://me:***@host/x"), ("two\nlines", "two\\nlines")]
)
def test_values_that_a_flag_file_cannot_hold_are_told(tmp_path, value, shown):
    text = rerun_flags(with_options(Config(), {"init_from": value, "train_batch_size": 8}))
    assert "word@" not in text
    assert shown in text
    assert read_flags(tmp_path, text) == with_options(Config(), {"train_batch_size": 8})


def test_the_log_as_csv(entries):
    rows = list(csv.DictReader(io.StringIO(log_csv(entries))))
    assert len(rows) == len(entries)
    for row, entry in zip(rows, entries, strict=True):
        assert row.pop("kind") == entry["kind"]
        values = {name: float(value) for name, value in row.items() if value}
        assert values == {name: value for name, value in entry.items() if name != "kind"}


def test_an_empty_log_as_csv():
    assert log_csv([]) == "\n"


def test_results_are_those_of_the_best_and_the_last_checkpoint(entries, measurement):
    best = EarlyStopping(evaluated_step=40, best_step=30, best_accuracy=0.95)
    content = json.loads(results_json(entries, Config(), best, measurement, {"keras": "3.14"}))
    assert content["delivered"] == "best"
    assert content["versions"] == {"keras": "3.14"}
    found = [(one["checkpoint"], one["step"], one["top_1_accuracy"]) for one in content["results"]]
    assert found == [("best", 30, 0.95), ("last", 40, 0.8)]
    result = content["results"][0]
    # Wilson's interval of 190 of 200.
    assert result["top_1_accuracy_interval"] == pytest.approx([0.9104, 0.9726], abs=1e-4)
    assert "raw_top_1_accuracy_interval" in result
    assert result["measured"]["fingerprint"] == "3f2a91c45d6e7f80"
    assert result["measured"]["crop"] == pytest.approx(0.8767, abs=1e-4)


def test_results_by_the_minival_name_the_images(measurement):
    entries = [evaluation("minival", 10, 0.5), evaluation("minival", 20, 0.4), evaluation("validation", 10, 0.45)]
    config = with_options(Config(), {"minival_percent": 2, "checkpoint": "last"})
    best = EarlyStopping(evaluated_step=20, best_step=10, best_accuracy=0.5)
    content = json.loads(results_json(entries, config, best, measurement, {}))
    assert content["delivered"] == "last"
    found = [(one["checkpoint"], one["measured"]["images"], one["top_1_accuracy"]) for one in content["results"]]
    assert found == [("best", "minival", 0.5), ("best", "validation", 0.45), ("last", "minival", 0.4)]


def test_results_before_an_evaluation_are_none(measurement):
    assert json.loads(results_json([], Config(), EarlyStopping(), measurement, {}))["results"] == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "688 images of 3f2a91c4 at 192 px, crop 0.877, bilinear, averaged weights, batch norm frozen, float32"),
        (
            {"batch_norm": "train", "weights": "raw", "downscale": "reference", "precision": "mixed_bfloat16"},
            "688 images of 3f2a91c4 at 192 px, crop 0.877, bilinear, downscale reference, raw weights, mixed_bfloat16",
        ),
    ],
)
def test_a_measurement_in_words(measurement, changes, text):
    import dataclasses

    assert dataclasses.replace(measurement, **changes).describe(688.0) == text
