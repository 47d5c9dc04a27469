"""Damaged weight files neither crash nor hang the readers, nor take memory: in a process of its own, which may die."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEGABYTES = 200  # the files are below 2 MB; what they may claim after damage is not


def _fuzz(count, seed, tmp_path):
    if sys.platform != "linux":
        pytest.skip("memory is read from Linux's /proc")
    command = [sys.executable, "-m", "tests.fuzz.fuzz_weights", str(count), str(seed), str(tmp_path / "fuzz")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    assert run.returncode == 0, f"{' '.join(command)}: status {run.returncode}\n{run.stderr[-2000:]}"
    outcome = json.loads(run.stdout.splitlines()[-1])
    print(json.dumps(outcome, indent=1))
    outcomes = outcome["outcomes"]
    assert sum(sum(kind.values()) for kind in outcomes.values()) == count
    for kind, ends in outcomes.items():
        assert ends["refused"] > count / len(outcomes) / 4, kind
    assert outcome["megabytes"] < MEGABYTES
    return outcome


@pytest.mark.slow
def test_fuzz(tmp_path):
    outcome = _fuzz(50, 0, tmp_path)
    # Not everything is refused: damage within the numbers leaves numbers.
    assert sum(ends.get("read", 0) for ends in outcome["outcomes"].values()) > 5


@pytest.mark.slow
def test_fuzz_10000(tmp_path):
    outcome = _fuzz(10_000, 1, tmp_path)
    assert outcome["slowest_cpu_seconds"][0] < 5
