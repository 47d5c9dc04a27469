"""The peak memory of trainings beside what is estimated before their first step. See docs/plan.md.

    python benchmarks/memory.py --cases=efficientnet-b0:8,efficientnet-b0:32

Every training is a process of its own, of three steps and an evaluation of as many images as a batch has. Linux only.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from efficientnet_tpu.config.config import Config, with_options  # noqa: E402
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES  # noqa: E402
from efficientnet_tpu.models.configured import configured_architecture  # noqa: E402
from efficientnet_tpu.training.memory import MemoryModel  # noqa: E402

STEPS = 3
CASES = (
    "efficientnet-b0:8,efficientnet-b0:16,efficientnet-b0:32,efficientnet-b2:4,efficientnet-b2:8,efficientnet-b2:16,"
    "efficientnet-lite0:8,efficientnet-lite0:32,efficientnet-lite0:64,mobilenet-v1:16,mobilenet-v1:32,mobilenet-v1:64,"
    "resnet-50:8,resnet-50:16,resnet-50:32"
)
# Linux counts what a process held before it became another program: a child's peak is at least its parent's, be that a
# test process of gigabytes. This one holds 10 MB, runs a command, and writes the command's peak, in KiB, to a file.
LAUNCHER = """
import os, sys
path, *command = sys.argv[1:]
_, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, command[0], command), 0)
with open(path, "w") as file:
    file.write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Case:
    """A training: a model, its batch, and further options by flag name."""

    model: str
    batch_size: int
    options: tuple[tuple[str, str], ...] = ()

    @property
    def config(self) -> Config:
        return with_options(Config(), {"model": self.model, "train_batch_size": self.batch_size, **dict(self.options)})

    def estimated_bytes(self) -> float:
        """Returns what a run would be told that it needs."""
        architecture = configured_architecture(self.config.model, NUM_IMAGENET_CLASSES)
        half = self.config.hardware.precision == "bfloat16"
        model = MemoryModel(architecture, self.batch_size, activation_bytes=2 if half else 4)
        return model.estimate(self.config.train).host

    def measured_bytes(self) -> float:
        """Returns the most that the training held. Raises RuntimeError with its last line if it fails."""
        with TemporaryDirectory() as folder:
            command = [
                sys.executable,
                str(ROOT / "main.py"),
                f"--model={self.model}",
                f"--train_batch_size={self.batch_size}",
                f"--dataset=fake:{NUM_IMAGENET_CLASSES}:{STEPS * self.batch_size}:{self.batch_size}",
                f"--model_dir={folder}/run",
                "--train_epochs=1",
                "--nomemory_check",
                *(f"--{name}={value}" for name, value in self.options),
            ]
            done = measured(command, f"{folder}/peak")
            if done.returncode:
                raise RuntimeError(f"{self}: {done.stdout.splitlines()[-1:]}")
            return peak_bytes(f"{folder}/peak")


def measured(command: Sequence[str], path: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, stderr within stdout; the file at `path` is for `peak_bytes`."""
    launched = [sys.executable, "-c", LAUNCHER, path, *command]
    return subprocess.run(launched, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def peak_bytes(path: str) -> float:
    """Returns the most that a command of `measured` held."""
    return int(Path(path).read_text()) * 1024.0


def parse_cases(text: str, options: Sequence[str] = ()) -> list[Case]:
    """Returns the cases of a list MODEL:BATCH,MODEL:BATCH,... options: NAME=VALUE each."""
    given = tuple((name, value) for name, _, value in (option.partition("=") for option in options))
    pairs = (case.split(":") for case in text.split(","))
    return [Case(model, int(size), given) for model, size in pairs]


def row(case: Case, measured: float) -> str:
    """Returns a row of the table, in GB."""
    estimated = case.estimated_bytes()
    named = " ".join([case.model, *(f"--{name}={value}" for name, value in case.options)])
    return (
        f"| {named} | {case.batch_size} | {measured / 1e9:.2f} | {estimated / 1e9:.2f} "
        f"| {estimated / measured - 1:+.0%} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=CASES, help="MODEL:BATCH,MODEL:BATCH,...")
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE, a flag of all trainings")
    options = parser.parse_args(arguments)
    print(f"| network | images a step | peak, GB | estimated, GB | difference |\n|{'---|' * 5}")
    for case in parse_cases(options.cases, options.option):
        print(row(case, case.measured_bytes()), flush=True)


if __name__ == "__main__":
    main()
