"""`main.py search` as a user runs it: killed, continued, and with a measured cost."""

import json
import signal
import subprocess
import sys
import time

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.run import subprocess_training
from efficientnet_tpu.studies.search.search_files import load_search

pytest.importorskip("optuna", reason="search needs the extra `search`")
pytestmark = pytest.mark.slow

TINY = [
    "--flagfile=search-cifar10", "--dataset=sample", "--depth_coefficient=0.5", "--resolution=16",
    "--train_batch_size=256", "--train_epochs=0.2", "--epochs_per_eval=0.2", "--search_algorithm=random",
]  # fmt: skip


def test_a_search_that_was_killed_goes_on(tf, tmp_path):
    flags = [*TINY, "--search_trials=4", "--study_workers=2", f"--output_dir={tmp_path}/search"]
    command = [sys.executable, "-m", "efficientnet_tpu", "search", *flags]
    environment = subprocess_training.environment()
    search = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
    trials = tmp_path / "search" / "trials.jsonl"
    while not trials.exists() or not trials.read_text():
        assert search.poll() is None
        time.sleep(0.1)
    search.send_signal(signal.SIGKILL)
    search.wait()
    before = trials.read_text().splitlines()
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"{len(before)} of them have ended" in ended.stdout
    assert ended.stderr == ""
    assert trials.read_text().splitlines()[: len(before)] == before
    _, found = load_search(str(tmp_path / "search"))
    assert sorted(one.number for one in found) == [0, 1, 2, 3]
    for one in found:
        record = json.loads((tmp_path / "search" / f"trial-{one.number:04d}" / "run.json").read_text())
        assert record["config"]["train_epochs"] == 0.2


def test_latency_is_measured_for_each_network(tf, tmp_path, capsys):
    cost = ["--search_cost=latency", "--search_target=0.002"]
    cli.main(["main.py", "search", *TINY, *cost, "--search_trials=2", f"--output_dir={tmp_path}"])
    facts, found = load_search(str(tmp_path))
    assert facts.cost_kind == "latency"
    assert all(1e-4 < one.cost < 0.5 for one in found)
    assert len({one.cost for one in found}) == 2
