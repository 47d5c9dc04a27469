"""Damaged texts are read or refused in one line by everything that reads what people write, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEGABYTES = 300  # the longest texts are of some hundred kB


def _fuzz(count, seed, tmp_path):
    if sys.platform != "linux":
        pytest.skip("memory is read from Linux's /proc")
    command = [sys.executable, "-m", "tests.fuzz.fuzz_texts", str(count), str(seed), str(tmp_path / "fuzz")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    assert run.returncode == 0, f"{' '.join(command)}: status {run.returncode}\n{run.stderr[-2000:]}"
    outcome = json.loads(run.stdout.splitlines()[-1])
    print(json.dumps(outcome, indent=1))
    assert not outcome["faults"]
    for name, found in outcome["outcomes"].items():
        assert found.get("read", 0) + found.get("refused", 0) == count, name
        assert found["megabytes"] < MEGABYTES, name
    return outcome["outcomes"]


def test_fuzz(tf, tmp_path):
    from tests.fuzz import fuzz_texts
    from tests.fuzz.text_parsers import Parsers

    for name, parser in Parsers(tmp_path).parsers.items():
        found, faults = fuzz_texts.fuzz(name, parser, 20, 0, tmp_path)
        assert not faults
        assert found.get("read", 0) + found.get("refused", 0) == 20


@pytest.mark.slow
def test_fuzz_10000(tmp_path):
    outcomes = _fuzz(10_000, 1, tmp_path)
    assert max(found["slowest_cpu_seconds"] for found in outcomes.values()) < 5
