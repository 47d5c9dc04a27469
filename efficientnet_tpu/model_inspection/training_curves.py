"""A run's log.jsonl as curves over epochs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.model_inspection.svg_charts import Series, thinned

CURVES = ("loss", "top_1_accuracy", "learning_rate", "images_per_second")


@dataclass(frozen=True)
class TrainingCurves:
    """A line of each of CURVES for each kind of entry that has it. damaged: lines of the log that cannot be read."""

    series: dict[str, list[Series]]
    damaged: int = 0


def training_curves(entries: Iterable[Mapping[str, Any]], damaged: int = 0) -> TrainingCurves:
    """Makes curves of the entries of log.jsonl. They are taken by name: averaged, raw and micro-batched alike."""
    points: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for entry in entries:
        for name in CURVES:
            if name in entry:
                x, y = points.setdefault((name, entry["kind"]), ([], []))
                x.append(float(entry["epoch"]))
                y.append(float(entry[name]))
    series = {
        name: [Series(_WORDS.get(kind, kind), *thinned(x, y)) for (of, kind), (x, y) in points.items() if of == name]
        for name in CURVES
    }
    return TrainingCurves({name: lines for name, lines in series.items() if lines}, damaged)


_WORDS = {"train": "training"}
