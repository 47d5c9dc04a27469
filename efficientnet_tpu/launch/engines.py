"""`main.py launch --print`: the file by which an engine trains, and what each engine takes. No TensorFlow."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from efficientnet_tpu.config.cloud import LaunchConfig
from efficientnet_tpu.config.config import OPTIONS, Config, options_of
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.launch import gke, launch, requirements, skypilot, slurm, vertex

_ALWAYS = ("print", "on", "tpu_name")


@dataclass(frozen=True)
class Engine:
    """A place that runs a training.

    write: returns the text to print. flags: those of section Launch that it takes, beside `_ALWAYS`. where: whether
    --tpu_zone and --gcp_project mean something there.
    """

    write: Callable[[Config], str]
    flags: tuple[str, ...]
    where: bool = True


ENGINES = {
    "tpu-vm": Engine(
        launch.launch_script,
        tuple(
            field.name
            for field in fields(LaunchConfig)
            if field.name not in (*_ALWAYS, "image", "gpus", "num_hosts", "partition")
        ),
    ),
    "gke": Engine(
        gke.manifest,
        ("tpu_type", "gpus", "image", "spot", "reservation", "max_hours", "service_account", "vm_labels"),
    ),
    "skypilot": Engine(skypilot.task, ("tpu_type", "gpus", "spot", "vm_labels")),
    "slurm": Engine(slurm.batch_script, ("gpus", "num_hosts", "partition", "max_hours"), where=False),
    "vertex": Engine(
        vertex.custom_job,
        (
            *("tpu_type", "gpus", "num_hosts", "image", "spot", "max_hours", "service_account", "vm_labels"),
            "vm_network",
        ),
    ),
}


def launch_text(config: Config) -> str:
    """Returns what `launch --print` prints. Raises UserError for flags that the engine of --on does not take."""
    requirements.require_print(config)
    name, engine = config.launch.on, ENGINES[config.launch.on]
    _require_own_flags(config, name, engine)
    return engine.write(config)


def _require_own_flags(config: Config, name: str, engine: Engine) -> None:
    options = options_of(config)
    launch_flags = [field.name for field in fields(LaunchConfig)]
    foreign = [flag for flag in launch_flags if flag not in (*_ALWAYS, *engine.flags)]
    foreign += [] if engine.where else ["tpu_zone", "gcp_project"]
    for flag in foreign:
        if options[flag] != OPTIONS[flag].default:
            others = ENGINES.items()
            having = [one for one, it in others if flag in it.flags or (flag not in launch_flags and it.where)]
            have = "have" if len(having) > 1 else "has"
            raise UserError(f"--{flag}: --on={name} has no use for it; {', '.join(having)} {have} one.")
