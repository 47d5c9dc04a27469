"""`main.py compare`: from the directories of runs to tables and files."""

import dataclasses
import json

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, run_options, with_options
from efficientnet_tpu.errors import UserError

CLASSES = ["ant", "bee"]


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """make(name, accuracies, ...) -> makes the files of a run that evaluated 200 images every 10 steps."""
    monkeypatch.chdir(tmp_path)

    def make(name, accuracies=(0.6, 0.7), fingerprint="3f", predicted="", **options):
        folder = tmp_path / name
        folder.mkdir()
        record = {
            "config": run_options(with_options(Config(), options)),
            "label_names": CLASSES,
            "data_fingerprint": fingerprint,
            "num_train_images": 100,
            "starts": [{"time": "2026-01-01T00:00:00Z", "versions": {"keras": "3.14"}, "git_revision": name}],
        }
        (folder / "run.json").write_text(json.dumps(record))
        start = 1767225600  # that time
        entries = []
        for number, accuracy in enumerate(accuracies, start=1):
            where = {"step": 10 * number, "epoch": float(number), "time": start + 1800 * number}
            values = {"loss": 1 - accuracy, "top_1_accuracy": accuracy}
            entries.append({"kind": "train", **where, **values, "images_per_second": 50.0 * number})
            entries.append({"kind": "validation", **where, **values, "top_5_accuracy": 1.0, "num_images": 200.0})
        (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        if predicted:
            (folder / "report").mkdir()
            rows = [
                f"{number},{'ant' if number % 2 else 'bee'},{CLASSES[int(one)]}" for number, one in enumerate(predicted)
            ]
            (folder / "report" / "predictions.csv").write_text("position,class,predicted\n" + "\n".join(rows) + "\n")
        return name

    return make


def compare(*arguments):
    cli.main(["main.py", "compare", *arguments])


def test_differences_results_and_chance(make_run, capsys):
    make_run("a", (0.6, 0.7, 0.65), base_learning_rate=0.1)
    make_run("b", (0.6, 0.9), base_learning_rate=0.2)
    compare("a", "b/")
    out = capsys.readouterr().out
    differs, results = out.split("\nResults\n")
    lines = [line.split() for line in differs.splitlines()]
    assert ["--base_learning_rate", "0.1", "0.2"] in lines
    assert ["revision", "a", "b"] in lines
    assert not [line for line in lines if line[:1] in (["--model"], ["keras"], ["--model_dir"])]
    rows = {line.split()[0]: line for line in results.splitlines() if line.startswith(("a  ", "b  "))}
    assert "70.00% (63.32 to 75.93)" in rows["a"]  # Wilson's interval of 140 of 200
    assert "20 (2.0)" in rows["a"]
    assert "1 h 30 min" in rows["a"]
    assert "90.00%" in rows["b"]
    # z = 0.2 / sqrt(0.8 * 0.2 * 0.01) = 5
    assert "b beside a: +20.00 points, which is more than chance" in out
    assert "p = 5.7e-07" in out


def test_runs_that_are_alike_are_said_to_be(make_run, tmp_path, capsys):
    make_run("a")
    make_run("b", (0.6, 0.71))
    path = tmp_path / "b" / "run.json"
    path.write_text(path.read_text().replace('"git_revision": "b"', '"git_revision": "a"'))
    compare("a", "b")
    out = capsys.readouterr().out
    assert "None: the runs have the same options, images and versions." in out
    assert "which may be chance" in out


def test_predictions_are_paired_image_by_image(make_run, capsys):
    truth = "".join(str(1 - number % 2) for number in range(40))  # ant is 0, at odd positions
    flipped = {"0": "1", "1": "0"}
    make_run("a", predicted="".join(flipped[one] if number < 12 else one for number, one in enumerate(truth)))
    make_run("b", predicted="".join(flipped[one] if 12 <= number < 16 else one for number, one in enumerate(truth)))
    compare("a", "b")
    out = " ".join(capsys.readouterr().out.split())
    # b alone is right 12 times, a alone 4: the binomial distribution of 16.
    assert "+20.00 points, which may be chance (image by image 12 to 4, p = 0.077 by McNemar's exact test)" in out
    assert "Classes that moved most, of 2" in out
    assert "ant 20 14 18 +4" in out


def test_runs_that_predict_the_same_have_no_table_of_classes(make_run, capsys):
    make_run("a", predicted="01" * 10)
    make_run("b", predicted="01" * 10)
    compare("a", "b")
    out = capsys.readouterr().out
    assert "image by image 0 to 0" in " ".join(out.split())
    assert "Classes that moved" not in out


def test_other_images_do_not_compare(make_run, capsys):
    make_run("a")
    make_run("b", fingerprint="4e")
    compare("a", "b")
    assert "evaluated on other images: their figures do not compare" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_files_are_written(tf, make_run, tmp_path):
    make_run("a", predicted="01" * 10)
    make_run("b", predicted="00" * 10)
    make_run("c")
    compare("a", "b", "c", f"--output_dir={tmp_path}/out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    kinds = ("csv", "html", "png")
    tables = ("compare_options", "compare_results", "compare_classes-b")
    assert names == {f"{table}.{kind}" for table in tables for kind in kinds}
    page = (tmp_path / "out" / "compare_results.html").read_text()
    assert "data:image/png" in page


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "compare a: name two runs or more, each once."),
        (["a", "a/"], "compare a a/: name two runs or more, each once."),
        (["a", "none"], "--model_dir=none: no trained run here"),
        (["a", "young"], "young: has not been evaluated yet."),
        (["a", "imported"], "imported: holds imported weights and no training."),
        (["a", "odd"], "odd/report/predictions.csv: has no column class."),
    ],
)
def test_what_cannot_be_compared(make_run, names, message):
    make_run("a")
    make_run("young", ())
    make_run("imported", fingerprint="imported")
    make_run("odd", predicted="01")
    with open("odd/report/predictions.csv", "w") as file:
        file.write("image,answer\n1,2\n")
    with pytest.raises(UserError) as error:
        compare(*names)
    assert str(error.value).startswith(message)


def test_a_run_that_was_continued_counts_the_hours_that_it_ran(make_run):
    from efficientnet_tpu.comparison.compared_run import load_run

    make_run("a")  # lines of the log after 30 and 60 minutes
    run = load_run("a", "a")
    assert run.hours == pytest.approx(1.0)
    again = [*run.record.starts, {"time": "2026-01-01T00:50:00Z"}]
    continued = dataclasses.replace(run, record=dataclasses.replace(run.record, starts=tuple(again)))
    assert continued.hours == pytest.approx(40 / 60)
