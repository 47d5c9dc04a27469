"""Training steps side by side: images a second, CPU time a step. See README.md.

    python benchmarks/train_step.py --peer_python=PEERS/bin/python

Every trainer is a live process, frozen while it is not its turn; turns go round: A B C A B C. Then what this project's
training costs beside its compiled step is measured in one process, in turns too.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from peers.live import Turn
from peers.measured import MeasuredPeer, measure_round
from peers.registry import TRAINERS, TrainSettings


@dataclass
class MeasuredTrainer(MeasuredPeer):
    """A trainer with its measurements."""

    settings: TrainSettings

    @property
    def label(self) -> str:
        return f"{self.name}, moving average" if self.settings.ema else self.name


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark. Returns the exit status, 1 if a trainer failed; one that is not installed did not fail."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the frozen processes end too
    print(f"{os.cpu_count()} cores; Linux {platform.release()}, Python {platform.python_version()}")
    print(
        f"{options.model}, {options.size} px, batches of {options.batch_size}, float32, {options.threads} threads, "
        f"{options.steps} steps a turn"
    )
    rows = [row for ema in (False, True) for row in _measure(options, ema)]
    print("\n" + table(rows), flush=True)
    costs = _costs(options) if "project" in options.trainers else {}
    print(cost_lines(costs))
    if options.json:
        _write_json(options, rows, costs)
    return int(any(row.failure and not row.failure.startswith("not installed") for row in rows))


def table(rows: Sequence[MeasuredTrainer]) -> str:
    """Returns a Markdown table. Ratios of speeds are medians over the rounds, with minimum and maximum."""
    lines = [
        "| trainer | CPU s/step (min-max) | images/s (min-max) | x keras_fit, CPU | x keras_fit, clock "
        "| x timm_eager, CPU | x timm_eager, clock |",
        "|---|---|---|---|---|---|---|",
    ]
    measured = [row for row in rows if row.turns]
    for row in measured:
        cells = [row.label, _spread([_cpu_seconds(row, turn) for turn in row.turns])]
        cells.append(_spread([turn.images_per_second for turn in row.turns], digits=1))
        for name in ("keras_fit", "timm_eager"):
            others = [other for other in measured if (other.name, other.settings.ema) == (name, row.settings.ema)]
            pairs = list(zip(row.turns, others[0].turns, strict=False)) if others else []
            cells.append(_spread([its.cpu_ms_per_image / mine.cpu_ms_per_image for mine, its in pairs]))
            cells.append(_spread([mine.images_per_second / its.images_per_second for mine, its in pairs]))
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\n{row.label}: {row.failure}" for row in rows if row.failure]
    versions = {name: version for row in rows for name, version in row.versions.items()}
    lines.append("\n" + ", ".join(f"{name} {versions[name]}" for name in sorted(versions)))
    return "\n".join(lines) + "\n"


def cost_lines(costs: dict[str, list[float]]) -> str:
    """Returns lines on the measurements of `peers.step_costs`: excesses over the smaller, medians over rounds."""
    if not costs:
        return ""

    def excess(more: str, less: str) -> str:
        return _spread([100 * (a / b - 1) for a, b in zip(costs[more], costs[less], strict=True)], digits=1)

    return (
        f"the training loop beside its compiled step: {excess('run', 'step')} % more CPU time\n"
        f"loop, reports, metrics and moving average beside a step without: {excess('run', 'bare')} % more"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="efficientnet-b0", help="efficientnet-b0 .. b7")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--trainers", default=",".join(TRAINERS), help=f"comma-separated, of {', '.join(TRAINERS)}")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="measured of each trainer in each round")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that has timm and torch")
    parser.add_argument("--json", help="file for everything measured")
    options = parser.parse_args(arguments)
    options.trainers = options.trainers.split(",")
    unknown = sorted(set(options.trainers) - TRAINERS.keys())
    if unknown:
        parser.error(f"--trainers: {', '.join(unknown)}: not one of {', '.join(TRAINERS)}")
    for name in ("size", "batch_size", "rounds", "steps", "threads"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}={getattr(options, name)}: must be above 0")
    return options


def _settings(options: argparse.Namespace, ema: bool, folder: str) -> TrainSettings:
    return TrainSettings(options.model, options.size, options.batch_size, ema, options.steps, options.threads, folder)


def _measure(options: argparse.Namespace, ema: bool) -> list[MeasuredTrainer]:
    """Measures all trainers on the same work, and ends their processes, which together take some gigabytes."""
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(TemporaryDirectory()) for _ in options.trainers]
        rows = [
            MeasuredTrainer(name, _settings(options, ema, folder))
            for name, folder in zip(options.trainers, folders, strict=True)
        ]
        for row in rows:
            python = options.peer_python if TRAINERS[row.name].python == "peer" else sys.executable
            if row.start(python, stack) and row.live:
                print(f"started {row.label}: first steps after {row.live.ready_s:.1f} s", flush=True)
        for number in range(options.rounds):
            # Without a time, a turn is one run of steps, after as many that are not counted.
            others = measure_round(rows, seconds=0.0)
            print(f"round {number + 1}: other processes kept {others:.2f} cores busy", flush=True)
    return rows


def _costs(options: argparse.Namespace) -> dict[str, list[float]]:
    benchmarks = Path(__file__).resolve().parent
    environment = {
        **os.environ,
        "PYTHONPATH": f"{benchmarks}{os.pathsep}{benchmarks.parent}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
    }
    with TemporaryDirectory() as folder:
        settings = json.dumps(dataclasses.asdict(_settings(options, True, folder)))
        command = [sys.executable, "-m", "peers.step_costs", settings, str(options.rounds)]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"peers.step_costs failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def _cpu_seconds(row: MeasuredTrainer, turn: Turn) -> float:
    return turn.cpu_ms_per_image * row.settings.batch_size / 1e3


def _spread(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _write_json(options: argparse.Namespace, rows: Sequence[MeasuredTrainer], costs: dict[str, list[float]]) -> None:
    trainers = [
        {
            "name": row.label,
            "failure": row.failure,
            "versions": row.versions,
            "turns": [vars(turn) for turn in row.turns],
        }
        for row in rows
    ]
    content = {"options": vars(options), "trainers": trainers, "cpu_seconds_per_step": costs}
    temporary = f"{options.json}.{os.getpid()}.tmp"
    Path(temporary).write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, options.json)


if __name__ == "__main__":
    sys.exit(main())
