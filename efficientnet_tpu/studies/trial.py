"""Runs the trainings of a study in processes of their own, a few at a time, and resumes interrupted ones."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from efficientnet_tpu.config.config import Config, training_options
from efficientnet_tpu.errors import DivergedError, UserError
from efficientnet_tpu.hardware import output_streams, preemption, tensorflow_startup
from efficientnet_tpu.paper import run_results
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, read_log
from efficientnet_tpu.storage.durable import make_directories
from efficientnet_tpu.storage.regular_file import require_regular
from efficientnet_tpu.storage.write_errors import explained_write_errors

OUTPUT = "output.txt"  # in the trial's model_dir: what its training printed
T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of a training, by which it may be judged. top_1: 0..1."""

    epoch: float
    top_1: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of a finished trial: accuracies (0..1) of its last evaluation, CPU time of its last process.

    chosen_by: the top-1 accuracy of the last evaluation on the minival, where the training has one.
    is_pruned: whether the training was ended early.
    """

    top_1: float
    top_5: float
    epoch: float
    cpu_seconds: float
    chosen_by: float
    is_pruned: bool = False


class InterruptedTrialError(RuntimeError):
    """An interruption: a trial was asked to stop before its end, and its training is saved."""


@contextlib.contextmanager
def study_directory(output_dir: str, shared: bool = False) -> Iterator[None]:
    """Creates a study's --output_dir if need be and, unless other hosts share it, locks it.

    Raises UserError if it cannot be used or another program holds it.
    """
    if "://" in output_dir:
        raise UserError(f"--output_dir={output_dir}: must be a local directory; trials run on this machine.")
    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.storage import directory_lock

    with explained_write_errors(f"--output_dir={output_dir}"):
        make_directories(output_dir)
    # Hosts that share it also share a database, which gives each trial to one host. A trial locks its own model_dir.
    with contextlib.nullcontext() if shared else directory_lock.held(output_dir, "output_dir"):
        yield


def run(
    config: Config,
    model_dir: str,
    stop: Event,
    is_hopeless: Callable[[Sequence[Evaluation]], bool] = lambda evaluations: False,
) -> Outcome:
    """Trains `config` in a local `model_dir` to its end. A training that has ended before returns at once.

    Waits for a training that is still at work there, as that of a killed study is until it has saved.
    is_hopeless: is asked after each evaluation whether to end the training, whose outcome is then `is_pruned`.
    Raises InterruptedTrialError soon after `stop` is set, and UserError, with the last lines of its output, if the
    training fails; DivergedError if it diverges.
    """
    from efficientnet_tpu.storage import directory_lock
    from efficientnet_tpu.studies import trial_process

    # Left to them, trainings that are compared might take batches of different sizes.
    alike = training_options(config) | {"train_batch_size": config.train.batch_size, "model_dir": model_dir}
    output = os.path.join(model_dir, OUTPUT)
    with explained_write_errors(f"--output_dir={model_dir}"):
        make_directories(model_dir)
        require_regular(output, output)
        directory_lock.wait_until_free(model_dir, stop.is_set)  # of a training whose study was killed
        if stop.is_set():
            raise InterruptedTrialError(model_dir)
        process = trial_process.start(trial_process.train_by_flags, alike, output=output)
    is_ending, is_pruned, num_seen = False, False, 0
    while not process.wait(0.2):
        if not is_ending and stop.is_set():
            process.terminate()
            is_ending = True
        evaluations = [] if is_ending else read_evaluations(config, model_dir)
        if len(evaluations) > num_seen:
            num_seen = len(evaluations)
            if is_hopeless(evaluations):
                process.terminate()
                is_ending = is_pruned = True
    if stop.is_set():
        raise InterruptedTrialError(model_dir)
    status, cpu_seconds = process.returned(otherwise=lambda ended: (ended, 0.0))
    allowed = (0, output_streams.OUTPUT_LOST, *[preemption.PREEMPTED] * is_pruned)
    if status not in allowed:  # lost: the training is done all the same
        with open(output, encoding="utf-8") as file:
            last = "".join(file.readlines()[-15:])
        error = DivergedError if status == DivergedError.exit_status else UserError
        raise error(f"the training in {model_dir} ended with status {status}; all it printed is in {output}:\n{last}")
    found = run_results.load_runs(model_dir)[0]
    chosen_by = read_evaluations(config, model_dir)[-1].top_1
    return Outcome(found.top_1, found.top_5, found.epoch, cpu_seconds, chosen_by, is_pruned)


def read_evaluations(config: Config, model_dir: str) -> list[Evaluation]:
    """Returns the evaluations of a training so far, on the minival where it has one."""
    kind = "minival" if config.data.minival_percent else "validation"
    entries = read_log(os.path.join(model_dir, LOG_JSONL)).entries
    return [Evaluation(entry["epoch"], entry["top_1_accuracy"]) for entry in entries if entry["kind"] == kind]


def run_all(tasks: Sequence[Callable[[Event], T]], num_workers: int) -> Iterator[T]:
    """Calls every task with an Event, `num_workers` at a time, and yields results as they come.

    On the first failure, Ctrl-C or a signal to stop it sets the event, waits until running tasks have saved and ended,
    and raises.
    """
    stop = Event()

    def call(task: Callable[[Event], T]) -> T:
        if stop.is_set():
            raise InterruptedTrialError
        try:
            return task(stop)
        except BaseException:
            stop.set()  # here, before this thread takes the next task
            raise

    with preemption.ended_by_signals(), ThreadPoolExecutor(num_workers) as pool:
        try:
            for finished in as_completed([pool.submit(call, task) for task in tasks]):
                if not isinstance(finished.exception(), InterruptedTrialError):  # another task's failure is the reason
                    yield finished.result()
        finally:
            stop.set()
