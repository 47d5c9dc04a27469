"""One training of one contestant: its process, and the CPU and wall time at which it printed each accuracy."""

import csv
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peers import process_tree

# As this project's training prints an evaluation; the peers print the same.
_LINE = re.compile(r"-- .*\bepoch ([\d.]+)\s+top-1 ([\d.]+)%")
_COLUMNS = ("epoch", "top_1_accuracy", "cpu_minutes", "wall_minutes")


class TrainingFailedError(Exception):
    """A training ended with an error, or without any accuracy; the message is the end of what it printed."""


@dataclass(frozen=True)
class Point:
    """An accuracy on the held-out images, a share, and what it had cost since the start of the process."""

    epoch: float
    top_1_accuracy: float
    cpu_minutes: float  # user and system, of the whole process tree
    wall_minutes: float


def read_accuracy(line: str) -> tuple[float, float] | None:
    """Returns the epoch and the accuracy, a share, that a line reports; None where it reports none."""
    found = _LINE.match(line)
    return (float(found[1]), float(found[2]) / 100) if found else None


def accuracy_line(epoch: float, accuracy: float) -> str:
    """Returns the line by which a contestant reports the accuracy, a share, after so many epochs."""
    return f"-- validation  epoch {epoch:.2f}  top-1 {accuracy:.2%}"


def train(command: Sequence[str], environment: Mapping[str, str], log: Path) -> list[Point]:
    """Runs a training to its end, and returns its curve. What it prints goes to `log`.

    Raises TrainingFailedError.
    """
    started, curve = time.monotonic(), []
    with (
        open(log, "w", buffering=1) as written,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **environment},
            start_new_session=True,  # a process group of its own, with its workers
        ) as process,
    ):
        assert process.stdout
        try:
            for line in process.stdout:
                accuracy = read_accuracy(line)
                if accuracy:
                    cpu_seconds = process_tree.cpu_seconds(process.pid)
                    curve.append(Point(*accuracy, cpu_seconds / 60, (time.monotonic() - started) / 60))
                written.write(line)
        except BaseException:
            process.terminate()
            raise
    if process.returncode or not curve:
        raise TrainingFailedError(f"exit status {process.returncode}: {log.read_text()[-1500:]}")
    return curve


def write_curve(path: Path, curve: Sequence[Point]) -> None:
    """Writes a curve as CSV, whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with open(temporary, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(_COLUMNS)
        rows.writerows([f"{value:.6g}" for value in vars(point).values()] for point in curve)
    os.replace(temporary, path)


def read_curve(path: Path) -> list[Point]:
    """Returns a curve that `write_curve` has written."""
    with open(path, newline="") as file:
        return [Point(*(float(row[name]) for name in _COLUMNS)) for row in csv.DictReader(file)]
