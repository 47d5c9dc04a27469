"""The page of an evaluation report: one HTML file that needs no other, and no network."""

from collections.abc import Sequence
from dataclasses import dataclass

from efficientnet_tpu.display.html_page import data_uri, document
from efficientnet_tpu.model_inspection import svg_charts
from efficientnet_tpu.model_inspection.statistics import (
    CalibrationBin,
    ClassResult,
    Confusion,
    expected_calibration_error,
    mean_class_accuracy,
)
from efficientnet_tpu.model_inspection.training_curves import TrainingCurves
from efficientnet_tpu.run.confidence_interval import wilson_interval, with_interval
from efficientnet_tpu.texts.printable import html_text

ROWS = 1000  # of the table of classes; per_class.csv has all
PAIRS = 20  # of the table of confusions
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1.2rem;color:#1a1a1a;background:#fff}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2.6rem;border-bottom:1px solid #ddd}
.faint{color:#666}.figures{display:flex;flex-wrap:wrap;gap:.7rem;margin:1.4rem 0}
.figure{background:#f4f6f9;border-radius:6px;padding:.7rem 1rem;flex:1 1 8rem}
.figure b{display:block;font-size:1.5rem}
.figure span{color:#666;font-size:.85rem}.charts{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}
svg{max-width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#444}img{max-width:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #e5e5e5}
th{background:#fff;border-bottom:2px solid #444;position:sticky;top:0}th.name,td.name{text-align:left}
.long{max-height:45rem;overflow:auto;display:inline-block;max-width:100%}
.errors{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.5rem,1fr));gap:1.1rem}
.errors figure{margin:0;font-size:.85rem}.errors img{width:160px;height:160px;object-fit:contain;image-rendering:auto;
border:1px solid #ddd}.errors figcaption{overflow-wrap:anywhere;line-height:1.35}.errors .where{color:#666}
@media print{.long{max-height:none}}
"""


@dataclass(frozen=True)
class ErrorPicture:
    """A wrong prediction: the image the model saw as a PNG file, where it comes from, names and probabilities."""

    png: bytes
    where: str
    label: str
    label_probability: float
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Report:
    """Everything that is on the page. facts: lines under the title; results: of evaluate."""

    title: str
    facts: Sequence[str]
    label_names: Sequence[str]
    results: dict[str, float]
    classes: Sequence[ClassResult]
    confusions: Sequence[Confusion]
    calibration: Sequence[CalibrationBin]
    curves: TrainingCurves
    confusion_png: bytes
    errors: Sequence[ErrorPicture]
    num_errors: int
    files: Sequence[str]


def page(report: Report) -> str:
    """Returns the HTML file."""
    facts = "<br>".join(html_text(fact) for fact in report.facts)
    files = ", ".join(f"<code>{html_text(name)}</code>" for name in report.files)
    sections = [
        _figures(report),
        _curves(report.curves),
        _classes(report),
        _confusions(report),
        _calibration(report.calibration),
        _errors(report),
    ]
    return document(
        report.title,
        STYLE,
        f'<h1>{html_text(report.title)}</h1>\n<p class="faint">{facts}</p>\n'
        + "\n".join(sections)
        + f'\n<h2>Files</h2>\n<p class="faint">Beside this page: {files}.</p>',
    )


def _figures(report: Report) -> str:
    results = report.results
    count = results["num_images"]
    intervals = {k: wilson_interval(results[f"top_{k}_accuracy"], count) for k in (1, 5)}
    error = expected_calibration_error(report.calibration)
    figures = [
        *(
            (f"top-{k} accuracy", f"{results[f'top_{k}_accuracy']:.2%}", f"95%: {100 * low:.2f} to {100 * high:.2f}")
            for k, (low, high) in intervals.items()
        ),
        ("mean over classes", f"{mean_class_accuracy(report.classes):.2%}", "top-1, each the same"),
        ("loss", f"{results['loss']:.4f}", "cross-entropy, nats"),
        ("calibration error", f"{error:.2%}", f"expected, in {len(report.calibration)} bins"),
        ("images", f"{count:,.0f}", f"{len(report.label_names):,} classes"),
    ]
    boxes = (f'<div class="figure">{name}<b>{value}</b><span>{note}</span></div>' for name, value, note in figures)
    return f'<div class="figures">{"".join(boxes)}</div>'


def _curves(curves: TrainingCurves) -> str:
    names = {"loss": "Loss", "top_1_accuracy": "Top-1 accuracy", "learning_rate": "Learning rate"}
    formats = {"top_1_accuracy": "{:.0%}".format}
    charts = [
        svg_charts.line_chart(names[name], "epoch", series, formats.get(name, "{:g}".format))
        for name, series in curves.series.items()
    ]
    body = f'<div class="charts">{"".join(charts)}</div>' if any(charts) else ""
    notes = ["Training: of augmented images, its loss with label smoothing and weight decay." if body else
             "The run has no log of its training."]  # fmt: skip
    if curves.damaged:
        notes.append(f"{curves.damaged:,} damaged lines of log.jsonl were left out.")
    return f'<h2>Training</h2>\n{body}<p class="faint">{" ".join(notes)}</p>'


def _classes(report: Report) -> str:
    ordered = sorted(report.classes, key=lambda one: (one.accuracy is None, one.accuracy, one.label))
    rows = []
    for one in ordered[:ROWS]:
        taken = one.confusion and f"{report.label_names[one.confusion.predicted]} ({one.confusion.share:.1%})"
        accuracy = with_interval(one.accuracy, one.images) if one.accuracy is not None else "no images"
        precision = f"{one.precision:.2%}" if one.precision is not None else "never predicted"
        rows.append([report.label_names[one.label], f"{one.images:,}", accuracy, precision, taken or ""])
    note = "Worst first. Accuracy with its 95% interval; precision: how many of its predictions are right."
    if len(ordered) > ROWS:
        note += f" The worst {ROWS:,} of {len(ordered):,} classes; per_class.csv has all."
    heads = ["class", "images", "accuracy", "precision", "most often taken for"]
    return f'<h2>Classes</h2>\n<p class="faint">{note}</p>{_table(heads, rows, {0, 4})}'


def _confusions(report: Report) -> str:
    rows = [
        [report.label_names[pair.label], report.label_names[pair.predicted], f"{pair.images:,}", f"{pair.share:.1%}"]
        for pair in report.confusions[:PAIRS]
    ]
    table = _table(["class", "taken for", "images", "share of the class"], rows, {0, 1}) if rows else ""
    return (
        '<h2>Confusions</h2>\n<p class="faint">Rows: the true class; columns: the predicted one. Colour: share of the '
        f"row's images, on a square-root scale, so that rare confusions are seen.</p>"
        f'<img alt="Confusion matrix" src="{data_uri(report.confusion_png)}">\n'
        + (f"<p>The {len(rows)} most frequent of {len(report.confusions):,} confusions:</p>{table}" if rows else "")
    )


def _calibration(bins: Sequence[CalibrationBin]) -> str:
    total = sum(part.images for part in bins)
    confidence, accuracy = (
        sum(part.images * value for part, value in zip(bins, values, strict=True)) / total
        for values in ([part.confidence for part in bins], [part.accuracy for part in bins])
    )
    surplus = 100 * (confidence - accuracy)
    rows = [
        [f"{part.low:.0%} to {part.high:.0%}", f"{part.images:,}", f"{part.confidence:.2%}", f"{part.accuracy:.2%}",
         f"{100 * (part.confidence - part.accuracy):+.2f}"]
        for part in bins if part.images
    ]  # fmt: skip
    return (
        '<h2>Calibration</h2>\n<p class="faint">Confidence is the probability of the predicted class. Where it is '
        "calibrated, bars reach the dashed line; a paler bar has fewer images.</p>\n"
        f"<p>Mean confidence {confidence:.2%}, accuracy {accuracy:.2%}: "
        f"{'over' if surplus > 0 else 'under'}confident by {abs(surplus):.2f} percentage points on the whole. "
        f"Expected calibration error {expected_calibration_error(bins):.2%}.</p>\n"
        f'<div class="charts">{svg_charts.reliability_diagram(bins)}'
        f"{_table(['confidence', 'images', 'mean confidence', 'accuracy', 'difference'], rows, {0})}</div>"
    )


def _errors(report: Report) -> str:
    if not report.errors:
        return "<h2>Errors</h2>\n<p>None.</p>"
    figures = "".join(
        f'<figure><img alt="" src="{data_uri(error.png)}"><figcaption><b>{html_text(error.predicted)}</b> '
        f"{error.confidence:.1%}<br>is {html_text(error.label)}, {error.label_probability:.1%}<br>"
        f'<span class="where">{html_text(error.where)}</span></figcaption></figure>'
        for error in report.errors
    )
    return (
        f'<h2>Most confident errors</h2>\n<p class="faint">{len(report.errors):,} of {report.num_errors:,}, as the '
        f'model saw them. Some may be labelled wrongly.</p><div class="errors">{figures}</div>'
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], names: set[int]) -> str:
    """Returns a table. names: the columns of words, to the left."""

    def cells(tag: str, values: Sequence[str]) -> str:
        marks = (' class="name"' if column in names else "" for column in range(len(values)))
        return "".join(f"<{tag}{mark}>{html_text(value)}</{tag}>" for mark, value in zip(marks, values, strict=True))

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="long"><table><thead><tr>{cells("th", heads)}</tr></thead><tbody>{body}</tbody></table></div>'
