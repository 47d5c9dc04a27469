"""Predictions in every form, of files and classes that may be called anything."""

import csv
import io
import json
import weakref

import pytest

from efficientnet_tpu.config.commands import OUTPUT_FORMATS
from efficientnet_tpu.display import prediction_output
from efficientnet_tpu.display.prediction_output import FILE_WRITERS, FORMS, Prediction, PredictionWriter, opened_file

PATHS = ("a b,c.jpg", "=1+1.jpg", "-x\n=2.jpg", "/tmp/\x1b[2Jb.jpg", "@x/é.jpg", 'q".jpg')
CLASSES = ("=cmd|' /C calc'!A0", "dog, grey", "-0.5", "\u202ecod")


def written(form):
    file = io.StringIO()
    writer = PredictionWriter(FORMS[form], 10, file)
    writer.write(Prediction(path, CLASSES, (0.4, 0.3, 0.2, 0.1)) for path in PATHS)
    writer.close()
    return file.getvalue()


def test_csv_has_paths_that_are_paths_and_no_formula():
    rows = list(csv.reader(io.StringIO(written("csv"), newline="")))
    assert rows[0] == ["path", "rank", "class", "probability"]
    assert [row[0] for row in rows[1::4]] == [
        "a b,c.jpg", "./=1+1.jpg", "./-x\\n=2.jpg", "/tmp/\\x1b[2Jb.jpg", "./@x/é.jpg", 'q".jpg',
    ]  # fmt: skip
    assert [row[2] for row in rows[1:5]] == ["'=cmd|' /C calc'!A0", "dog, grey", "-0.5", "\\u202ecod"]


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_names_end_no_line_and_tell_a_terminal_nothing(form):
    text = written(form)
    assert not set(text) & set("\x1b\u202e\r")
    assert len(text.splitlines()) == {"text": len(PATHS), "csv": 1 + 4 * len(PATHS)}.get(form, text.count("\n"))


def test_json_has_every_name_as_it_is():
    found = json.loads(written("json"))
    assert [one["path"] for one in found] == list(PATHS)
    assert found[0]["classes"] == list(CLASSES)


def test_json_lines_have_every_name_as_it_is():
    found = [json.loads(line) for line in written("jsonl").splitlines()]
    assert found == json.loads(written("json"))


def rows_of(count):
    return [Prediction(f"{number}.jpg", ("a", "b"), (0.75, 0.25)) for number in range(count)]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_file_holds_what_stdout_would_and_grows_under_its_other_name(tmp_path, ending):
    path = tmp_path / f"found{ending}"
    stdout = io.StringIO()
    printed = PredictionWriter(FORMS[ending[1:]], 0, stdout)
    with opened_file(str(path)) as writer:
        for some in (rows_of(2), rows_of(3)):
            writer.write(some)
            printed.write(some)
            assert (tmp_path / f"found{ending}.partial").read_text() == stdout.getvalue()
            assert stdout.getvalue().endswith("\n")  # whoever reads lines has the last one too
        assert not path.exists()
    printed.close()
    assert path.read_text() == stdout.getvalue()


def test_parquet(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="comes with TensorFlow Datasets")
    monkeypatch.setattr(prediction_output, "_ROW_GROUP", 4)
    path = tmp_path / "found.parquet"
    with opened_file(str(path)) as writer:
        for some in (rows_of(3), rows_of(3), [Prediction("\udcff.jpg", ("a",), (1.0,))]):
            writer.write(some)
    table = parquet.read_table(path)
    assert parquet.ParquetFile(path).num_row_groups == 2
    assert [(field.name, str(field.type).replace("element", "item")) for field in table.schema] == [
        ("path", "string"), ("classes", "list<item: string>"), ("probabilities", "list<item: float>"),
    ]  # fmt: skip
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == ["0.jpg", "1.jpg", "2.jpg"] * 2 + ["\\xff.jpg"]
    assert (rows[1]["classes"], rows[1]["probabilities"]) == (["a", "b"], [0.75, 0.25])


@pytest.mark.parametrize("ending", FILE_WRITERS)
def test_a_million_predictions_are_not_kept(tmp_path, monkeypatch, ending):
    """What a writer holds does not grow with what it has written."""
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="comes with TensorFlow Datasets")
    monkeypatch.setattr(prediction_output, "_ROW_GROUP", 20)
    alive = weakref.WeakSet()

    class Counted(Prediction):
        __hash__ = object.__hash__

    with opened_file(f"{tmp_path}/found{ending}") as writer:
        for number in range(100):
            some = [Counted(f"{number}.jpg", ("a",), (1.0,))]
            alive.update(some)
            writer.write(some)
            del some
            assert len(alive) <= 20
