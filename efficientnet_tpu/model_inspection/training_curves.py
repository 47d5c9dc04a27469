"""A run's log.jsonl as curves over epochs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from efficientnet_tpu.model_inspection.svg_charts import Series, thinned

CURVES = ("loss", "top_1_accuracy", "learning_rate")


@dataclass(frozen=True)
class TrainingCurves:
    """A line of each of CURVES for each kind of entry that has it. damaged: lines of the log that cannot be read."""

    series: dict[str, list[Series]]
    damaged: int


def training_curves(lines: Iterable[str]) -> TrainingCurves:
    """Reads curves from the lines of log.jsonl. Entries are taken by name: averaged, raw and micro-batched alike."""
    points: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    damaged = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            kind, epoch = entry["kind"], float(entry["epoch"])
            values = {name: float(entry[name]) for name in CURVES if name in entry}
        except (ValueError, KeyError, TypeError):
            damaged += 1
            continue
        for name, value in values.items():
            x, y = points.setdefault((name, kind), ([], []))
            x.append(epoch)
            y.append(value)
    series = {
        name: [Series(_WORDS.get(kind, kind), *thinned(x, y)) for (of, kind), (x, y) in points.items() if of == name]
        for name in CURVES
    }
    return TrainingCurves({name: lines for name, lines in series.items() if lines}, damaged)


_WORDS = {"train": "training"}
