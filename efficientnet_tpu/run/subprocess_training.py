"""A training as a process of its own: the command that a configuration is, for proofs and studies that run many."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_tpu.config.config import Config, options_of

_PACKAGE_PARENT = str(Path(__file__).parents[2])


def command(options: Mapping[str, Any]) -> list[str]:
    """What trains by `options` (flag name -> value), by this very interpreter; those at their default are left out."""
    defaults = options_of(Config())
    flags = [f"--{name}={value}" for name, value in options.items() if value != defaults[name]]
    return [sys.executable, "-u", "-c", "from efficientnet_tpu import cli; cli.run()", *flags]


def environment() -> dict[str, str]:
    """In which that command finds this package, wherever it is started."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([_PACKAGE_PARENT, os.environ.get("PYTHONPATH", "")])}
