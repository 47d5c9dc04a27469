"""One training of a study: a process of its own, gone on with where it was interrupted; its result is in its log."""

import os
import resource
import subprocess
from dataclasses import dataclass

from efficientnet_tpu import training_process
from efficientnet_tpu.config import Config, UserError, options_of
from efficientnet_tpu.studies import measured

OUTPUT = "output.txt"  # in the trial's model_dir: what its training printed


@dataclass(frozen=True)
class Outcome:
    """Of a finished trial. Accuracies from 0 to 1, of its last evaluation; CPU time of this process's part of it."""

    top_1: float
    top_5: float
    epoch: float
    cpu_seconds: float


def run(config: Config, model_dir: str) -> Outcome:
    """Trains `config` in a local `model_dir` to its end, which is at once where it has been reached before.

    Raises UserError, with the last lines of what it printed, where the training fails.
    """
    os.makedirs(model_dir, exist_ok=True)
    path = os.path.join(model_dir, OUTPUT)
    before = _cpu_seconds()
    with open(path, "a", encoding="utf-8") as output:
        status = subprocess.call(
            training_process.command(options_of(config) | {"model_dir": model_dir}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=training_process.environment(),
        )
    if status:
        with open(path, encoding="utf-8") as output:
            last = "".join(output.readlines()[-15:])
        raise UserError(f"the training in {model_dir} ended with status {status}; all it printed is in {path}:\n{last}")
    found = measured.load_runs(model_dir)[0]
    return Outcome(found.top_1, found.top_5, found.epoch, _cpu_seconds() - before)


def _cpu_seconds() -> float:
    """Of all processes started here that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
