"""Charts and page: what they show, that they need nothing else, and that no name can break them."""

import itertools
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from efficientnet_tpu.model_inspection import svg_charts
from efficientnet_tpu.model_inspection.report import results, run_facts
from efficientnet_tpu.model_inspection.report.contents import Report, ShownImage
from efficientnet_tpu.model_inspection.report.page import page
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


class Tags(HTMLParser):
    """Collects what an HTML file refers to, and its tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.references, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


PNG = b"\x89PNG"
WRONG = ShownImage(PNG, EVIL, EVIL, 0.1, "b", 0.9)
RIGHT = ShownImage(PNG, "b/1.jpg", "b", 0.8, "b", 0.8, maps={"b": b"\xff\xd8"})


def _report(**changes):
    return Report(
        **{
            "title": "title", "facts": [EVIL], "measured": "Measured on 4 images of", "source": f"--data_dir={EVIL}",
            "label_names": [EVIL, "b"], "training_images": [1, 2], "matrix": np.eye(2, dtype=int),
            "confusion_png": PNG, "num_errors": 1, "files": ["a.csv"], "ordinary": [WRONG, RIGHT], "maps": [RIGHT],
            "results": {"top_1_accuracy": 0.75, "top_5_accuracy": 1.0, "loss": 0.5, "num_images": 4.0},
            "classes": class_results(LABELS, PREDICTED, 2), "confusions": confusions(LABELS, PREDICTED),
            "calibration": calibration(np.full(4, 0.8), LABELS == PREDICTED), "curves": training_curves([]),
            "evaluations": [], "errors": [WRONG], "data_facts": [EVIL], "environment": [("command", EVIL)],
            "splits": [run_facts.summarize_split("train", 23, np.array([11, 12]), [EVIL, "b"])],
            "chosen": [("data_dir", EVIL, "none")], "defaults": [("seed", "0", "0")],
        }
        | changes
    )  # fmt: skip


def test_no_name_can_break_the_page_or_make_it_load_anything():
    text = page(_report())
    found = Tags(text)
    assert not found.all("script")
    pictures = [reference for reference in found.references if not reference.startswith("#")]
    assert len(pictures) == 6
    assert all(reference.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for reference in pictures)
    assert text.count("&lt;script") >= 12  # the names are there, as words
    assert not re.search(r"<script|\son\w+=", text)
    assert "default-src 'none'" in text


def test_names_of_earlier_runs_are_escaped_on_the_page():
    text = page(_report(label_names=["a\x1b[2J\u202eb\nc", "b"]))
    assert "a\\x1b[2J\\u202eb\\nc" in text
    assert not set(text) & set("\x1b\u202e")


def test_the_page_says_what_was_measured():
    text = page(_report())
    assert "75.00%" in text
    assert "95%: 30.06\N{EN DASH}95.44" in text  # 3 of 4
    assert "50.0%<small>9\N{EN DASH}91</small>" in text  # 1 of 2
    assert "overconfident by 5.00 percentage points" in text
    assert "The run has no log of its training." in text
    assert "top-5" not in text  # of two classes
    assert "every image was recognized" in page(_report(errors=[], num_errors=0, confusions=[]))
    assert "There are no activation maps. Why." in page(_report(maps=[], no_maps="Why."))


def test_classes_come_weakest_first():
    text = results.classes(_report())[1]
    rows = [re.sub("<[^>]*>", " ", row).split() for row in text.split("<tr>")[2:]]
    assert [row[0] for row in rows] == ["&lt;script", "b"]
    assert "66.7%" in rows[0]  # F1 of recall 1/2 and precision 1
    assert rows[1][1:6] == ["100.0%", "34\N{EN DASH}100", "66.7%", "80.0%", "2"]


def test_a_reader_who_hears_the_page_finds_everything():
    found = Tags(page(_report()))
    names = [tag for tag, _ in found.tags]
    assert [names.count(tag) for tag in ("header", "nav", "main", "footer", "h1")] == [1, 1, 1, 1, 1]
    headings = [int(tag[1]) for tag in names if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(later - before <= 1 for before, later in itertools.pairwise(headings))
    assert all(image["alt"] for image in found.all("img"))
    assert all(head["scope"] in ("col", "row") for head in found.all("th"))
    assert len(found.all("caption")) == len(found.all("table"))
    identifiers = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    assert {link["href"].removeprefix("#") for link in found.all("a")} <= set(identifiers)
    assert all(part["aria-labelledby"] in identifiers for part in found.all("section"))
    assert found.all("html")[0]["lang"] == "en"


def test_a_thousand_classes_are_folded_and_more_are_left_out():
    count = 1500
    labels = np.arange(count)
    report = _report(
        label_names=[f"class {label}" for label in labels],
        classes=class_results(labels, np.roll(labels, 1), count),
        confusions=confusions(labels, np.roll(labels, 1)),
        matrix=None,
        training_images=None,
    )
    text = page(report)
    assert text.count('<tr><th scope="row"><bdi>class') == results.ROWS + results.PAIRS
    assert "970 stronger classes" in text
    assert "The weakest 1,000 of 1,500 classes" in text
    assert "top-5" in text
    assert len(text) < 1_000_000


def test_a_page_brings_the_letters_that_a_reader_may_lack():
    assert "@font-face" not in page(_report())
    text = page(_report(label_names=["\u732b", "b"]))
    assert "font/woff;base64," in text
    assert len(text) - len(page(_report(label_names=["c", "b"]))) < 8000


def test_options_are_those_that_differ_and_passwords_are_hidden():
    from efficientnet_tpu.config.config import Config, with_options

    place = "gs://a/b?X-Goog-Signature=" + 40 * "0f"
    config = with_options(Config(), {"seed": 7, "data_dir": place, "model_dir": "x"})
    chosen, defaults = run_facts.option_rows(config)
    rows = {flag: (value, default) for flag, value, default in chosen}
    assert rows["seed"] == ("7", "0")
    assert 40 * "0f" not in rows["data_dir"][0]
    assert set(rows) == {"seed", "data_dir"}
    assert {"train_epochs", "resolution"} <= {flag for flag, _, _ in defaults}


def test_splits_say_how_classes_are_filled():
    split = run_facts.summarize_split("train", 9, np.array([0, 5, 4]), ["a", "b", "c"])
    assert (split.classes, split.fewest, split.most) == (2, (4, "c"), (5, "b"))
    assert run_facts.summarize_split("train", 9, None, ["a"]).classes is None
