"""Input pipelines side by side: images a second, and CPU time an image. See README.md.

    python benchmarks/input_pipeline.py --data_dir=FOLDER --peer_python=PEERS/bin/python --simd_python=SIMD/bin/python
    python benchmarks/input_pipeline.py --data_dir=FOLDER --set=phone ...

The second takes mosaics of the photographs, as large as a telephone's: see `phone_photographs`.
Every pipeline is a live process tree, frozen while it is not its turn; turns go round: A B C A B C.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import phone_photographs
from peers.measured import MeasuredPeer, measure_round
from peers.registry import PEERS, Settings, default_peers


@dataclass
class Row(MeasuredPeer):
    """What is known of one pipeline."""

    label: str = ""  # the name, numbered where it is compared with itself
    memory_mb: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """How busy the machine was."""

    load_average: float  # over the minute before; the benchmark's own load is in it
    other_cores: float  # kept busy by other processes, mean of the round's turns


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 when a pipeline failed (one that is not installed did not)."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the frozen trees are ended too
    with tempfile.TemporaryDirectory(prefix="input-benchmark-", dir=options.work_dir) as folder:
        return _compare(options, folder)


def _compare(options: argparse.Namespace, folder: str) -> int:
    """Returns the exit status. folder: for what pipelines write."""
    data_dir = options.data_dir
    if options.set == "phone":
        data_dir = phone_photographs.build(options.data_dir, options.set_dir or folder, options.mosaics)
    settings = Settings(data_dir, options.size, options.batch_size, options.augment, options.workers, folder)
    num_files, num_bytes = _warm_page_cache(data_dir)
    print(f"{_cpu_model()}, {os.cpu_count()} cores; Linux {platform.release()}, Python {platform.python_version()}")
    print(f"{num_files} JPEG files, {num_bytes / num_files / 1e3:.0f} kB on average, read once: in the page cache")
    print(f"{options.size} px, batches of {options.batch_size}, augment={options.augment}, {options.workers} workers")
    rows = _rows(options.peers, settings)
    with contextlib.ExitStack() as stack:
        for row in rows:
            # Before the first turn that counts: caches, autotuning.
            if row.start(_python(row.name, options), stack, warm_up_seconds=2.0) and row.live:
                print(f"started {row.label}: first batch after {row.live.ready_s:.1f} s", flush=True)
        rounds = [_measure_round(rows, options.seconds, number) for number in range(options.rounds)]
    print("\n" + table(rows), end="")
    if options.json:
        _write_json(options.json, options, rows, rounds)
    return int(any(row.failure and not row.failure.startswith("not installed") for row in rows))


def table(rows: Sequence[Row]) -> str:
    """Markdown. Ratios are medians over the rounds: both sides of one were measured within seconds of each other."""
    measured = [row for row in rows if row.turns]
    peers = [row for row in measured if PEERS[row.name].role == "peer"]
    floors = [row for row in measured if row.name == "floor"]
    best = min(peers, key=_cpu_ms) if peers else None
    lines = [
        "| pipeline | CPU ms/image (min-max) | of the best peer | of the floor | images/s (min-max) | all cores "
        "| start s: import + first batch | MB (peak RSS) | augmentation; output |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(measured, key=_cpu_ms):
        assert row.live
        speeds = [turn.images_per_second for turn in row.turns]
        times = [turn.cpu_ms_per_image for turn in row.turns]
        cells = [
            row.label,
            f"{_cpu_ms(row):.2f} ({min(times):.2f}-{max(times):.2f})",
            _ratio(row, best),
            _ratio(row, floors[0] if floors else None),
            f"{statistics.median(speeds):.0f} ({min(speeds):.0f}-{max(speeds):.0f})",
            f"{1e3 * (os.cpu_count() or 1) / _cpu_ms(row):.0f}",
            "{imported_s:.1f} + {first_batch_s:.1f}".format(**row.live.description),
            f"{row.memory_mb['pss']:.0f} ({row.memory_mb['peak_rss']:.0f})",
            f"{row.live.description['augmentation']}; {row.live.description['form']}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\n{row.label}: {row.failure}" for row in rows if row.failure]
    versions = {name: version for row in rows for name, version in row.versions.items()}
    lines.append("\n" + ", ".join(f"{name} {versions[name]}" for name in sorted(versions)))
    return "\n".join(lines) + "\n"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data_dir", required=True, help="JPEG files, a folder for each class: FOLDER/<class>/*.jpg")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--augment", choices=("autoaugment", "randaugment", "none"), default="autoaugment")
    parser.add_argument("--batch_size", type=int, help="default: 128, and 32 of --set=phone")
    parser.add_argument("--set", choices=("given", "phone"), default="given", help="phone: mosaics of the photographs")
    parser.add_argument("--mosaics", type=int, default=60, help="of --set=phone")
    parser.add_argument("--set_dir", help="keeps the mosaics for further calls")
    parser.add_argument("--work_dir", help="where pipelines write before their first batch (default: TMPDIR)")
    parser.add_argument("--peers", help=f"names, comma-separated; one given twice is run twice. Of {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="measured of each pipeline in each round")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads or processes of each")
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that has the peers' packages")
    parser.add_argument("--simd_python", help="interpreter that has pillow-simd too (default: --peer_python)")
    parser.add_argument("--ffcv_python", help="interpreter that has FFCV (default: --peer_python)")
    parser.add_argument("--json", help="file for everything measured")
    options = parser.parse_args(arguments)
    options.peers = (
        options.peers.split(",") if options.peers else default_peers(options.augment, options.set == "phone")
    )
    options.batch_size = options.batch_size or (32 if options.set == "phone" else 128)
    unknown = sorted(set(options.peers) - PEERS.keys())
    if unknown:
        parser.error(f"--peers: {', '.join(unknown)}: not one of {', '.join(PEERS)}")
    for name in ("size", "batch_size", "rounds", "seconds", "workers", "mosaics"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}={getattr(options, name)}: must be above 0")
    options.data_dir = os.path.abspath(options.data_dir)
    if not any(Path(options.data_dir).glob("*/*")):
        parser.error(f"--data_dir={options.data_dir}: no FOLDER/<class>/*.jpg there")
    return options


def _python(name: str, options: argparse.Namespace) -> str:
    kind = PEERS[name].python
    if kind == "project":
        return sys.executable
    own = {"simd": options.simd_python, "ffcv": options.ffcv_python}
    return own.get(kind) or options.peer_python


def _rows(names: Sequence[str], settings: Settings) -> list[Row]:
    seen: Counter[str] = Counter()
    rows = []
    for name in names:
        seen[name] += 1
        label = name if seen[name] == 1 else f"{name} #{seen[name]}"
        folder = os.path.join(settings.folder, str(len(rows)))
        os.mkdir(folder)
        rows.append(Row(name, dataclasses.replace(settings, folder=folder), label=label))
    return rows


def _measure_round(rows: Sequence[Row], seconds: float, number: int) -> Round:
    load = os.getloadavg()[0]
    others = measure_round(rows, seconds)
    for row in rows:
        if row.live and not row.failure:
            row.memory_mb = row.live.memory_mb()
    print(f"round {number + 1}: load average {load:.1f}; other processes kept {others:.2f} cores busy", flush=True)
    return Round(load, others)


def _cpu_ms(row: Row) -> float:
    return statistics.median(turn.cpu_ms_per_image for turn in row.turns)


def _ratio(row: Row, other: Row | None) -> str:
    if other is None:
        return "-"
    pairs = zip(row.turns, other.turns, strict=False)  # one that failed midway has fewer
    return f"{statistics.median(mine.cpu_ms_per_image / its.cpu_ms_per_image for mine, its in pairs):.2f}"


def _warm_page_cache(data_dir: str) -> tuple[int, int]:
    sizes = [len(path.read_bytes()) for path in Path(data_dir).glob("*/*")]
    return len(sizes), sum(sizes)


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def _write_json(path: str, options: argparse.Namespace, rows: Sequence[Row], rounds: Sequence[Round]) -> None:
    content: dict[str, Any] = {"cpu": _cpu_model(), "cores": os.cpu_count(), "options": vars(options)}
    content["rounds"] = [vars(each) for each in rounds]
    content["pipelines"] = [
        {
            "name": row.label,
            "failure": row.failure,
            "versions": row.versions,
            "description": row.live.description if row.live else None,
            "ready_s": row.live.ready_s if row.live else None,
            "memory_mb": row.memory_mb,
            "turns": [{**vars(turn), "cpu_ms_per_image": turn.cpu_ms_per_image} for turn in row.turns],
        }
        for row in rows
    ]
    temporary = f"{path}.{os.getpid()}.tmp"
    Path(temporary).write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
