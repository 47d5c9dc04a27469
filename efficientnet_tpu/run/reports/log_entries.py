"""The entries of a run's log, log.jsonl, of which what is whole is read. No TensorFlow, but for gs://."""

from collections.abc import Mapping
from typing import Any

from efficientnet_tpu.run.confidence_interval import with_interval
from efficientnet_tpu.storage import json_lines

LOG_JSONL = "log.jsonl"
# The kind of an entry about the program's own output: not made again by a run that is taken up again.
OUTPUT = "output"
FEW_IMAGES = 5000  # of which an accuracy is known to worse than about a point
TOP_5_CLASSES = 10  # of fewer, most answers are right
_OF_EVALUATIONS = frozenset({"epoch", "loss", "top_1_accuracy", "top_5_accuracy"})
# The numbers that an entry of each kind has besides its step.
_NUMBERS = {
    "train": frozenset({"epoch", "loss"}),
    "validation": _OF_EVALUATIONS,
    "minival": _OF_EVALUATIONS,
    OUTPUT: frozenset({"epoch"}),
}


def read_log(path: str) -> json_lines.JsonLines[dict[str, Any]]:
    """Returns the entries of a log, local or gs://; none where there is no log."""
    return json_lines.read(path, _entry)


def _entry(value: Any) -> dict[str, Any]:
    """Returns `value`, the content of a line. Raises one of the errors of `json_lines.parse` if it is no entry."""
    missing = _NUMBERS[value["kind"]] - value.keys()
    numbers = [number for name, number in value.items() if name not in ("kind", "lost")]
    if missing or type(value["step"]) is not int or not all(type(number) in (int, float) for number in numbers):
        raise ValueError(value)
    sum(map(float, numbers))  # an integer that no float can hold
    return value


def summary(values: Mapping[str, float], num_classes: int) -> str:
    """Returns 'top-1 76.30%  top-5 93.20%  loss 0.9876' for the results of an evaluation.

    With results of the raw weights: 'top-1 76.30% (raw 75.10%)  ...'. Few images have the interval of top-1 beside it,
    few classes no top-5.
    """
    top_1, num_images = values["top_1_accuracy"], values["num_images"]
    text = with_interval(top_1, num_images) if num_images < FEW_IMAGES else f"{top_1:.2%}"
    raw = f" (raw {values['raw_top_1_accuracy']:.2%})" if "raw_top_1_accuracy" in values else ""
    top_5 = f"  top-5 {values['top_5_accuracy']:.2%}" if num_classes >= TOP_5_CLASSES else ""
    return f"top-1 {text}{raw}{top_5}  loss {values['loss']:.4f}"
