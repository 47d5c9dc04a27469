"""Parts of a report page on results: figures, classes, confusions, calibration. Each is a list of pieces of HTML."""

from collections.abc import Sequence

from efficientnet_tpu.display.html_page import Markup, data_uri, folded, name, note, scrolled, table
from efficientnet_tpu.model_inspection import svg_charts
from efficientnet_tpu.model_inspection.report.contents import Report
from efficientnet_tpu.model_inspection.statistics import (
    ClassResult,
    Confusion,
    expected_calibration_error,
    mean_class_accuracy,
    mean_f1,
)
from efficientnet_tpu.run.confidence_interval import wilson_interval
from efficientnet_tpu.run.reports.log_entries import TOP_5_CLASSES

OPEN_ROWS, ROWS = 30, 1000  # of the table of classes: seen at once, and in all
OPEN_PAIRS, PAIRS = 10, 100  # of the table of confusions
MATRIX_CLASSES = 20  # more are a picture
_DEEPEST = 0.5  # share of color in a full cell of the matrix: its number keeps a contrast of 4.5, light and dark


def figures(report: Report) -> str:
    """Returns the results as boxes, top-1 first, with their intervals."""
    results, count = report.results, report.results["num_images"]
    low, high = wilson_interval(results["top_1_accuracy"], count)
    boxes = [
        ("top-1 accuracy", f"{results['top_1_accuracy']:.2%}", f"95%: {100 * low:.2f}\N{EN DASH}{100 * high:.2f}"),
        ("mean recall", f"{mean_class_accuracy(report.classes):.2%}", "over classes"),
        ("mean F1", f"{mean_f1(report.classes):.2%}", "over classes"),
        ("loss", f"{results['loss']:.4f}", "cross-entropy"),
        ("calibration error", f"{expected_calibration_error(report.calibration):.2%}", "expected"),
        ("mistakes", f"{report.num_errors:,}", f"of {count:,.0f} images"),
    ]
    if len(report.label_names) >= TOP_5_CLASSES:
        low, high = wilson_interval(results["top_5_accuracy"], count)
        words = f"95%: {100 * low:.2f}\N{EN DASH}{100 * high:.2f}"
        boxes.insert(1, ("top-5 accuracy", f"{results['top_5_accuracy']:.2%}", words))
    return (
        '<div class="figures">'
        + "".join(
            f'<dl class="box"><dt>{what}</dt><dd>{value}</dd><dd class="more">{more}</dd></dl>'
            for what, value, more in boxes
        )
        + "</div>"
    )


def classes(report: Report) -> list[str]:
    """Returns tables of the classes, weakest first."""
    ordered = sorted(report.classes, key=lambda one: (one.f1 is None, one.f1, one.label))
    rows = [_class_row(report, one) for one in ordered[:ROWS]]
    heads = ["class", "recall", "precision", "F1", "images"]
    text = (
        "Weakest F1 first. Recall: the share of a class' images that were recognized, with its 95% interval. "
        "Precision: the share of its predictions that were right. F1: their harmonic mean."
    )
    if len(ordered) > ROWS:
        text += f" The weakest {ROWS:,} of {len(ordered):,} classes; per_class.csv has all."
    parts = [note(text), table(heads, rows[:OPEN_ROWS], "Results by class")]
    if rest := rows[OPEN_ROWS:]:
        words = f"{len(rest):,} stronger classes"
        parts.append(folded(words, table(heads, rest, f"Results by class: {words}")))
    return parts


def _class_row(report: Report, one: ClassResult) -> list[str]:
    words = name(report.label_names[one.label])
    if one.confusion:
        taken = name(report.label_names[one.confusion.predicted])
        words = Markup(f"{words}<small>taken for {taken}: {one.confusion.share:.0%}</small>")
    images = f"{one.images:,}"
    if report.training_images is not None:
        images = Markup(f"{images}<small>train: {report.training_images[one.label]:,}</small>")
    return [words, _recall(one), _percent(one.precision, "never"), _percent(one.f1, ""), images]


def _recall(one: ClassResult) -> str:
    if one.accuracy is None:
        return "no images"
    low, high = wilson_interval(one.accuracy, one.images)
    bar = f'<span class="bar"><i style="width:{one.accuracy:.1%}"></i></span>'
    return Markup(f"{one.accuracy:.1%}<small>{100 * low:.0f}\N{EN DASH}{100 * high:.0f}</small>{bar}")


def _percent(value: float | None, without: str) -> str:
    return without if value is None else f"{value:.1%}"


def confusions(report: Report) -> list[str]:
    """Returns the matrix, as a table of few classes and as a picture of more, and the most frequent pairs."""
    text = (
        "Rows: the true class; columns: the predicted one. Color: the share of the row's images, on a square-root "
        "scale, so that rare confusions are seen."
    )
    if report.matrix is not None:
        matrix = _matrix(report.matrix.tolist(), report.label_names)
    else:
        alt = f"Confusion matrix of {len(report.label_names):,} classes: the table below has the most frequent pairs"
        matrix = f'<p><img class="plot heat" alt="{alt}" src="{data_uri(report.confusion_png)}"></p>'
    if not report.confusions:
        return [note(text), matrix, "<p>No image was taken for another class.</p>"]
    heads = ["class", "taken for", "images", "share"]
    rows = [_pair_row(report, pair) for pair in report.confusions[:PAIRS]]
    count = f"{min(OPEN_PAIRS, len(rows)):,} of {len(report.confusions):,}"
    parts = [note(text), matrix, table(heads, rows[:OPEN_PAIRS], f"The most frequent confusions, {count}", {1})]
    if rest := rows[OPEN_PAIRS:]:
        parts.append(folded(f"{len(rest):,} more", table(heads, rest, "Less frequent confusions", {1})))
    return parts


def _pair_row(report: Report, pair: Confusion) -> list[str]:
    names = (name(report.label_names[label]) for label in (pair.label, pair.predicted))
    return [*names, f"{pair.images:,}", f"{pair.share:.1%}"]


def _matrix(counts: Sequence[Sequence[int]], label_names: Sequence[str]) -> str:
    names = [name(one) for one in label_names]
    upright = ' class="upright"' if len(names) > 6 else ""
    heads = "".join(f'<th scope="col"{upright}>{one}</th>' for one in names)
    lines = []
    for label, row in enumerate(counts):
        cells = "".join(_matrix_cell(count, sum(row), label == column) for column, count in enumerate(row))
        lines.append(f'<tr><th scope="row">{names[label]}</th>{cells}</tr>')
    caption = "Images by true class (row) and predicted class (column)"
    return scrolled(
        f'<table class="matrix"><caption>{caption}</caption><thead><tr><td></td>{heads}</tr></thead>\n'
        f"<tbody>{''.join(lines)}</tbody></table>",
        caption,
    )


def _matrix_cell(count: int, total: int, is_right: bool) -> str:
    if not count:
        return "<td></td>"
    depth = _DEEPEST * (count / total) ** 0.5
    color = "accent" if is_right else "bad"
    return f'<td style="background:color-mix(in srgb,var(--{color}) {depth:.0%},transparent)">{count}</td>'


def calibration(report: Report) -> list[str]:
    """Returns the reliability diagram and its numbers."""
    bins = report.calibration
    total = sum(part.images for part in bins)
    confidence, accuracy = (
        sum(part.images * value for part, value in zip(bins, values, strict=True)) / total
        for values in ([part.confidence for part in bins], [part.accuracy for part in bins])
    )
    surplus = 100 * (confidence - accuracy)
    rows = [
        [f"{100 * part.low:.0f}\N{EN DASH}{part.high:.0%}", f"{part.images:,}", f"{part.confidence:.2%}",
         f"{part.accuracy:.2%}", f"{100 * (part.confidence - part.accuracy):+.2f}"]
        for part in bins if part.images
    ]  # fmt: skip
    heads = ["confidence", "images", "mean", "accuracy", "gap"]
    return [
        note(
            "Confidence is the probability of the predicted class. Where it is calibrated, bars reach the dashed line; "
            "a paler bar has fewer images."
        ),
        f"<p>Mean confidence {confidence:.2%}, accuracy {accuracy:.2%}: "
        f"{'over' if surplus > 0 else 'under'}confident by {abs(surplus):.2f} percentage points on the whole. "
        f"Expected calibration error {expected_calibration_error(bins):.2%}.</p>",
        f'<div class="charts">{svg_charts.reliability_diagram(bins)}'
        f"{table(heads, rows, 'Accuracy by confidence')}</div>",
    ]
