"""`launch --print --on=vertex`: a custom job of Vertex AI, where Google supports TensorFlow. No TensorFlow."""

from typing import Any

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import Slice, parse_slice
from efficientnet_tpu.launch import requirements
from efficientnet_tpu.launch.gpus import Gpus, parse_gpus
from efficientnet_tpu.launch.launch import expectation, training_flags
from efficientnet_tpu.launch.machine import read_labels
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.yaml_text import yaml_text


def custom_job(config: Config) -> str:
    """Returns the job as YAML for `gcloud ai custom-jobs create --config`.

    Raises UserError for a TPU on which Google does not support TensorFlow there.
    """
    launch = config.launch
    requirements.require_given(config, ("tpu_zone", "gcp_project", "image"))
    requirements.require_names(config, ("tpu_name", "tpu_zone", "gcp_project", "image", "service_account"))
    requirements.require_buckets(config)
    flags = training_flags(config)
    requirements.require_printable([*flags, launch.vm_labels, launch.vm_network])
    for flag in flags:
        if "$(" in flag:  # whether it stands for a variable there is not documented
            raise UserError(f"{shown(flag)}: --on=vertex may take $(...) for a variable. Rename it.")
    notes: list[str] = []
    if launch.gpus:
        machine = _gpu_machine(requirements.one_accelerator(config, parse_gpus))
    else:
        machine = _tpu_machine(config, requirements.one_accelerator(config, parse_slice))
        notes, flags = expectation(config), ["--tpu=local", *flags]
    command = f"gcloud ai custom-jobs create --display-name={launch.tpu_name} --config=FILE"
    command += f" --region={config.hardware.tpu_zone.rpartition('-')[0]} --project={config.hardware.gcp_project}"
    if launch.vm_labels and read_labels(launch.vm_labels):
        command += f" --labels={launch.vm_labels}"
    head = [
        "# Trains by a custom job of Vertex AI. Printed by `main.py launch --print --on=vertex`; not run by us.",
        f"# {command}",
        "# What Vertex takes away it starts anew, and the training goes on; another error ends the job.",
        *notes,
    ]
    return "\n".join(head) + "\n" + yaml_text(_job(config, machine, flags))


def _job(config: Config, machine: dict[str, Any], flags: list[str]) -> dict[str, Any]:
    """Returns the CustomJobSpec. Of several machines Vertex calls the first one's pool the chief, in TF_CONFIG."""
    launch = config.launch
    pool = {"machineSpec": machine, "replicaCount": 1, "containerSpec": {"imageUri": launch.image, "args": flags}}
    scheduling: dict[str, Any] = {"restartJobOnWorkerRestart": True}
    if launch.spot:
        scheduling["strategy"] = "SPOT"
    if launch.max_hours:
        scheduling["timeout"] = f"{int(3600 * launch.max_hours)}s"
    others = [pool | {"replicaCount": launch.num_hosts - 1}] if launch.num_hosts > 1 else []
    job: dict[str, Any] = {"workerPoolSpecs": [pool, *others], "scheduling": scheduling}
    named = {"serviceAccount": launch.service_account, "network": launch.vm_network}
    return job | {name: value for name, value in named.items() if value}


def _gpu_machine(gpus: Gpus) -> dict[str, Any]:
    """Returns the machineSpec of a machine with GPUs. Raises UserError for a number that there is none with."""
    if gpus.count not in gpus.names.machines:
        counts = ", ".join(map(str, gpus.names.machines))
        raise UserError(f"--gpus={gpus.kind}:{gpus.count}: --on=vertex has machines with {counts} of {gpus.kind}.")
    return {
        "machineType": gpus.names.machines[gpus.count],
        "acceleratorType": gpus.names.vertex,
        "acceleratorCount": gpus.count,
    }


def _tpu_machine(config: Config, tpu: Slice) -> dict[str, Any]:
    """Returns the machineSpec of a TPU, by Vertex' pages "Train with TPU VMs" and "Configure compute resources"."""
    named = f"--tpu_type={shown(config.launch.tpu_type)}"
    if config.launch.num_hosts > 1:
        raise UserError(
            f"--num_hosts={config.launch.num_hosts}: is of machines with GPUs. A TPU has its size in {named}."
        )
    if tpu.kind not in ("v2", "v3", "v5e"):
        why = "does not support TensorFlow from v6e on" if tpu.kind == "v6e" else f"has no {tpu.kind}"
        raise UserError(f"{named}: Vertex AI {why}. Take v2, v3 or v5e, or --on=tpu-vm or gke.")
    if tpu.num_hosts > 1:
        raise UserError(f"{named}: --on=vertex starts no slice of several hosts. Take one host, or --on=gke.")
    if tpu.kind == "v5e":
        return {"machineType": f"ct5lp-hightpu-{tpu.num_chips}t", "tpuTopology": tpu.topology.partition(":")[2]}
    return {"machineType": "cloud-tpu", "acceleratorType": f"TPU_{tpu.kind.upper()}", "acceleratorCount": tpu.num_cores}
