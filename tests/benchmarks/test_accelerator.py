"""benchmarks/accelerator.py: every part is measured by itself, on whatever device there is."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("accelerator", None)
    import accelerator

    return accelerator


def _part(benchmark, name, script, **facts):
    return benchmark.Part(name, (sys.executable, "-c", script), **facts)


def test_no_part_ends_the_others_and_all_is_written_as_it_comes(benchmark, monkeypatch, tmp_path, capsys):
    report = tmp_path / "report.json"
    row = {"name": "GPU", "batch_size": 64, "images_per_second": 1234.5, "p50_ms": 51.8, "peak_bytes": 10**9}
    timed = {"timings": [row | {"device_peak_bytes": 7 * 10**9, "failure": ""}]}
    written = f"import pathlib; pathlib.Path({str(report)!r}).write_text({json.dumps(timed)!r})"
    found = [
        _part(benchmark, "train", written, report=str(report)),
        _part(benchmark, "crash", "import os; print('half'); os.kill(os.getpid(), 11)"),
        _part(benchmark, "hang", "import time; print('begun', flush=True); time.sleep(60)", seconds=1.0),
        benchmark.Part("missing", ("/no/such/program",)),
        _part(benchmark, "last", "import os; print(os.environ['TF_XLA_FLAGS'])", environment=(("TF_XLA_FLAGS", "on"),)),
    ]
    monkeypatch.setattr(benchmark, "parts", lambda options, folder: found)
    assert benchmark.main([f"--json={tmp_path}/all.json"]) == 1
    parts = {part["name"]: part for part in json.loads((tmp_path / "all.json").read_text())["parts"]}
    assert {name for name, part in parts.items() if part["failure"]} == {"crash", "hang", "missing"}
    assert parts["crash"]["failure"].startswith("status -11")
    assert parts["hang"]["failure"] == "ended after 1 s\nbegun"
    assert parts["last"]["result"] == "on"
    assert "| train | GPU | 64 | 1,234.5 | 51.8 | 7.00 |" in capsys.readouterr().out


def test_parts_for_which_no_time_is_left_are_said(benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "parts", lambda options, folder: [_part(benchmark, "train", "")])
    assert benchmark.main([f"--json={tmp_path}/all.json", "--minutes=0.05"]) == 1
    [part] = json.loads((tmp_path / "all.json").read_text())["parts"]
    assert part["failure"] == "no time left; raise --minutes"


@pytest.mark.slow
def test_the_whole_of_it_runs_on_a_cpu(benchmark, tmp_path):
    options = [
        "--models=efficientnet-nano", "--batch_sizes=2", "--seconds=0.1", "--minutes=20",
        "--peer_model=MobileNet", "--peer_size=32", f"--json={tmp_path}/all.json",
    ]  # fmt: skip
    status = benchmark.main(options)
    parts = json.loads((tmp_path / "all.json").read_text())["parts"]
    failures = {part["name"]: part["failure"] for part in parts if part["failure"]}
    assert (status, failures) == (0, {})
    assert len(parts) == 10
