"""The log of a run as a table, log.csv, for spreadsheets and pandas. No TensorFlow."""

from collections.abc import Iterable, Mapping
from typing import Any

from efficientnet_tpu.texts.csv_text import csv_text

LOG_CSV = "log.csv"


def log_csv(entries: Iterable[Mapping[str, Any]]) -> str:
    """Returns the entries of log.jsonl as CSV: a row for each, a column for each name."""
    entries = list(entries)
    columns = list(dict.fromkeys(name for entry in entries for name in entry))
    return csv_text([columns, *([entry.get(name, "") for name in columns] for entry in entries)])
