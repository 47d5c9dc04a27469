"""A run that has nothing left to train, known from its files: run.json, the names of checkpoints, the log.

No TensorFlow: the same command given again answers at once, with the results that the log holds.
"""

import os
from typing import Any

from efficientnet_tpu.config.config import OPTIONS, Config, run_options
from efficientnet_tpu.config.data_paths import absolute_paths
from efficientnet_tpu.hardware.tf_config import read_tf_config
from efficientnet_tpu.run import run_record
from efficientnet_tpu.run.checkpoint_names import newest_step
from efficientnet_tpu.run.early_stopping import EarlyStopping, describe_delivery, watched_split
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, read_log, summary
from efficientnet_tpu.storage import presence
from efficientnet_tpu.training.learning_rate import make_schedule


def describe_finished(config: Config) -> str:
    """Returns the lines that a training by `config` prints where its run has ended already, else "".

    Also "" where the files do not tell: on gs://, without the log's last evaluation, or where other images or an option
    that the run is bound to were given; and on one of several hosts, which may find other files than the others, who
    wait for it. The training finds out then.
    """
    model_dir = config.run.model_dir
    is_seen = presence.is_local(model_dir) and read_tf_config().count == 1
    if not is_seen or not run_record.has_run(model_dir):
        return ""
    record, step = run_record.load(model_dir), newest_step(model_dir)
    given = _given_options(record.config, config)
    if record.data_fingerprint == run_record.IMPORTED or any(map(_may_be_refused, given)):
        return ""
    results: dict[str, dict[str, Any]] = {}  # the last of each kind
    early_stopping = EarlyStopping()
    watched = watched_split(record.config)
    entries = read_log(os.path.join(model_dir, LOG_JSONL)).entries
    for entry in (entry for entry in entries if "num_images" in entry):  # an evaluation
        results[entry["kind"]] = entry
        if entry["kind"] == watched:
            early_stopping = early_stopping.after(entry["step"], entry["top_1_accuracy"])
    stops_early = early_stopping.should_stop(config.eval.early_stopping_patience)
    total_steps = make_schedule(config.train, record.num_train_images).total_steps
    if early_stopping.evaluated_step != step or not (stops_early or step >= total_steps):
        return ""
    num_classes = len(record.label_names)
    how, flag = ("stopped early", "early_stopping_patience") if stops_early else ("finished", "train_epochs")
    lines = [f"this run has {how}: {summary(results[watched], num_classes)}; raise --{flag} to train on"]
    lines += describe_delivery(record.config, early_stopping)
    if watched == "minival" and "validation" in results:
        of_best = results["validation"]
        lines.append(f"validation of the best checkpoint, step {of_best['step']}: {summary(of_best, num_classes)}")
    if given:
        flags = ", ".join(f"--{name}={value}" for name, value in given.items())
        lines.insert(0, f"{flags}: change{'s' * (len(given) == 1)} nothing in the run, which has {how}")
    return "\n".join(lines)


def _given_options(stored: Config, config: Config) -> dict[str, Any]:
    """Returns the options that are other than the run's, by flag name. auto and None are what the run chose; a run may
    have been moved.
    """
    before, now = run_options(stored), run_options(config)
    now["data_dir"] = absolute_paths(now["data_dir"])  # as run.json has it
    return {
        name: value for name, value in now.items() if value not in (before[name], "auto", None) and name != "model_dir"
    }


def _may_be_refused(name: str) -> bool:
    """Returns whether a run may not go on with another value: of other images only a look at them tells."""
    return OPTIONS[name].may_change != "always" or name in ("data_dir", "dataset")
