"""Parts of a report page on the run: curves, data, configuration, environment. Each is a list of pieces of HTML."""

from collections.abc import Mapping, Sequence

from efficientnet_tpu.display.html_page import Markup, folded, html, name, note, table
from efficientnet_tpu.model_inspection import svg_charts
from efficientnet_tpu.model_inspection.report.contents import Report, SplitSummary
from efficientnet_tpu.run.confidence_interval import with_interval
from efficientnet_tpu.texts.printable import shown

_TITLES = {
    "loss": "Loss",
    "top_1_accuracy": "Top-1 accuracy",
    "learning_rate": "Learning rate",
    "images_per_second": "Images a second",
}
_FORMATS = {"top_1_accuracy": "{:.0%}".format, "images_per_second": "{:,.0f}".format}
_LONGEST_VALUE = 400  # characters of an option


def curves(report: Report) -> list[str]:
    """Returns the charts of the log, and its evaluations."""
    charts = [
        svg_charts.line_chart(_TITLES[of], "epoch", series, _FORMATS.get(of, "{:g}".format))
        for of, series in report.curves.series.items()
    ]
    if not any(charts):
        return [_damage(report), "<p>The run has no log of its training.</p>"]
    parts = [
        note("Training: of augmented images, its loss with label smoothing and weight decay."),
        _damage(report),
        f'<div class="charts">{"".join(charts)}</div>',
    ]
    if report.evaluations:
        heads = ["step", "epoch", "images", "top-1 (95%)", "loss"]
        rows = [_evaluation_row(entry) for entry in report.evaluations]
        parts.append(folded(f"{len(rows):,} evaluations", table(heads, rows, "Evaluations during training", {2})))
    return parts


def _damage(report: Report) -> str:
    damaged = report.curves.damaged
    return note(f"{damaged:,} damaged lines of log.jsonl were left out.") if damaged else ""


def _evaluation_row(entry: Mapping[str, float]) -> list[str]:
    accuracy = with_interval(entry["top_1_accuracy"], entry["num_images"])
    images = f"{entry['num_images']:,.0f} {entry['kind']}"
    return [f"{entry['step']:,}", f"{entry['epoch']:.1f}", images, accuracy, f"{entry['loss']:.4f}"]


def data(report: Report) -> list[str]:
    """Returns the splits, and how their images are spread over classes."""
    heads = ["split", "images", "classes", "fewest in a class", "most in a class"]
    rows = [_split_row(split) for split in report.splits]
    facts = "".join(f"<p>{html(fact)}</p>" for fact in report.data_facts)
    return [facts, table(heads, rows, "Images by split", {3, 4}) if rows else ""]


def _split_row(split: SplitSummary) -> list[str]:
    row = [split.name, f"{split.images:,}"]
    if split.classes is None or not (split.fewest and split.most):
        return [*row, "", "known by reading all images: check-data does", ""]
    ends = (Markup(f"{images:,}<small>{name(of)}</small>") for images, of in (split.fewest, split.most))
    return [*row, f"{split.classes:,}", *ends]


def configuration(report: Report) -> list[str]:
    """Returns the options that are not at their defaults, and the others folded."""
    heads = ["option", "value", "default"]
    chosen = table(heads, _option_rows(report.chosen), "Options with another value than the default", {1, 2})
    others = table(heads[:2], [row[:2] for row in _option_rows(report.defaults)], "Options at their defaults", {1})
    return [chosen, folded(f"{len(report.defaults):,} options at their defaults", others)]


def _option_rows(options: Sequence[tuple[str, str, str]]) -> list[list[str]]:
    return [
        [Markup(f"<code>{html(flag).replace('_', '_<wbr>')}</code>"), *(shown(one, _LONGEST_VALUE) for one in values)]
        for flag, *values in options
    ]


def environment(report: Report) -> list[str]:
    """Returns where and by what the run was trained."""
    rows = [(what, Markup(f"<code>{html(which)}</code>")) for what, which in report.environment]
    return [table(["what", "which"], rows, "Of the run's last start, and of this report", {1})]
