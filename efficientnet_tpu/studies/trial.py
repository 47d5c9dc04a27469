"""Runs the trainings of a study in processes of their own, a few at a time, and resumes interrupted ones."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from efficientnet_tpu.config.config import Config, training_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import output_streams, preemption, tensorflow_startup
from efficientnet_tpu.paper import reproduce, run_results
from efficientnet_tpu.run import subprocess_training
from efficientnet_tpu.storage.durable import make_directories
from efficientnet_tpu.storage.write_errors import explained_write_errors

OUTPUT = "output.txt"  # in the trial's model_dir: what its training printed
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a finished trial: accuracies (0..1) of its last evaluation, CPU time of its last process."""

    top_1: float
    top_5: float
    epoch: float
    cpu_seconds: float


class InterruptedTrialError(RuntimeError):
    """An interruption: a trial was asked to stop before its end, and its training is saved."""


@contextlib.contextmanager
def study_directory(output_dir: str, shared: bool = False) -> Iterator[None]:
    """Creates a study's --output_dir if need be and, unless other hosts share it, locks it.

    Raises UserError if it cannot be used, another program holds it, or pictures could not be drawn.
    """
    if "://" in output_dir:
        raise UserError(f"--output_dir={output_dir}: must be a local directory; trials run on this machine.")
    reproduce.require_matplotlib(output_dir)
    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.storage import directory_lock

    with explained_write_errors(f"--output_dir={output_dir}"):
        make_directories(output_dir)
    # Hosts that share it also share a database, which gives each trial to one host. A trial locks its own model_dir.
    with contextlib.nullcontext() if shared else directory_lock.held(output_dir, "output_dir"):
        yield


def run(config: Config, model_dir: str, stop: Event) -> Outcome:
    """Trains `config` in a local `model_dir` to its end. A training that has ended before returns at once.

    Waits for a training that is still at work there, as that of a killed study is until it has saved. Raises
    InterruptedTrialError soon after `stop` is set, and UserError, with the last lines of its output, if the
    training fails.
    """
    from efficientnet_tpu.storage import directory_lock

    # Left to them, trainings that are compared might take batches of different sizes.
    alike = training_options(config) | {"train_batch_size": config.train.batch_size}
    path = os.path.join(model_dir, OUTPUT)
    with explained_write_errors(f"--output_dir={model_dir}"):
        make_directories(model_dir)
        output = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    with output:
        directory_lock.wait_until_free(model_dir, stop.is_set)  # of a training whose study was killed
        if stop.is_set():
            raise InterruptedTrialError(model_dir)
        with subprocess_training.start(alike | {"model_dir": model_dir}, output) as process:
            status, cpu_seconds = _wait(process, stop)
    if stop.is_set():
        raise InterruptedTrialError(model_dir)
    if status not in (0, output_streams.OUTPUT_LOST):  # then the training is done, and only its output is not whole
        with open(path, encoding="utf-8") as output:
            last = "".join(output.readlines()[-15:])
        raise UserError(f"the training in {model_dir} ended with status {status}; all it printed is in {path}:\n{last}")
    found = run_results.load_runs(model_dir)[0]
    return Outcome(found.top_1, found.top_5, found.epoch, cpu_seconds)


def _wait(process: subprocess.Popen[str], stop: Event) -> tuple[int, float]:
    """Waits for a process, which is told to save and end when `stop` is set. Returns exit status and CPU seconds."""
    is_stopping = False
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
            return process.returncode, usage.ru_utime + usage.ru_stime
        if is_stopping:
            time.sleep(0.2)
        elif stop.wait(0.2):
            process.terminate()
            is_stopping = True


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
