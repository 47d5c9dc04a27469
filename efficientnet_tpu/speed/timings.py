"""Calls that are timed one by one, and the table and the file of what they took. No TensorFlow."""

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

LEAST_CALLS = 10  # that are measured, however long they take
_WARM_UP_CALLS = 2


@dataclass(frozen=True)
class Timing:
    """A row of the table: the times and memory of calls with one batch.

    name: of the runtime, or of the device that trains. p50_ms, p90_ms, p99_ms: quantiles over the calls.
    images_per_second: of all calls together. cpu_ms: CPU time of an image, in all threads. start_s: until the first
    call had ended. peak_bytes: the most that the process held with this batch; device_peak_bytes: that the accelerator
    did, 0 where it is not told. calls: that were measured. failure: why there are no figures.
    """

    name: str
    batch_size: int
    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    images_per_second: float = 0.0
    cpu_ms: float = 0.0
    start_s: float = 0.0
    peak_bytes: int = 0
    device_peak_bytes: int = 0
    calls: int = 0
    failure: str = ""


def measure(
    name: str,
    batch_size: int,
    call: Callable[[], Any],
    seconds: float,
    started: float,
    device_peak: Callable[[], int] = lambda: 0,
) -> Timing:
    """Times calls, each to its end, for some seconds and LEAST_CALLS at least, after a warm-up.

    started: by time.monotonic(), when work for the first call began. device_peak: returns bytes.
    """
    call()
    start_s = time.monotonic() - started
    for _ in range(_WARM_UP_CALLS - 1):
        call()
    reset_peak_memory()
    taken: list[float] = []
    begin, cpu_begin = time.perf_counter(), time.process_time()
    before = begin
    while len(taken) < LEAST_CALLS or before - begin < seconds:
        call()
        now = time.perf_counter()
        taken.append(now - before)
        before = now
    cpu = time.process_time() - cpu_begin
    images = batch_size * len(taken)
    p50, p90, p99 = (1000 * float(value) for value in np.quantile(taken, (0.5, 0.9, 0.99)))
    rate = images / (before - begin)
    peaks = peak_memory(), device_peak()
    return Timing(name, batch_size, p50, p90, p99, rate, 1000 * cpu / images, start_s, *peaks, len(taken))


def peak_memory() -> int:
    """Returns the most bytes that this process has held since `reset_peak_memory`; since it began, off Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def reset_peak_memory() -> None:
    """Begins a new peak of what this process holds, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def header(label: str) -> str:
    """Returns the heads of the columns; label: of the first."""
    return (
        f"{label:<14}{'batch':>6}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}{'images/s':>11}{'CPU ms/image':>14}"
        f"{'start s':>9}{'peak MB':>9}{'calls':>7}"
    )


def line(timing: Timing) -> str:
    """Returns a row of the table under `header`."""
    begin = f"{timing.name:<14}{timing.batch_size:>6}"
    if timing.failure:
        return f"{begin}  {timing.failure}"
    quantiles = "".join(f"{value:>10.4g}" for value in (timing.p50_ms, timing.p90_ms, timing.p99_ms))
    peak = (timing.device_peak_bytes or timing.peak_bytes) / 1e6
    return (
        f"{begin}{quantiles}{timing.images_per_second:>11,.1f}{timing.cpu_ms:>14.4g}{timing.start_s:>9.1f}"
        f"{peak:>9,.0f}{timing.calls:>7,}"
    )


def report(facts: Mapping[str, Any], timings: Sequence[Timing]) -> str:
    """Returns the JSON of --report: the facts, and the rows as "timings"."""
    return json.dumps({**facts, "timings": [asdict(timing) for timing in timings]}, indent=1) + "\n"


def machine() -> dict[str, Any]:
    """Returns what the figures depend on: cores that this process may use, and the load average."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"cores": num_cores, "load_average": round(os.getloadavg()[0], 2), "python": sys.version.split()[0]}
