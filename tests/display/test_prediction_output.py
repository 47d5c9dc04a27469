"""Predictions in every form, of files and classes that may be called anything."""

import csv
import io
import json

import pytest

from efficientnet_tpu.config.commands import OUTPUT_FORMATS
from efficientnet_tpu.display.prediction_output import FORMS, Prediction, PredictionWriter

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
