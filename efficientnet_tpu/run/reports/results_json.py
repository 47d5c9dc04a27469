"""The results of a run, results.json: the evaluations of its best and last checkpoints, and what they measured.

No TensorFlow.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.run.confidence_interval import wilson_interval
from efficientnet_tpu.run.early_stopping import EarlyStopping, watched_split
from efficientnet_tpu.run.reports.measurement import Measurement

RESULTS_JSON = "results.json"


def results_json(
    entries: Iterable[Mapping[str, Any]],
    config: Config,
    best: EarlyStopping,
    measurement: Measurement,
    versions: Mapping[str, str],
) -> str:
    """Returns a JSON object with the last and the best evaluation of a run, and those of its validation images.

    entries: of log.jsonl. measurement: of the images that are watched. versions: of packages, by name. An interval is
    Wilson's of 95%.
    """
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    for entry in entries:
        if "num_images" in entry:
            found[entry["kind"], entry["step"]] = entry
    watched = watched_split(config)
    delivered = "last" if config.eval.checkpoint == "last" else "best"
    steps = {"best": best.best_step, "last": best.evaluated_step}
    results = [
        _result(found[images, step], checkpoint, dataclasses.replace(measurement, images=images))
        for checkpoint, step in steps.items()
        for images in dict.fromkeys((watched, "validation"))
        if (images, step) in found
    ]
    content = {"model_dir": config.run.model_dir, "delivered": delivered, "results": results, "versions": versions}
    return json.dumps(content, indent=1) + "\n"


def _result(entry: Mapping[str, Any], checkpoint: str, measurement: Measurement) -> dict[str, Any]:
    """Returns an evaluation with the intervals of its accuracies."""
    values: dict[str, Any] = {}
    for name, value in entry.items():
        if name not in ("kind", "time"):
            values[name] = value
        if name.endswith("_accuracy") and not name.startswith("train_"):
            values[f"{name}_interval"] = wilson_interval(value, entry["num_images"])
    return {"checkpoint": checkpoint, **values, "measured": dataclasses.asdict(measurement)}
