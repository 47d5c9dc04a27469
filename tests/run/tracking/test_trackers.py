"""Services that keep a run's numbers: which is told what, and what becomes of their failures."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.commands import TRACKERS
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run.tracking import trackers

# Two parts of one run, as after a kill, for a service that writes into the current directory.
DRIVE = """
import json, sys
from efficientnet_tpu.run.tracking.trackers import open_tracker
for step, is_complete in ((10, False), (20, True)):
    tracker = open_tracker(sys.argv[1], "runs/flowers", {"model": "efficientnet-b0", "train_epochs": 2.5})
    tracker.log(step, {"train/loss": 1.0 / step})
    tracker.finish(is_complete)
"""
READ = {
    "mlflow": """
import mlflow, json
client = mlflow.MlflowClient()
[experiment] = [one for one in client.search_experiments() if one.name == "efficientnet_tpu"]
[run] = client.search_runs([experiment.experiment_id])
history = client.get_metric_history(run.info.run_id, "train/loss")
print(json.dumps([run.info.status, run.data.params["model"], [[one.step, one.value] for one in history]]))
""",
    "trackio": """
import json
from trackio.sqlite_storage import SQLiteStorage
[run] = SQLiteStorage.get_runs("efficientnet_tpu")
logs = SQLiteStorage.get_logs("efficientnet_tpu", run)
print(json.dumps(["FINISHED", "efficientnet-b0", [[one["step"], one["train/loss"]] for one in logs]]))
""",
}


@pytest.mark.parametrize("service", TRACKERS[1:])
def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, service):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"--log_to={service}: needs {service}, .* -m pip install "):
        cli.main(["main.py", "--dataset=sample", "--model_dir=run", f"--log_to={service}"])


def test_a_service_that_refuses_is_one_line(monkeypatch):
    def refuse(*arguments):
        raise ConnectionError("no API key configured\nUse wandb login")

    monkeypatch.setattr(trackers, "require_installed", lambda service: None)
    monkeypatch.setitem(trackers._SERVICES, "wandb", refuse)
    with pytest.raises(UserError, match="--log_to=wandb: no API key configured"):
        trackers.open_tracker("wandb", "runs/b0", {})


def test_a_service_that_fails_later_is_left_out(tf, tmp_path, capsys):
    from efficientnet_tpu.run.reports.log_entries import read_log
    from efficientnet_tpu.run.reports.run_logs import RunLogs

    class Failing:
        calls = 0

        def log(self, step, values):
            Failing.calls += 1
            raise TimeoutError("the service does not answer")

    logs = RunLogs(str(tmp_path), ("train",), Failing())
    for step in (1, 2):
        logs.append("train", step, 0.5, {"loss": 1.0})
    logs.finish(is_complete=True)
    assert Failing.calls == 1
    assert capsys.readouterr().out == ("warning: --log_to: the service does not answer. Training goes on without it.\n")
    assert len(read_log(str(tmp_path / "log.jsonl")).entries) == 2


def test_names_say_what_was_measured(tf, tmp_path):
    from efficientnet_tpu.run.reports.run_logs import RunLogs

    told = []

    class Noting:
        def log(self, step, values):
            told.append((step, values))

        def finish(self, is_complete):
            told.append(is_complete)

    logs = RunLogs(str(tmp_path), ("train", "validation"), Noting())
    logs.append("validation", 7, 0.5, {"loss": 1.5})
    logs.finish(is_complete=False)
    assert told == [(7, {"validation/loss": 1.5}), False]


@pytest.mark.slow
@pytest.mark.parametrize("service", TRACKERS[1:])
def test_a_real_client_keeps_one_run_over_two_starts(tmp_path, service):
    """Offline, or in files of this machine."""
    if importlib.util.find_spec(service) is None:
        pytest.skip(f"comes with the extra {service}")
    environment = {
        "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "trackio"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "HOME": str(tmp_path),
    }  # fmt: skip

    def run(script):
        return subprocess.run(
            [sys.executable, "-c", script, service], cwd=tmp_path, capture_output=True, text=True, check=True,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=300,
        ).stdout  # fmt: skip

    run(DRIVE)
    if service == "wandb":  # its files are read by its own service alone
        assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
        return
    status, model, history = json.loads(run(READ[service]).splitlines()[-1])
    assert (status, model) == ("FINISHED", "efficientnet-b0")
    assert history == [[10, 0.1], [20, 0.05]]
