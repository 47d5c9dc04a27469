"""`launch --print --on=skypilot`: a task that SkyPilot runs on TPU VMs or GPUs of any cloud, with spot recovery.

No TensorFlow.
"""

import shlex
from typing import Any

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.preemption import PREEMPTED
from efficientnet_tpu.hardware.tpu_specs import parse_tpu_type
from efficientnet_tpu.launch import requirements
from efficientnet_tpu.launch.gpus import parse_gpus
from efficientnet_tpu.launch.launch import expectation, training_flags
from efficientnet_tpu.launch.machine import read_labels
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.yaml_text import yaml_text

# Python of its own: the images of TPU VMs have 3.10.
_SETUP = """\
python3 -m pip install --quiet --user uv
[ -d .venv ] || python3 -m uv venv --quiet --python 3.12 .venv
python3 -m uv pip install --quiet --python .venv/bin/python {}
"""
_ERRORS = 3  # restarts after a failure of the machine that left no status of the training's own


def task(config: Config) -> str:
    """Returns the task as YAML. Raises UserError for a TPU of several hosts."""
    launch = config.launch
    requirements.require_names(config, ("tpu_name", "tpu_zone", "gcp_project"))
    requirements.require_buckets(config)
    flags = training_flags(config)
    requirements.require_printable([*flags, launch.vm_labels])
    resources: dict[str, Any] = {}
    notes: list[str] = []
    if launch.gpus:
        gpus = requirements.one_accelerator(config, parse_gpus)
        resources["accelerators"] = {gpus.kind: gpus.count}
        where, requirement = "", "'.[gpu]'"
    else:
        tpu = requirements.one_accelerator(config, parse_tpu_type)
        if tpu.num_hosts > 1:
            raise UserError(
                f"--tpu_type={shown(launch.tpu_type)}: is a slice of several hosts, which --on=skypilot does not start "
                "as this program needs it. Take a type of one host, or --on=tpu-vm."
            )
        resources |= {"accelerators": {f"tpu-{tpu.accelerator_type}": 1}}
        resources |= {"accelerator_args": {"runtime_version": tpu.image, "tpu_vm": True}}
        notes, where, requirement = expectation(config), "--tpu=local ", "-r requirements-tpu.txt"
    if config.hardware.tpu_zone:
        resources["infra"] = f"gcp/{config.hardware.tpu_zone.rpartition('-')[0]}/{config.hardware.tpu_zone}"
    resources["use_spot"] = launch.spot
    resources["job_recovery"] = {"max_restarts_on_errors": _ERRORS, "recover_on_exit_codes": [PREEMPTED]}
    if launch.vm_labels:
        resources["labels"] = read_labels(launch.vm_labels)
    content = {
        "name": launch.tpu_name,
        "resources": resources,
        "workdir": ".",
        "setup": _SETUP.format(requirement),
        "run": f".venv/bin/python main.py {where}{shlex.join(flags)}\n",
    }
    head = [
        "# Trains by SkyPilot. Printed by `main.py launch --print --on=skypilot`; SkyPilot has not run it yet.",
        f"# In a clone of this project: sky jobs launch FILE; sky jobs logs --name={launch.tpu_name}",
        f"# What is taken away is replaced, and the training goes on; so it does after status {PREEMPTED}.",
        *notes,
    ]
    return "\n".join(head) + "\n" + yaml_text(content)
