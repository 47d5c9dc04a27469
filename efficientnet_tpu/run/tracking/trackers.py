"""Services that keep the numbers of many runs: Weights & Biases, MLflow, Trackio. Each is imported when it is named.

Where they keep them, and as whom, is theirs to know: by their own environment variables (docs/evaluation.md).
"""

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, Protocol

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import install_command

PROJECT = "efficientnet_tpu"


class Tracker(Protocol):
    """Keeps the numbers of one run at a service."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keeps numbers, by names such as 'train/loss'."""

    def finish(self, is_complete: bool) -> None:
        """Ends the run, or this part of it."""


def open_tracker(service: str, model_dir: str, options: Mapping[str, Any]) -> Tracker:
    """Opens the run of a model_dir at a service, the same one when the run is taken up again.

    service: one of config's TRACKERS but none. options: the run's, by flag name, without secrets. Raises UserError
    where its package is not installed, or the service refuses.
    """
    require_installed(service)
    run_id = hashlib.sha256(_place(model_dir).encode()).hexdigest()[:16]
    name = os.path.basename(model_dir.rstrip("/")) or "run"
    try:
        return _SERVICES[service](run_id, name, dict(options))
    except Exception as error:  # whatever a service's client raises: no key, no network, no such project
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise UserError(f"--log_to={service}: {reason[:300]}") from error


def require_installed(service: str) -> None:
    """Raises UserError where the package of a service is not installed."""
    if importlib.util.find_spec(service) is None:
        raise UserError(f"--log_to={service}: needs {service}, which is not installed: {install_command(service)}")


def _place(model_dir: str) -> str:
    return model_dir if "://" in model_dir else os.path.abspath(model_dir)


class _Wandb:
    def __init__(self, run_id: str, name: str, options: dict[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        settings = wandb.Settings(silent=True, console="off")
        self._run = wandb.init(
            project=project, id=run_id, name=name, config=options, resume="allow", settings=settings, save_code=False
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, is_complete: bool) -> None:
        self._run.finish(exit_code=0 if is_complete else 1)


class _Mlflow:
    def __init__(self, run_id: str, name: str, options: dict[str, Any]) -> None:
        mlflow = importlib.import_module("mlflow")
        self._client = mlflow.MlflowClient()
        experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(experiment_name)
        experiment = found.experiment_id if found else self._client.create_experiment(experiment_name)
        runs = self._client.search_runs([experiment], f"tags.{PROJECT}_run = '{run_id}'", max_results=1)
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {f"{PROJECT}_run": run_id, "mlflow.runName": name}
            self._run = self._client.create_run(experiment, tags=tags).info.run_id
            for option, value in options.items():
                self._client.log_param(self._run, option, str(value)[:500])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def finish(self, is_complete: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if is_complete else "KILLED")


class _Trackio:
    def __init__(self, run_id: str, name: str, options: dict[str, Any]) -> None:
        trackio = importlib.import_module("trackio")
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self._run = trackio.init(
            project=project, name=f"{name}-{run_id[:6]}", config=options, resume="allow", embed=False
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, is_complete: bool) -> None:
        self._run.finish()


_SERVICES = {"wandb": _Wandb, "mlflow": _Mlflow, "trackio": _Trackio}
