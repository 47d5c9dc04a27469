"""Charts and page: what they show, that they need nothing else, and that no name can break them."""

import math
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from efficientnet_tpu.model_inspection import svg_charts
from efficientnet_tpu.model_inspection.report_page import ErrorPicture, Report, page
from efficientnet_tpu.model_inspection.statistics import calibration, class_results, confusions
from efficientnet_tpu.model_inspection.training_curves import training_curves

EVIL = '<script src="http://evil.example/x.js">alert(1)</script>'
LABELS, PREDICTED = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 350, [0, 100, 200, 300]), (0.21, 0.33, [0.25, 0.3])],
)  # fmt: skip
def test_ticks_are_round(low, high, expected):
    assert svg_charts.ticks(low, high) == pytest.approx(expected)


def test_lines_are_thinned_to_means():
    x, y = svg_charts.thinned(list(range(10)), [1.0, 3.0] * 5, points=5)
    assert (x, y) == ([0.5, 2.5, 4.5, 6.5, 8.5], [2.0] * 5)
    assert svg_charts.thinned([1, 2], [3, 4]) == ([1, 2], [3, 4])
    assert svg_charts.thinned([], []) == ([], [])


def _lines_of(svg):
    """The points of every polyline, in pixels."""
    found = [part for part in ET.fromstring(svg).iter() if part.tag == "polyline"]
    return [[tuple(map(float, point.split(","))) for point in line.get("points").split()] for line in found]


def test_a_line_rises_where_values_do_and_breaks_at_what_is_no_number():
    series = svg_charts.Series("loss", [0, 1, 2, 3, 4], [1.0, 2.0, math.nan, 3.0, 5.0])
    first, second = _lines_of(svg_charts.line_chart("Loss", "epoch", [series]))
    assert (len(first), len(second)) == (2, 2)
    xs, ys = zip(*first, *second, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)  # downwards in SVG
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)  # 1, 2, 3
    assert svg_charts.line_chart("Loss", "epoch", [svg_charts.Series("loss", [0], [math.nan])]) == ""


def test_reliability_diagram_has_a_bar_for_each_bin_with_images():
    svg = svg_charts.reliability_diagram(calibration(np.array([0.5, 1.0, 1.0]), np.array([True, True, False]), 4))
    bars = [float(part.get("height")) for part in ET.fromstring(svg).iter() if part.tag == "rect"]
    assert bars == [380, 190]  # accuracies 1 and 0.5


def test_training_curves():
    entries = [
        {"kind": "train", "epoch": 1, "loss": 2.0, "top_1_accuracy": 0.5, "learning_rate": 0.1},
        {"kind": "validation", "epoch": 1, "loss": 1.5, "top_1_accuracy": 0.6, "raw_loss": 9.0},
        {"kind": "train", "epoch": 2, "loss": math.nan, "top_1_accuracy": 0.7, "learning_rate": 0.05},
        {"kind": "output", "epoch": 2, "lost": "stdout: Broken pipe"},
    ]
    curves = training_curves(entries, damaged=1)
    assert curves.damaged == 1
    training, validation = curves.series["loss"]
    assert (training.name, training.x) == ("training", [1, 2])
    assert (validation.name, validation.x, validation.y) == ("validation", [1], [1.5])
    assert [one.y for one in curves.series["learning_rate"]] == [[0.1, 0.05]]
    assert training_curves([]).series == {}


class References(HTMLParser):
    """Collects everything an HTML file refers to, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.references, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def _report(**changes):
    return Report(
        **{
            "title": "title", "facts": [EVIL], "label_names": [EVIL, "b"], "confusion_png": b"x", "num_errors": 1,
            "results": {"top_1_accuracy": 0.75, "top_5_accuracy": 1.0, "loss": 0.5, "num_images": 4.0},
            "classes": class_results(LABELS, PREDICTED, 2), "confusions": confusions(LABELS, PREDICTED),
            "calibration": calibration(np.full(4, 0.8), LABELS == PREDICTED), "curves": training_curves([]),
            "errors": [ErrorPicture(b"png", EVIL, EVIL, 0.1, "b", 0.9)], "files": ["a.csv"],
        }
        | changes
    )  # fmt: skip


def test_no_name_can_break_the_page_or_make_it_load_anything():
    text = page(_report())
    found = References(text)
    assert "script" not in found.tags
    assert len(found.references) == 2
    assert all(reference.startswith("data:image/png;base64,") for reference in found.references)
    assert text.count("&lt;script") >= 5  # the names are there, as words
    assert "default-src 'none'" in text


def test_names_of_earlier_runs_are_escaped_on_the_page():
    text = page(_report(label_names=["a\x1b[2J\u202eb\nc", "b"]))
    assert "a\\x1b[2J\\u202eb\\nc" in text
    assert not set(text) & set("\x1b\u202e")


def test_the_page_says_what_was_measured():
    text = page(_report())
    assert "75.00%" in text
    assert "95%: 30.06 to 95.44" in text  # 3 of 4
    assert "50.00% (9.45 to 90.55)" in text  # 1 of 2
    assert "overconfident by 5.00 percentage points" in text
    assert "The run has no log of its training." in text
    assert "None." in page(_report(errors=[], num_errors=0, confusions=[]))
