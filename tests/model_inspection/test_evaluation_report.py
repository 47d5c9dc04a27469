"""`evaluate --report`: the files of a tiny run's report agree with each other and with the evaluation."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError


@pytest.fixture(scope="module")
def cli(tf):
    from efficientnet_tpu import cli

    return cli


@pytest.fixture(scope="module")
def reported(cli, trained, tmp_path_factory):
    """The folder of a report with errors in it."""
    directory = tmp_path_factory.mktemp("reports") / "new" / "report"
    flags = ["--eval_crop_padding=16", "--eval_batch_size=4"]
    cli.main(["main.py", "evaluate", f"--model_dir={trained}", f"--report={directory}", *flags])
    return directory


def _rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_files_agree(reported, shapes):
    results = json.loads((reported / "results.json").read_text())
    predictions = _rows(reported / "predictions.csv")
    assert [int(row["position"]) for row in predictions] == list(range(15))
    for row in predictions:
        assert Path(row["path"]).is_file()
        assert Path(row["path"]).parent == shapes / "validation" / row["class"]
    assert [row["class"] for row in predictions] == ["circle"] * 5 + ["square"] * 5 + ["triangle"] * 5
    right = [row["class"] == row["predicted"] for row in predictions]
    assert 0 < sum(right) < 15  # it can tell right from wrong
    assert results["num_images"] == 15
    assert results["top_1_accuracy"] == pytest.approx(np.mean(right), rel=1e-6)
    for row, is_right in zip(predictions, right, strict=True):
        assert (float(row["probability_of_class"]) == float(row["confidence"])) == is_right
    low, high = results["top_1_interval"]
    assert low < results["top_1_accuracy"] < high

    classes = _rows(reported / "per_class.csv")
    matrix = _rows(reported / "confusion_matrix.csv")
    for one, row in zip(classes, matrix, strict=True):
        name = one["class"]
        assert row.pop("class") == name
        assert int(row[name]) == int(one["correct"]) == sum(p["class"] == p["predicted"] == name for p in predictions)
        assert sum(map(int, row.values())) == int(one["images"]) == 5
        assert int(one["predicted"]) == sum(p["predicted"] == name for p in predictions)
    assert sum(int(row["images"]) for row in _rows(reported / "calibration.csv")) == 15


def test_the_page_holds_everything_and_refers_to_nothing(reported):
    text = (reported / "index.html").read_text()
    results = json.loads((reported / "results.json").read_text())
    errors = [row for row in _rows(reported / "predictions.csv") if row["class"] != row["predicted"]]
    assert f"{results['top_1_accuracy']:.2%}" in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<polyline") >= 4  # loss, accuracy, learning rate, images a second
    parts = dict(re.findall(r'<h2 id="(\w+)">(.*?)</section>', text, re.DOTALL))
    figures = {name: part.count("<figure>") for name, part in parts.items()}
    assert figures["mistakes"] == len(errors)
    assert figures["ordinary"] == 15
    assert "a single place for images of 32 pixels" in parts["maps"]
    assert "train: 14" in parts["classes"]
    assert "14" in parts["data"]
    assert "train_batch_size" in parts["configuration"].partition("<details>")[0].replace("<wbr>", "")
    assert "tensorflow" in parts["environment"]
    highest = max(float(row["confidence"]) for row in errors)
    where = re.search(r'class="where"><bdi>(.*?)</bdi>', parts["mistakes"])[1]
    [worst] = [row for row in errors if row["path"].endswith(where)]
    assert float(worst["confidence"]) == pytest.approx(highest, rel=1e-5)
    assert where.startswith(f"validation/{worst['class']}/")  # a path below data_dir
    for name in ("confusion_matrix.png", "errors.png", "ordinary.png"):
        with Image.open(reported / name) as picture:
            assert min(picture.size) > 100
    assert not list(reported.glob("*.tmp"))
    assert not (reported / ".probe").exists()


@pytest.mark.slow
def test_a_report_measures_what_evaluate_does(cli, trained, reported, capsys):
    from efficientnet_tpu import evaluate
    from efficientnet_tpu.run import run_record

    config = run_record.load(str(trained)).config
    found = evaluate.evaluate_run(with_options(config, {"eval_crop_padding": 16, "eval_batch_size": 4}))
    results = json.loads((reported / "results.json").read_text())
    assert {name: results[name] for name in found} == pytest.approx(found, rel=1e-6)


@pytest.mark.slow
def test_the_command_report_writes_the_same_into_the_run(cli, trained, reported, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    cli.main(["main.py", "report", str(run), "--eval_crop_padding=16", "--eval_batch_size=4"])
    assert f"{run}/report/index.html: the report" in capsys.readouterr().out
    assert sorted(path.name for path in (run / "report").iterdir()) == sorted(path.name for path in reported.iterdir())
    assert _rows(run / "report" / "predictions.csv") == _rows(reported / "predictions.csv")


@pytest.mark.slow
def test_maps_are_of_the_predicted_class_and_of_a_mistake_of_both(cli, trained, tmp_path):
    cli.main(["main.py", "report", str(trained), f"--output_dir={tmp_path}", "--resolution=64"])
    maps = (tmp_path / "index.html").read_text().partition('<h2 id="maps">')[2].partition("</section>")[0]
    figures = maps.split("<figure>")[1:]
    assert 6 <= len(figures) <= 12
    for figure in figures:
        assert figure.count("<img") == (2 if ">right:<" in figure else 3)


@pytest.mark.slow
def test_predictions_keep_the_stored_order_on_several_devices(tf, cli, trained, reported, tmp_path):
    flags = [f"--report={tmp_path}", "--eval_crop_padding=16", "--eval_batch_size=8", "--virtual_replicas=4"]
    cli.main(["main.py", "evaluate", f"--model_dir={trained}", *flags])
    for row, other in zip(_rows(reported / "predictions.csv"), _rows(tmp_path / "predictions.csv"), strict=True):
        assert (row["class"], row["predicted"]) == (other["class"], other["predicted"])
        assert float(row["confidence"]) == pytest.approx(float(other["confidence"]), abs=1e-4)


@pytest.mark.slow
def test_a_report_leaves_nothing_of_an_earlier_one(cli, trained, tmp_path, capsys):
    (tmp_path / "errors.png").write_text("old")
    (tmp_path / "mine.txt").write_text("kept")
    cli.main(["main.py", "evaluate", f"--model_dir={trained}", f"--report={tmp_path}"])
    said = capsys.readouterr().out
    all_right = "top-1 100.00%" in said
    assert (tmp_path / "errors.png").exists() != all_right
    assert all_right or (tmp_path / "errors.png").read_bytes() != b"old"
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert f"{tmp_path}/index.html: the report" in said


def test_a_folder_that_cannot_be_is_refused_before_anything_else(cli, trained, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--report=.*file: cannot be written"):
        cli.main(["main.py", "evaluate", f"--model_dir={trained}", f"--report={tmp_path}/file"])
    assert capsys.readouterr().out == ""


def test_a_model_that_says_nothing_is_refused(tf, tmp_path):
    from efficientnet_tpu.model_inspection import evaluation_report
    from efficientnet_tpu.model_inspection.statistics import Predictions

    nan = np.full((3, 1), np.nan, np.float32)
    nothing = Predictions(np.zeros(3, np.int32), np.zeros((3, 1), np.int32), nan, nan[:, 0])
    with pytest.raises(UserError, match=r"3 of 3 images is no number"):
        evaluation_report.write_report(with_options(Config(), {"report": str(tmp_path)}), None, nothing)


@pytest.mark.parametrize("num_classes", [3, 60, 1000, 2500])
def test_confusion_pictures(tf, num_classes):
    from efficientnet_tpu.model_inspection.confusion_matrix import SIDE, draw_confusion
    from efficientnet_tpu.model_inspection.statistics import confusion_matrix

    labels = np.arange(num_classes)
    matrix = confusion_matrix(labels, labels, num_classes, SIDE)
    picture = np.asarray(draw_confusion(matrix, [f"class {label}" for label in labels]))
    side = min(num_classes, SIDE)
    cell = max(1, min(SIDE // side, 56))
    heat = picture[-12 - side * cell : -12, -12 - side * cell : -12]
    corners = [heat[number * cell + 1 * (cell > 2), number * cell + 1 * (cell > 2)] for number in range(side)]
    assert (np.array(corners) == [8, 48, 107]).all()  # the diagonal is dark
    assert (heat[side * cell // 2 + cell :, : side * cell // 2 - cell] == 255).all()
