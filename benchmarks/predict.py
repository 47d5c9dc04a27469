"""Classifying image files side by side: `predict`, its two halves alone, and timm's inference script. See README.md.

    python benchmarks/predict.py --data_dir=FOLDER --peer_python=PEERS/bin/python

Every program is a live process, frozen while it is not its turn; turns go round: A B C A B C. Starts are not counted.
"""

import argparse
import contextlib
import os
import platform
import signal
import sys
from collections.abc import Sequence
from tempfile import TemporaryDirectory

from inference import MeasuredRuntime, spread, write_json
from peers.measured import measure_round
from peers.registry import PREDICTORS, PredictSettings

FORMS = ("run", "savedmodel", "keras", "tflite", "onnx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark. Returns the exit status, 1 if a program failed; one that is not installed did not fail."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the frozen processes end too
    print(f"{os.cpu_count()} cores; Linux {platform.release()}, Python {platform.python_version()}")
    with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        rows = _start(options, folder, stack)
        for number in range(options.rounds):
            others = measure_round(rows, options.seconds)
            load = os.getloadavg()[0]
            print(f"round {number + 1}: other processes kept {others:.2f} cores busy, load {load:.1f}", flush=True)
        for row in rows:
            if row.live and row.turns:
                row.peak_mb = row.live.memory_mb()["peak_rss"]
    print(f"\n{options.model} as {options.form}, {options.size} px, batches of {options.batch_size}")
    print(table(rows), flush=True)
    if options.json:
        write_json(options.json, options, rows)
    return int(any(row.failure and not row.failure.startswith("not installed") for row in rows))


def table(rows: Sequence[MeasuredRuntime]) -> str:
    """Returns a Markdown table of medians over the rounds, with minimum and maximum, and two ratios of our row.

    Ratios are those of a round: of what decoding and inference allow, one after the other on all cores, and of timm.
    """
    lines = ["| program | CPU ms/image | images/s | peak MB |", "|---|---|---|---|"]
    by_name = {row.name: row.turns for row in rows if row.turns}
    for row in rows:
        if row.turns:
            cells = [row.name, spread([turn.cpu_ms_per_image for turn in row.turns])]
            cells += [spread([turn.images_per_second for turn in row.turns], digits=1), f"{row.peak_mb:.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for words, shares in _ratios(by_name).items():
        lines.append(f"{words}: {spread(shares)}")
    lines += [f"{row.name}: {row.failure}" for row in rows if row.failure]
    versions = {name: version for row in rows for name, version in row.versions.items()}
    return "\n".join([*lines, ", ".join(f"{name} {versions[name]}" for name in sorted(versions))]) + "\n"


def _ratios(turns: dict[str, list]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    if {"ours", "decode", "infer"} <= turns.keys():
        rounds = list(zip(turns["ours"], turns["decode"], turns["infer"], strict=False))
        found["images/s of what decoding and inference allow"] = [
            ours.images_per_second * (1 / decode.images_per_second + 1 / infer.images_per_second)
            for ours, decode, infer in rounds
        ]
        found["CPU time that they need, of ours"] = [
            (decode.cpu_ms_per_image + infer.cpu_ms_per_image) / ours.cpu_ms_per_image for ours, decode, infer in rounds
        ]
    if {"ours", "timm"} <= turns.keys():
        rounds = list(zip(turns["ours"], turns["timm"], strict=False))
        found["images/s of timm's"] = [ours.images_per_second / timm.images_per_second for ours, timm in rounds]
        found["CPU time of timm's"] = [ours.cpu_ms_per_image / timm.cpu_ms_per_image for ours, timm in rounds]
    return found


def _start(options: argparse.Namespace, folder: str, stack: contextlib.ExitStack) -> list[MeasuredRuntime]:
    rows = []
    for name in options.programs:
        own = os.path.join(folder, name)
        os.mkdir(own)
        settings = PredictSettings(
            options.model, options.form, options.size, options.batch_size, options.workers, options.data_dir, own
        )
        row = MeasuredRuntime(name, settings)
        python = options.peer_python if PREDICTORS[name].python == "peer" else sys.executable
        if row.start(python, stack) and row.live:
            print(f"started {name}: {row.live.description['augmentation']}", flush=True)
        rows.append(row)
    return rows


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data_dir", required=True, help="FOLDER/<class>/*.jpg, read over and over")
    parser.add_argument("--model", default="efficientnet-b0", help="efficientnet-b0 .. b7")
    parser.add_argument("--form", default="run", choices=FORMS, help="of this project's model: a run, or an export")
    parser.add_argument("--size", type=int, default=224, help="side of the network's images in pixels")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--programs", default=",".join(PREDICTORS), help=f"comma-separated, of {', '.join(PREDICTORS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured of each program in each round")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that has timm and torch")
    parser.add_argument("--json", help="file for everything measured")
    options = parser.parse_args(arguments)
    options.programs = options.programs.split(",")
    if unknown := sorted(set(options.programs) - PREDICTORS.keys()):
        parser.error(f"--programs: {', '.join(unknown)}: not one of {', '.join(PREDICTORS)}")
    if not os.path.isdir(options.data_dir):
        parser.error(f"--data_dir={options.data_dir}: there is no such folder")
    for name in ("size", "batch_size", "rounds", "seconds", "workers"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}={getattr(options, name)}: must be above 0")
    options.data_dir = os.path.abspath(options.data_dir)
    return options


if __name__ == "__main__":
    sys.exit(main())
