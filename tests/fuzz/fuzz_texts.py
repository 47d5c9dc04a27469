"""Feeds damaged texts to everything that reads what people write, in a process that may crash or hang.

python -m tests.fuzz.fuzz_texts COUNT SEED DIRECTORY [NAME...] prints, as JSON, what became of COUNT texts for each
parser, or for those named. DIRECTORY must be new; the text in work is always DIRECTORY/current, to be looked at after a
crash.
"""

import collections
import contextlib
import faulthandler
import io
import json
import os
import random
import re
import sys
import time
import traceback
from pathlib import Path

if __name__ == "__main__":  # in a test, TensorFlow has started
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

from efficientnet_tpu.errors import UserError
from tests.fuzz.text_parsers import Parsers

SECONDS_PER_PARSER = 1200  # of the clock, after which the process ends: a hang
LONGEST_MESSAGE = 20_000


def _megabytes(name):
    """VmRSS or VmHWM, the peak, of this process."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def fuzz(name, parser, count, seed, directory):
    """Damages a parser's text `count` times. Returns what became of it, and the faults: where -> what."""
    text, damage, read = parser
    generator = random.Random(f"{seed} {name}")
    found, faults = collections.Counter(), {}
    slowest = 0.0
    for _ in range(count):
        changed = damage(text.encode(), generator)
        (directory / "current").write_bytes(changed)
        start = time.process_time()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                read(changed)
            found["read"] += 1
        except UserError as error:
            found["refused"] += 1
            if len(str(error)) > LONGEST_MESSAGE:
                faults[f"{name}: a message of {len(str(error)):,} characters"] = str(error)[:300]
        except Exception as error:  # noqa: BLE001 - what is looked for
            found["failed"] += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{name}: {type(error).__name__} at {os.path.basename(place.filename)}:{place.lineno}"
            if kind not in faults:
                faults[kind] = f"{str(error)[:200]!a} {changed[:300]!a}"
                print(kind, faults[kind], traceback.format_exc()[-1500:], sep="\n", file=sys.stderr)
        slowest = max(slowest, time.process_time() - start)
    return {**found, "slowest_cpu_seconds": round(slowest, 2)}, faults


def main(count, seed, directory, *wanted):
    """Fuzzes each parser in turn, and prints the outcome."""
    directory = Path(directory)
    directory.mkdir()
    parsers = Parsers(directory).parsers
    outcomes, faults = {}, {}
    for text, _, read in parsers.values():
        read(text.encode())  # as it is, it can be read
    for name in wanted or parsers:
        before, start = _megabytes("VmRSS"), time.monotonic()
        faulthandler.dump_traceback_later(SECONDS_PER_PARSER, exit=True)
        found, failed = fuzz(name, parsers[name], count, seed, directory)
        faulthandler.cancel_dump_traceback_later()
        faults |= failed
        seconds, megabytes = round(time.monotonic() - start, 1), round(max(_megabytes("VmHWM") - before, 0))
        outcomes[name] = {**found, "seconds": seconds, "megabytes": megabytes}
        print(name, outcomes[name], file=sys.stderr, flush=True)
    print(json.dumps({"outcomes": outcomes, "faults": faults}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
