"""A training as a process of its own: its command and environment, for proofs and studies that run many."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from efficientnet_tpu.config.config import command_line
from efficientnet_tpu.hardware import preemption

_PACKAGE_PARENT = str(Path(__file__).parents[2])


def start(options: Mapping[str, Any], output: int | IO[str]) -> subprocess.Popen[str]:
    """Starts the training by `options` (flag name -> value).

    It saves and stops when this process is gone, killed too, or closes the pipe to its standard input.
    output: a file or subprocess.PIPE, for what it prints.
    """
    watching = environment() | {preemption.WATCHED_INPUT: "1"}
    return subprocess.Popen(
        command(options), stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, text=True, env=watching
    )


def command(options: Mapping[str, Any]) -> list[str]:
    """Returns the command that trains by `options` (flag name -> value), by this very interpreter."""
    # The command is named, since without any flag the program would only say how to use it.
    return [sys.executable, "-u", "-m", "efficientnet_tpu", "train_and_eval", *command_line(options)]


def environment() -> dict[str, str]:
    """Returns the environment in which that command finds this package, wherever it is started."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([_PACKAGE_PARENT, os.environ.get("PYTHONPATH", "")])}
