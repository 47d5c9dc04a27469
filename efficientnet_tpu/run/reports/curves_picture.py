"""The curves of a run as a picture, curves.png: loss, accuracy, learning rate and images a second over epochs."""

from collections.abc import Iterable, Mapping
from typing import Any

CURVES_PNG = "curves.png"
_WORDS = {"train": "training"}
# Of each panel: its title, and the names that entries have, with what stands behind the kind of entry in the legend.
_PANELS = (
    ("loss (nats)", {"loss": "", "raw_loss": ", raw weights"}),
    ("top-1 accuracy (%)", {"top_1_accuracy": "", "raw_top_1_accuracy": ", raw weights"}),
    ("learning rate", {"learning_rate": ""}),
    ("images a second", {"images_per_second": ""}),
)
_MOST_POINTS = 2000  # of a line; more than pixels


def curves_png(entries: Iterable[Mapping[str, Any]], title: str) -> bytes:
    """Returns a PNG file of 1,200 x 800 pixels with the entries of log.jsonl as curves."""
    from matplotlib.figure import Figure

    from efficientnet_tpu.display.plotting import png

    entries = list(entries)
    figure = Figure(figsize=(12, 8), dpi=100)
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.07, top=0.9, hspace=0.28, wspace=0.14)
    figure.suptitle(title)
    for axes, (label, names) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for (kind, name), (x, y) in _lines(entries, names).items():
            style = "-" if kind == "train" else "o-"
            scaled = [100 * value for value in y] if label.endswith("(%)") else y
            axes.plot(x, scaled, style, markersize=3.5, linewidth=1.4, label=_WORDS.get(kind, kind) + names[name])
        axes.set_title(label, loc="left", fontsize=11)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.25)
        if len(axes.lines) > 1:
            axes.legend(fontsize=9)
        axes.margins(y=0.1)
        if label != "top-1 accuracy (%)":
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    return png(figure, cut=False)  # without the search for an edge it takes half the time


def _lines(
    entries: list[Mapping[str, Any]], names: Mapping[str, str]
) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """Returns epochs and values of each kind of entry and name, at most _MOST_POINTS of them."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for entry in entries:
        for name in names:
            if name in entry:
                points.setdefault((entry["kind"], name), []).append((entry["epoch"], entry[name]))
    lines = {}
    for key, line in points.items():
        kept = line[:: -(-len(line) // _MOST_POINTS)]
        lines[key] = [x for x, _ in kept], [y for _, y in kept]
    return lines
