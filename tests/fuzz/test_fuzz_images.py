"""Damaged image files neither crash nor hang TensorFlow, nor take memory: in a process of its own, which may die."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Of one image, or of those that are decoded at a time; far below what a file may claim.
MEGABYTES = 400


def _fuzz(count, seed, tmp_path):
    if sys.platform != "linux":
        pytest.skip("memory is read from Linux's /proc")
    command = [sys.executable, "-m", "tests.fuzz.fuzz_images", str(count), str(seed), str(tmp_path / "fuzz")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    assert run.returncode == 0, f"{' '.join(command)}: status {run.returncode}\n{run.stderr[-2000:]}"
    outcome = json.loads(run.stdout.splitlines()[-1])
    print(json.dumps(outcome, indent=1))
    return outcome["training"], outcome["check-data"]


def _verify(training, checked, count):
    assert training["trained on"] + training["not trained on"] == count
    assert training["decoded"] + training["not decoded"] == count
    assert (checked["decoded"], checked["not decoded"]) == (training["decoded"], training["not decoded"])
    # Damage below a crop does not matter to training, or not yet: it reads what is decoded whole, and some more.
    assert training["decoded"] <= training["trained on"]
    assert min(training["decoded"], training["not decoded"]) > count / 10
    assert checked["status"] == 1
    assert training["megabytes"] < MEGABYTES
    assert checked["megabytes"] < MEGABYTES


@pytest.mark.slow
def test_fuzz_10000(tmp_path):
    training, checked = _fuzz(10_000, 1, tmp_path)
    _verify(training, checked, 10_000)
    assert training["slowest_cpu_seconds"] < 5
