"""The process of one pipeline: `python -m peers.server NAME CLASS SETTINGS [probe]`. Speaks JSON, a line each.

At start it says {"augmentation", "form", "imported_s", "first_batch_s"}; with `probe` it says {"versions"} instead,
and ends. Where a package is missing it says {"missing"} and ends. Anything else that goes wrong ends it with a
traceback. Then, for each line `SECONDS` on stdin, it measures its own process group: {"batches", "seconds",
"cpu_seconds", "other_cores"}.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from peers import registry
from peers.process_tree import cpu_seconds, machine_busy_seconds
from peers.registry import Peer, find_peer

DRAIN_SECONDS = 1.5


def main() -> None:
    """Serves until stdin ends."""
    started = time.monotonic()
    # Libraries print to stdout: what they print goes to stderr, the answers alone to where stdout was.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer = find_peer(sys.argv[1], getattr(registry, sys.argv[2]))
    settings = peer.settings(**json.loads(sys.argv[3]))
    try:
        versions = {name: metadata.version(name) for name in peer.packages}
    except metadata.PackageNotFoundError as error:
        print(json.dumps({"missing": error.name}), file=answers)
        return
    module = importlib.import_module(f"peers.{peer.module}")
    imported = time.monotonic()
    if sys.argv[4:] == ["probe"]:
        print(json.dumps({"versions": versions}), file=answers)
        return
    augmentation, batches = module.build(settings)
    first = next(batches)
    description = {
        "augmentation": augmentation,
        "form": f"{getattr(first.dtype, 'name', str(first.dtype).removeprefix('torch.'))} {list(first.shape)}",
        "imported_s": imported - started,
        "first_batch_s": time.monotonic() - imported,
    }
    del first
    print(json.dumps(description), file=answers)
    for line in sys.stdin:
        print(json.dumps(measure(batches, float(line), peer, settings.workers)), file=answers)


def measure(batches: Iterator[Any], seconds: float, peer: Peer, workers: int) -> dict[str, float]:
    """Takes batches for about `seconds` as fast as they come, after those that were ready before.

    The queues are empty at the start, and stay so, since nothing is done with a batch. Both ends are the moment a
    batch came, from the same worker where each prepares whole batches. So the work begun and not delivered is alike
    at both ends, and none is charged to another measurement.
    """
    _take(batches, DRAIN_SECONDS, peer.min_batches)
    group = os.getpgrp()
    cpu, busy, started = cpu_seconds(group), machine_busy_seconds(), time.monotonic()
    count = _take(batches, seconds, peer.min_batches, workers if peer.min_batches > 1 else 1)
    elapsed, cpu = time.monotonic() - started, cpu_seconds(group) - cpu
    other = machine_busy_seconds() - busy - cpu
    return {"batches": count, "seconds": elapsed, "cpu_seconds": cpu, "other_cores": max(other / elapsed, 0.0)}


def _take(batches: Iterator[Any], seconds: float, least: int, multiple: int = 1) -> int:
    count, end = 0, time.monotonic() + seconds
    while count < least or count % multiple or time.monotonic() < end:
        next(batches)
        count += 1
    return count


if __name__ == "__main__":
    main()
