"""`launch --print --on=slurm`: an sbatch script for a cluster with GPUs or CPUs. No TensorFlow.

The hosts find each other by Slurm's variables, which `hardware.tf_config` reads.
"""

import shlex

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.preemption import PREEMPTED
from efficientnet_tpu.launch import requirements
from efficientnet_tpu.launch.gpus import parse_gpus
from efficientnet_tpu.launch.launch import training_flags
from efficientnet_tpu.texts.printable import shown

_SECONDS_TO_SAVE = 120
_RESTARTS = 100


def batch_script(config: Config) -> str:
    """Returns the script. Raises UserError for a model_dir that the hosts do not share."""
    launch = config.launch
    requirements.require_names(config, ("tpu_name", "partition"))
    requirements.require_images(config)
    flags = training_flags(config)
    requirements.require_printable(flags)
    if launch.num_hosts > 1 and config.run.model_dir.startswith(("/tmp/", "/dev/shm/")):
        raise UserError(
            f"--model_dir={shown(config.run.model_dir)}: is each host's own. Name a directory on the cluster's shared "
            "disk, or gs://."
        )
    directives = {
        "job-name": launch.tpu_name,
        "nodes": str(launch.num_hosts),
        "ntasks-per-node": "1",
        "exclusive": "",
        "output": f"{launch.tpu_name}-%j.log",
        "open-mode": "append",
        "requeue": "",
        "signal": f"USR1@{_SECONDS_TO_SAVE}",
    }
    if launch.gpus:
        gpus = parse_gpus(launch.gpus)
        directives["gpus-per-node"] = f"{gpus.kind.lower().replace('-', '_')}:{gpus.count}"
    if launch.partition:
        directives["partition"] = launch.partition
    if launch.max_hours:
        minutes = max(1, round(60 * launch.max_hours))
        directives["time"] = f"{minutes // 60}:{minutes % 60:02}:00"
    lines = [f"#SBATCH --{name}{'=' * bool(value)}{value}" for name, value in directives.items()]
    return f"""\
#!/usr/bin/env bash
{chr(10).join(lines)}
# Trains by Slurm. Printed by `main.py launch --print --on=slurm`; no cluster has run it yet.
# In a clone of this project that all hosts see, with its .venv: sbatch FILE. What follows --gpus-per-node is the
# cluster's own name of a GPU: `sinfo --format=%G` lists them.
# Before the time is over, and when it is preempted, the training saves and ends with status {PREEMPTED}: queued again.
set -u
srun --kill-on-bad-exit=0 .venv/bin/python main.py {shlex.join(flags)}
status=$?
if [ "$status" = {PREEMPTED} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {_RESTARTS} ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""
