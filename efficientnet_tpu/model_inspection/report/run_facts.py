"""Collects what a report page says of a run beside its results: data, options, environment. No TensorFlow."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import efficientnet_tpu
from efficientnet_tpu.config.config import OPTIONS, Config, run_options
from efficientnet_tpu.model_inspection.report.contents import SplitSummary
from efficientnet_tpu.run.run_record import IMPORTED, RunRecord
from efficientnet_tpu.texts.secrets import masked

Rows = list[tuple[str, str, str]]


def option_rows(config: Config) -> tuple[Rows, Rows]:
    """Returns (flag, value, default) of a run's options: those of another value than the default, and the others."""
    chosen: Rows = []
    defaults: Rows = []
    for flag, value in run_options(config).items():
        if flag == "model_dir":
            continue
        default = OPTIONS[flag].default
        row = (flag, masked(_words(value)), "automatic" if default is None else _words(default))
        (defaults if value == default else chosen).append(row)
    return chosen, defaults


def _words(value: Any) -> str:
    return "automatic" if value is None else str(value) or "none"


def environment_rows(record: RunRecord, device: str, written: str) -> list[tuple[str, str]]:
    """Returns (what, which) of the run's last start, and of the report. device: of the report; written: when."""
    last: Mapping[str, Any] = record.starts[-1] if record.starts else {}
    versions = last.get("versions") or {}
    named = {
        "trained from": last.get("time"),
        "command": last.get("command"),
        "starts of the run": len(record.starts) or None,
        "revision": last.get("git_revision"),
        "Python": last.get("python"),
        **(versions if isinstance(versions, dict) else {}),
        "report written": written,
        "report made on": f"{device}, efficientnet-tpu {efficientnet_tpu.__version__}",
    }
    return [(what, masked(str(which))) for what, which in named.items() if which is not None]


def data_facts(record: RunRecord, config: Config, fingerprint: str, is_own: bool) -> list[str]:
    """Returns sentences on the images that were measured, and on those that the run was trained on."""
    facts = [f"Measured on {config.data.source}, fingerprint {fingerprint}."]
    if record.data_fingerprint == IMPORTED:
        return [*facts, "The weights were imported: they were trained elsewhere."]
    other = "" if is_own else f", of another data set: {record.config.data.source}"
    return [*facts, f"The run was trained on {record.num_train_images:,} images{other}."]


def summarize_split(split: str, num_images: int, counts: np.ndarray | None, label_names: Sequence[str]) -> SplitSummary:
    """Returns the summary of a split. counts: int64 [classes], images of each; None where they are not known."""
    if counts is None or not counts.any():
        return SplitSummary(split, num_images)
    filled = [(int(count), name) for count, name in zip(counts, label_names, strict=True) if count]
    fewest, most = (choose(filled, key=lambda pair: pair[0]) for choose in (min, max))
    return SplitSummary(split, num_images, len(filled), fewest, most)


def evaluations_of(entries: Iterable[Mapping[str, Any]], most: int = 200) -> list[Mapping[str, Any]]:
    """Returns the last evaluations in a log."""
    return [entry for entry in entries if "num_images" in entry][-most:]


def run_name(model_dir: str) -> str:
    """Returns what a person calls a run: the name of its directory."""
    return os.path.basename(os.path.abspath(model_dir)) if "://" not in model_dir else model_dir.rstrip("/")
