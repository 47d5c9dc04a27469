"""The entries of a run's log, log.jsonl, of which what is whole is read. No TensorFlow, but for gs://."""

from collections.abc import Mapping
from typing import Any

from efficientnet_tpu.storage import json_lines

LOG_JSONL = "log.jsonl"
# The kind of an entry about the program's own output: not made again by a run that is taken up again.
OUTPUT = "output"
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


def summary(values: Mapping[str, float]) -> str:
    """Returns 'top-1 76.30%  top-5 93.20%  loss 0.9876  50,000 images' for the results of an evaluation.

    With results of the raw weights: 'top-1 76.30% (raw 75.10%)  ...'.
    """
    raw = f" (raw {values['raw_top_1_accuracy']:.2%})" if "raw_top_1_accuracy" in values else ""
    return (
        f"top-1 {values['top_1_accuracy']:.2%}{raw}  top-5 {values['top_5_accuracy']:.2%}  loss {values['loss']:.4f}"
        f"  {values['num_images']:,.0f} images"
    )
