"""`main.py launch --print --on=tpu-vm`: a script of gcloud commands that trains on a TPU VM from creation to deletion.

Nothing here runs gcloud or costs money: the script is read, and run by bash, by who wants it. No TensorFlow.
"""

import re
import shlex
import textwrap
from collections.abc import Sequence

from efficientnet_tpu.config.config import Config, command_line, training_options
from efficientnet_tpu.hardware.preemption import PREEMPTED
from efficientnet_tpu.hardware.tpu_specs import parse_slice, parse_tpu_type
from efficientnet_tpu.launch import machine, requirements, script
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan.answers.fitting_step import expected_bill, require_fitting_step
from efficientnet_tpu.texts.printable import escaped


def launch_script(config: Config) -> str:
    """Returns the script. Raises UserError for options that would fail on the TPU VM, after it has begun to cost."""
    requirements.require_given(config, ("tpu_type", "tpu_zone", "gcp_project"))
    tpu = parse_tpu_type(config.launch.tpu_type)
    requirements.require_names(config, ("tpu_name", "tpu_zone", "gcp_project"))
    requirements.require_buckets(config)
    machine.require_possible(config.launch)
    launch = config.launch
    one_host = tpu.num_hosts == 1
    flags = training_flags(config)
    requirements.require_printable([*flags, *machine.named_values(launch)])
    max_seconds = int(3600 * machine.allowed_hours(config))
    notes = [_NOT_RUN if one_host else _UNTESTED, *expectation(config)]
    where = [f"--zone={config.hardware.tpu_zone}", f"--project={config.hardware.gcp_project}"]
    queued = ["gcloud", "compute", "tpus", "queued-resources"]
    make = queued if launch.queued else ["gcloud", "compute", "tpus", "tpu-vm"]
    end = [*make, "delete", launch.tpu_name, *where, *(["--force"] if launch.queued else []), "--quiet"]
    network = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    head = f"""\
#!/usr/bin/env bash
# Trains {escaped(network.name)} on a TPU {launch.tpu_type}: {machine.describe(launch, tpu)}.
# Printed by `main.py launch --print`. Run it in a clone of this project, logged in by `gcloud auth login`; interrupted,
# run it again: it goes on with what is there. With --dry-run it prints its gcloud commands and runs none. The TPU costs
# money from `create` to `delete`, in the last line{machine.describe_limit(config)}.
{chr(10).join(notes)}
set -euo pipefail

NAME={launch.tpu_name}
ZONE={config.hardware.tpu_zone}
TYPE={tpu.accelerator_type}
WHERE=({shlex.join(where)})
CONNECT=({shlex.join([*where, *(["--tunnel-through-iap"] if launch.internal_ips else [])])})
WHAT=({shlex.join(machine.creation_flags(launch, tpu))})
HOSTS={"0" if one_host else "all"}
MODEL_DIR={shlex.quote(config.run.model_dir.rstrip("/"))}
BUCKETS=({shlex.join(_buckets(config))})
MAX_SECONDS={max_seconds}
VM=(gcloud compute tpus tpu-vm)
QUEUE=({shlex.join(queued)})
MAKE=({shlex.join(["gcloud", "alpha", *make[1:]] if machine.needs_alpha(launch) else make)})

# What runs on the TPU VM. Status {PREEMPTED}: stopped from outside, with everything saved; the same command goes on.
TRAIN={shlex.quote(_training(flags, one_host, max_seconds))}
# With --max_hours the TPU VM ends itself, should nobody else do it: its service account must be allowed to.
END={shlex.quote(_ending(end))}
"""
    return "\n".join(
        [
            head,
            script.DRY_RUN,
            script.EXPLAIN,
            script.CHECK,
            script.STATE,
            script.QUEUED if launch.queued else script.IMMEDIATE,
            script.INSTALL,
            script.MOUNT if launch.data_disk else script.NO_DISK,
            script.START if one_host else script.START_SLICE,
            script.WATCH,
            script.MAIN,
        ]
    )


def expectation(config: Config) -> list[str]:
    """Returns comments on the hours and the cost by `plan`, and on a step that may not fit.

    Raises UserError for a step that does not.
    """
    tpu = parse_slice(config.launch.tpu_type)
    bill = f"{expected_bill(config, tpu, NUM_IMAGENET_CLASSES, machine.allowed_hours(config))}."
    lines = [textwrap.fill(bill, 120, initial_indent="# ", subsequent_indent="# ")]
    if warning := require_fitting_step(config, tpu, NUM_IMAGENET_CLASSES):
        lines.append(f"# {escaped(warning)}")
    return lines


def _training(flags: Sequence[str], one_host: bool, max_seconds: int) -> str:
    """Returns the script that trains on host 0 through everything that stops it with all saved."""
    where = "--tpu=local" if one_host else '--tpu="grpc://$(cat ~/workers)"'
    train = f".venv/bin/python main.py {where} {shlex.join(flags)}"
    if max_seconds:
        # It saves when it is told to stop; `timeout` gives 124 then.
        train = f"timeout --signal=TERM --kill-after=600 $left {train}"
    train = f"{'' if one_host else 'TPU_LOAD_LIBRARY=0 '}{train}"
    lines = ["cd ~/clone", "rm -f ~/train.status", f"status={PREEMPTED}", f"while [ $status = {PREEMPTED} ]; do"]
    if max_seconds:
        lines.append("  left=$(($(cat ~/deadline) - $(date +%s)))")
        lines.append("  [ $left -gt 0 ] || { status=over; break; }")
    lines += [f"  {train}", "  status=$?"]
    if max_seconds:
        lines.append("  case $status in 124 | 137) status=over ;; esac")
    return "\n".join([*lines, "  sleep 5", "done", "echo $status > ~/train.status"])


def _ending(delete: Sequence[str]) -> str:
    """Returns the script by which the TPU VM deletes itself when its hours are long over."""
    grace = script.OWN_GRACE_SECONDS
    waiting = f"while at=$(cat deadline) && [ $(date +%s) -lt $((at + {grace})) ]; do sleep 60; done"
    return f"{waiting}; [ -z $at ] || {shlex.join(delete)}"


def _buckets(config: Config) -> list[str]:
    """Returns the buckets that a training reads and writes, without what is in them."""
    paths = [config.data.data_dir, config.run.model_dir, config.train.init_from]
    return list(dict.fromkeys(bucket for path in paths for bucket in re.findall(r"(?:^|,)(gs://[^/,]+)", path)))


def training_flags(config: Config) -> list[str]:
    """Returns the flags of the training that `config` describes, without those that say where it runs."""
    where = ("tpu", "tpu_zone", "gcp_project")
    return command_line({name: value for name, value in training_options(config).items() if name not in where})


_NOT_RUN = "# No TPU has run it yet: docs/tpu.md says what is verified."
_UNTESTED = (
    "# Slices of several hosts are untested, and no TPU has run this yet: docs/tpu.md says what is verified. Expect to "
    "have\n# to work on `start`."
)
