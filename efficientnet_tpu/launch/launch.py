"""`main.py launch --print`: a script of gcloud commands that trains on a TPU VM from creation to deletion.

Nothing here runs gcloud or costs money: the script is read, and run by bash, by who wants it. No TensorFlow.
"""

import re
import shlex
from collections.abc import Sequence

from efficientnet_tpu.config.config import Config, command_line, training_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.preemption import PREEMPTED
from efficientnet_tpu.hardware.tpu_specs import parse_tpu_type
from efficientnet_tpu.launch import script
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.texts.printable import escaped, is_printable, shown


def launch_script(config: Config) -> str:
    """Returns the script. Raises UserError for options that would fail on the TPU VM, after it has begun to cost."""
    tpu = parse_tpu_type(config.launch.tpu_type)
    _require_flags_of_a_cloud(config)
    launch = config.launch
    one_host = tpu.num_hosts == 1
    manner = ("queued, " if launch.queued else "") + ("spot" if launch.spot else "on demand")
    version = "--runtime-version" if launch.queued else "--version"
    flags = training_flags(config)
    _require_printable(flags)
    where = "--tpu=local" if one_host else '--tpu="grpc://$(cat ~/workers)"'
    train = f".venv/bin/python main.py {where} {shlex.join(flags)}"
    hosts = f"{tpu.num_hosts} host{'' if one_host else 's'}"
    model_dir = config.run.model_dir.rstrip("/")
    network = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    head = f"""\
#!/usr/bin/env bash
# Trains {escaped(network.name)} on a TPU {launch.tpu_type}: {hosts}, {manner}.
# Printed by `main.py launch --print`. Run it in a clone of this project, logged in by `gcloud auth login`; interrupted,
# run it again: it goes on with what is there. The TPU costs money from `create` to `delete`, the last line.
{_NOT_RUN if one_host else _UNTESTED}
set -euo pipefail

NAME={launch.tpu_name}
WHERE=(--zone={config.hardware.tpu_zone} --project={config.hardware.gcp_project})
WHAT=(--accelerator-type={tpu.accelerator_type} {version}={tpu.image}{" --spot" if launch.spot else ""})
HOSTS={"0" if one_host else "all"}
MODEL_DIR={shlex.quote(model_dir)}
VM=(gcloud compute tpus tpu-vm)
QUEUE=(gcloud compute tpus queued-resources)

# What runs on the TPU VM. Status {PREEMPTED}: stopped from outside, with everything saved; the same command goes on.
read -r -d '' TRAIN <<'END_OF_TRAIN' || true
cd ~/clone
rm -f ~/train.status
status={PREEMPTED}
while [ $status = {PREEMPTED} ]; do
  {"" if one_host else "TPU_LOAD_LIBRARY=0 "}{train}
  status=$?
  sleep 5
done
echo $status > ~/train.status
END_OF_TRAIN
"""
    obtain = script.QUEUED if launch.queued else script.IMMEDIATE
    start = script.START if one_host else script.START_SLICE
    return f"{head}\n{script.STATE}\n{obtain}\n{script.INSTALL}\n{start}\n{script.MAIN}"


def training_flags(config: Config) -> list[str]:
    """Returns the flags of the training that `config` describes, without those that say where it runs."""
    where = ("tpu", "tpu_zone", "gcp_project")
    return command_line({name: value for name, value in training_options(config).items() if name not in where})


def _require_flags_of_a_cloud(config: Config) -> None:
    """Raises UserError for names that no cloud takes, and for data that a TPU VM does not see."""
    if not config.launch.print:
        raise UserError("launch: add --print. It prints a script to read, and to run by bash; nothing runs by itself.")
    if config.hardware.tpu:
        raise UserError(f"--tpu={config.hardware.tpu}: launch makes a TPU and says --tpu itself. Leave it out.")
    for flag, value, pattern, example in (
        ("tpu_name", config.launch.tpu_name, r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "efficientnet-b0"),
        ("tpu_zone", config.hardware.tpu_zone, r"[a-z]+-[a-z]+\d+-[a-z]", "us-west4-a"),
        ("gcp_project", config.hardware.gcp_project, r"[a-z][-a-z0-9.:]*[a-z0-9]", "my-project"),
    ):
        if not re.fullmatch(pattern, value, re.ASCII):
            raise UserError(f"--{flag}={shown(value)}: is no such name as {example}.")
    model_dir, data = config.run.model_dir, config.data
    if not model_dir.startswith("gs://"):
        raise UserError(f"--model_dir={model_dir}: must be gs://BUCKET/...: a TPU VM's disk goes when it goes.")
    for flag, path in (("data_dir", data.data_dir), ("init_from", config.train.init_from)):
        if path and not path.startswith("gs://"):
            raise UserError(f"--{flag}={path}: must be gs://BUCKET/...: the TPU VM does not see this machine.")
    if not data.data_dir and (data.dataset == "auto" or data.dataset.startswith("tfds:")):
        raise UserError("--data_dir is missing: gs://BUCKET/...; or --dataset=fake, or sample, for a dry run.")


def _require_printable(flags: Sequence[str]) -> None:
    """Raises UserError for a value that would end its line of the script, or be something else to a terminal.

    Quotes keep a line's end in a value, but not in the document of lines that holds the training's command.
    """
    for flag in flags:
        if not is_printable(flag):
            name, _, value = flag.partition("=")
            raise UserError(f"{name}={shown(value)}: a script takes no line's end or control character. Rename it.")


_NOT_RUN = "# No TPU has run it yet: docs/tpu.md says what is verified."
_UNTESTED = (
    "# Slices of several hosts are untested, and no TPU has run this yet: docs/tpu.md says what is verified. Expect to "
    "have\n# to work on `start`."
)
