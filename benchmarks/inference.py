"""Inference side by side: one image on one core, a batch on all, start-up and memory. See README.md.

    python benchmarks/inference.py --peer_python=PEERS/bin/python

Every runtime is a live process, frozen while it is not its turn; turns go round: A B C A B C.
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

from peers.measured import MeasuredPeer, measure_round
from peers.registry import RUNTIMES, InferenceSettings

# The runtimes that the others are compared with.
BASELINES = ("keras_function", "timm_onnx")


@dataclass
class MeasuredRuntime(MeasuredPeer):
    """A runtime at one batch size, with its measurements."""

    ready_s: float = 0.0
    peak_mb: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark. Returns the exit status, 1 if a runtime failed; one that is not installed did not fail."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the frozen processes end too
    print(f"{os.cpu_count()} cores; Linux {platform.release()}, Python {platform.python_version()}")
    rows: list[MeasuredRuntime] = []
    with TemporaryDirectory() as folder:
        _write_files(options, folder)
        for batch_size, threads in ((1, 1), (options.batch_size, options.threads)):
            settings = InferenceSettings(options.model, options.size, batch_size, threads, folder)
            measured = _measure(options, settings)
            print(f"\n{options.model}, {options.size} px, batch {batch_size}, {threads} threads, float32")
            print(table(measured), flush=True)
            rows += measured
    if options.json:
        write_json(options.json, options, rows)
    return int(any(row.failure and not row.failure.startswith("not installed") for row in rows))


def table(rows: Sequence[MeasuredRuntime]) -> str:
    """Returns a Markdown table of medians over the rounds, with minimum and maximum. Ratios are those of a round."""
    heads = ["runtime", "CPU ms/image", "images/s", *(f"CPU of {name}" for name in BASELINES), "start s", "peak MB"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    measured = [row for row in rows if row.turns]
    for row in measured:
        cells = [row.name, spread([turn.cpu_ms_per_image for turn in row.turns])]
        cells.append(spread([turn.images_per_second for turn in row.turns], digits=1))
        for name in BASELINES:
            base = next((other.turns for other in measured if other.name == name), [])
            ratios = [a.cpu_ms_per_image / b.cpu_ms_per_image for a, b in zip(row.turns, base, strict=False)]
            cells.append(spread(ratios))
        lines.append(f"| {' | '.join([*cells, f'{row.ready_s:.1f}', f'{row.peak_mb:.0f}'])} |")
    lines += [f"\n{row.name}: {row.failure}" for row in rows if row.failure]
    versions = {name: version for row in rows for name, version in row.versions.items()}
    lines.append("\n" + ", ".join(f"{name} {versions[name]}" for name in sorted(versions)))
    return "\n".join(lines) + "\n"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="efficientnet-b0", help="efficientnet-b0 .. b7")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch_size", type=int, default=16, help="of the second measurement; the first has one image")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES), help=f"comma-separated, of {', '.join(RUNTIMES)}")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.5, help="measured of each runtime in each round")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the second measurement")
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that has timm, torch and onnxscript")
    parser.add_argument("--json", help="file for everything measured")
    options = parser.parse_args(arguments)
    options.runtimes = options.runtimes.split(",")
    unknown = sorted(set(options.runtimes) - RUNTIMES.keys())
    if unknown:
        parser.error(f"--runtimes: {', '.join(unknown)}: not one of {', '.join(RUNTIMES)}")
    for name in ("size", "batch_size", "rounds", "seconds", "threads"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}={getattr(options, name)}: must be above 0")
    return options


def _write_files(options: argparse.Namespace, folder: str) -> None:
    """Writes the exported files of this project and of torch.onnx. A runtime reports a missing file."""
    model = (options.model, str(options.size), folder)
    commands = [[sys.executable, "-m", "peers.exported_files", "ours", *model]]
    if "timm_onnx" in options.runtimes:
        commands += [
            [options.peer_python, "-m", "peers.exported_files", "timm", *model, str(batch_size)]
            for batch_size in {1, options.batch_size}
        ]
    benchmarks = Path(__file__).resolve().parent
    environment = {
        **os.environ,
        "PYTHONPATH": f"{benchmarks}{os.pathsep}{benchmarks.parent}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
    }
    for command in commands:
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"{' '.join(command[2:4])} failed:\n{done.stderr[-1000:]}", flush=True)


def _measure(options: argparse.Namespace, settings: InferenceSettings) -> list[MeasuredRuntime]:
    with contextlib.ExitStack() as stack:
        rows = [MeasuredRuntime(name, settings) for name in options.runtimes]
        for row in rows:
            python = options.peer_python if RUNTIMES[row.name].python == "peer" else sys.executable
            if row.start(python, stack) and row.live:
                row.ready_s = row.live.ready_s
                print(f"started {row.name}: first result after {row.ready_s:.1f} s", flush=True)
        for number in range(options.rounds):
            others = measure_round(rows, options.seconds)
            print(f"round {number + 1}: other processes kept {others:.2f} cores busy", flush=True)
        for row in rows:
            if row.live and row.turns:
                row.peak_mb = row.live.memory_mb()["peak_rss"]
    return rows


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Returns the median, with minimum and maximum."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def write_json(path: str, options: argparse.Namespace, rows: Sequence[MeasuredRuntime]) -> None:
    """Writes everything that was measured."""
    runtimes = [
        {
            "name": row.name,
            "settings": dataclasses.asdict(row.settings),
            "failure": row.failure,
            "versions": row.versions,
            "ready_s": row.ready_s,
            "peak_mb": row.peak_mb,
            "turns": [vars(turn) for turn in row.turns],
        }
        for row in rows
    ]
    temporary = f"{path}.{os.getpid()}.tmp"
    Path(temporary).write_text(json.dumps({"options": vars(options), "runtimes": runtimes}, indent=1) + "\n")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
