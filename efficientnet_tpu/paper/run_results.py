"""The results of runs, shown in the paper's tables beside the printed ones."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Variant
from efficientnet_tpu.models.configured import configured_variant


@dataclass(frozen=True)
class RunResult:
    """The last evaluation of a run, with accuracies from 0 to 1."""

    model_dir: str
    variant: Variant
    source: str  # of the images, as the flag that named them
    num_classes: int
    split: str  # validation or minival
    epoch: float
    top_1: float
    top_5: float


def load_runs(directory: str) -> list[RunResult]:
    """Returns the result of the run in a model_dir, or those of the runs in the folders of a directory.

    Leaves out runs without an evaluation. Raises UserError if there is no other.
    """
    import tensorflow as tf

    from efficientnet_tpu.run.run_record import RUN_JSON

    def is_run(path: str) -> bool:
        return tf.io.gfile.exists(os.path.join(path, RUN_JSON))

    directory = directory.rstrip("/")
    inside = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) and not is_run(directory) else []
    folders = [os.path.join(directory, name.rstrip("/")) for name in sorted(inside)] or [directory]
    runs = [run for folder in folders if is_run(folder) and (run := _load_run(folder))]
    if not runs:
        raise UserError(f"--model_dir={directory}: no run that has been evaluated, here or in a folder of it.")
    return runs


def _load_run(model_dir: str) -> RunResult | None:
    from efficientnet_tpu.run import run_record
    from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, read_log

    record = run_record.load(model_dir)
    path = os.path.join(model_dir, LOG_JSONL)
    log = read_log(path)
    if log.damaged:
        print(log.damage(path), file=sys.stderr, flush=True)
    evaluations = [entry for entry in log.entries if "top_5_accuracy" in entry]
    if not evaluations:
        return None
    # A minival may have selected the checkpoint, so a validation set is preferred.
    last = next((entry for entry in reversed(evaluations) if entry["kind"] == "validation"), evaluations[-1])
    return RunResult(
        model_dir,
        configured_variant(record.config.model),
        record.config.data.source,
        len(record.label_names),
        last["kind"],
        last["epoch"],
        last["top_1_accuracy"],
        last["top_5_accuracy"],
    )


def find_best(runs: Iterable[RunResult], variant: Variant) -> RunResult | None:
    """Returns the best run of a network on a data set that may be ImageNet, or None."""
    found = [run for run in runs if may_be_imagenet(run) and is_same_network(run.variant, variant)]
    return max(found, key=lambda run: run.top_1, default=None)


def may_be_imagenet(run: RunResult) -> bool:
    """Returns whether a run's images have as many classes as ImageNet's and are not made up."""
    return run.num_classes == NUM_IMAGENET_CLASSES and not run.source.startswith("--dataset=fake")


def is_same_network(one: Variant, other: Variant) -> bool:
    """Returns whether two variants are one network at one resolution, however they are trained."""
    fields = ("baseline", "width_coefficient", "depth_coefficient", "resolution", "se_ratio", "activation")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def describe_runs(runs: Iterable[RunResult], shown: Iterable[Variant]) -> list[str]:
    """Returns a line on each run with its result, and with the reason if a table of `shown` does not contain it."""
    shown = list(shown)
    lines = []
    for run in runs:
        line = f"{run.model_dir}: top-1 {run.top_1:.2%} on {run.split} at epoch {run.epoch:g}, {run.source}"
        if not may_be_imagenet(run):
            line += f"; {run.num_classes} classes, not ImageNet: not in the table"
        elif not any(is_same_network(run.variant, variant) for variant in shown):
            line += "; another network than those of the table"
        lines.append(line)
    return lines
