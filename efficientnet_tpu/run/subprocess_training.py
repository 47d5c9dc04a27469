"""A training as a process of its own: its command and environment, for proofs and studies that run many."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_tpu.config.config import command_line

_PACKAGE_PARENT = str(Path(__file__).parents[2])


def command(options: Mapping[str, Any]) -> list[str]:
    """Returns the command that trains by `options` (flag name -> value), by this very interpreter."""
    # The command is named, since without any flag the program would only say how to use it.
    return [sys.executable, "-u", "-m", "efficientnet_tpu", "train_and_eval", *command_line(options)]


def environment() -> dict[str, str]:
    """Returns the environment in which that command finds this package, wherever it is started."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([_PACKAGE_PARENT, os.environ.get("PYTHONPATH", "")])}
