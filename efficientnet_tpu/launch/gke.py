"""`launch --print --on=gke`: a JobSet that trains on Google Kubernetes Engine, and the xpk command that does the same.

A training that is told to stop saves and ends with PREEMPTED; the JobSet then starts it anew. Any other error ends the
JobSet. No TensorFlow.
"""

import shlex
from typing import Any

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.preemption import PREEMPTED
from efficientnet_tpu.hardware.tpu_specs import Slice, parse_slice, parse_tpu_type
from efficientnet_tpu.launch import requirements
from efficientnet_tpu.launch.gpus import Gpus, parse_gpus
from efficientnet_tpu.launch.launch import expectation, training_flags
from efficientnet_tpu.launch.machine import read_labels
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.yaml_text import yaml_text

# The node label cloud.google.com/gke-tpu-accelerator, as GKE's page "Plan TPUs" and xpk 1.16 have it.
_ACCELERATORS = {
    "v4": "tpu-v4-podslice",
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
}
_JOB_SET_LABEL = "jobset.sigs.k8s.io/jobset-name"
_RESTARTS = 100
# Seconds from SIGTERM to SIGKILL: GKE gives a spot machine 25 at most, and a checkpoint takes longer on some buckets.
_GRACE, _GRACE_OF_SPOT = 600, 25
_PORT = 8470
_CONTAINER = "train"
_LONGEST_NAME = 40  # a pod's name has the job's in it, and at most 63 characters


def manifest(config: Config) -> str:
    """Returns the JobSet as YAML. Raises UserError for a TPU that GKE does not have."""
    launch = config.launch
    requirements.require_given(config, ("image",))
    requirements.require_names(
        config, ("tpu_name", "tpu_zone", "gcp_project", "image", "service_account", "reservation")
    )
    requirements.require_buckets(config)
    if len(launch.tpu_name) > _LONGEST_NAME:
        raise UserError(f"--tpu_name={launch.tpu_name}: is longer than {_LONGEST_NAME} characters, of a JobSet on GKE.")
    flags = training_flags(config)
    requirements.require_printable([*flags, launch.vm_labels])
    if launch.gpus:
        gpus = requirements.one_accelerator(config, parse_gpus)
        notes, pod = [], _gpu_pod(config, gpus, flags)
        num_hosts, machine, by_xpk = 1, f"{gpus.count} {gpus.kind}", ""
    else:
        tpu = _slice(config)
        notes, num_hosts, machine = expectation(config), tpu.num_hosts, f"TPU {tpu.name}"
        pod = _tpu_pod(config, tpu, flags)
        by_xpk = _xpk_command(config, flags) if num_hosts == 1 else ""
    lines = [
        f"# Trains on GKE: {machine}. Printed by `main.py launch --print --on=gke`; no cluster has run it yet.",
        f"# kubectl apply --filename=FILE; kubectl logs --follow --selector={_JOB_SET_LABEL}={launch.tpu_name}",
        "# The cluster needs JobSet (github.com/kubernetes-sigs/jobset), and a node pool of these machines.",
        *(["# Slices of several hosts are untested: docs/tpu.md."] if num_hosts > 1 else []),
        *notes,
        *([f"# By xpk, the same: {by_xpk}"] if by_xpk else []),
    ]
    return "\n".join(lines) + "\n" + yaml_text(_job_set(config, pod, num_hosts))


def _slice(config: Config) -> Slice:
    requirements.one_accelerator(config, parse_slice)
    tpu = parse_slice(config.launch.tpu_type)
    if tpu.kind not in _ACCELERATORS:
        named, known = f"--tpu_type={shown(config.launch.tpu_type)}", ", ".join(_ACCELERATORS)
        raise UserError(f"{named}: --on=gke has {known}; for {tpu.kind} take --on=tpu-vm.")
    return tpu


def _job_set(config: Config, pod: dict[str, Any], num_hosts: int) -> dict[str, Any]:
    launch = config.launch
    job: dict[str, Any] = {
        "parallelism": num_hosts,
        "completions": num_hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # a pod that fails ends the job, and the JobSet starts all of them anew
        "podFailurePolicy": {
            "rules": [
                {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": _CONTAINER, "operator": "NotIn", "values": [PREEMPTED]},
                },
            ]
        },
        "template": pod,
    }
    if num_hosts > 1:  # the first trains, the others serve
        job["successPolicy"] = {"rules": [{"succeededIndexes": "0"}]}
    if launch.max_hours:
        job["activeDeadlineSeconds"] = int(3600 * launch.max_hours)
    rule = {
        "name": "otherErrors",
        "action": "FailJobSet",
        "onJobFailureReasons": ["PodFailurePolicy", "DeadlineExceeded"],
    }
    metadata: dict[str, Any] = {"name": launch.tpu_name}
    if launch.vm_labels:
        metadata["labels"] = read_labels(launch.vm_labels)
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "failurePolicy": {"maxRestarts": _RESTARTS, "rules": [rule]},
            "replicatedJobs": [{"name": "worker", "replicas": 1, "template": {"spec": job}}],
        },
    }


def _pod(
    config: Config, container: dict[str, Any], selector: dict[str, str], resource: str, count: int
) -> dict[str, Any]:
    """Returns a pod template. container: its command. selector: labels of the nodes; resource: what they have."""
    launch = config.launch
    tolerations = [{"key": resource, "operator": "Exists", "effect": "NoSchedule"}]
    if launch.spot:
        selector = selector | {"cloud.google.com/gke-spot": "true"}
        tolerations.append({"key": "cloud.google.com/gke-spot", "operator": "Exists", "effect": "NoSchedule"})
    if launch.reservation:
        selector = selector | {"cloud.google.com/reservation-name": launch.reservation}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_OF_SPOT if launch.spot else _GRACE,
        "nodeSelector": selector,
        "tolerations": tolerations,
        "containers": [
            {
                "name": _CONTAINER,
                "image": launch.image,
                **container,
                "resources": {"requests": {resource: count}, "limits": {resource: count}},
            }
        ],
    }
    if launch.service_account:
        spec["serviceAccountName"] = launch.service_account
    return {"spec": spec}


def _tpu_pod(config: Config, tpu: Slice, flags: list[str]) -> dict[str, Any]:
    selector = {
        "cloud.google.com/gke-tpu-accelerator": _ACCELERATORS[tpu.kind],
        "cloud.google.com/gke-tpu-topology": tpu.topology.partition(":")[2],
    }
    container: dict[str, Any] = {"args": literal(["--tpu=local", *flags])}
    if tpu.num_hosts > 1:
        script = _slice_script(config.launch.tpu_name, tpu.num_hosts, flags)
        container = {"command": ["bash", "-c"], "args": literal([script])}
    container["securityContext"] = {"privileged": True}  # the TPU's device files
    return _pod(config, container, selector, "google.com/tpu", tpu.num_chips // tpu.num_hosts)


def _gpu_pod(config: Config, gpus: Gpus, flags: list[str]) -> dict[str, Any]:
    selector = {"cloud.google.com/gke-accelerator": gpus.names.gke}
    return _pod(config, {"args": literal(flags)}, selector, "nvidia.com/gpu", gpus.count)


def literal(arguments: list[str]) -> list[str]:
    """Returns arguments that Kubernetes leaves as they are: it takes $(NAME) for a variable, and $$ for $."""
    return [argument.replace("$", "$$") for argument in arguments]


def _slice_script(name: str, num_hosts: int, flags: list[str]) -> str:
    """Returns what runs on every host of a slice: a server, and on the first the program that trains."""
    hosts = [f"{name}-worker-0-{index}.{name}" for index in range(num_hosts)]
    addresses = ",".join(f"{host}:{_PORT}" for host in hosts)
    return f"""\
python -m efficientnet_tpu.launch.tpu_worker "$JOB_COMPLETION_INDEX" {addresses} &
if [ "$JOB_COMPLETION_INDEX" != 0 ]; then
  trap 'exit {PREEMPTED}' TERM
  wait
  exit {PREEMPTED}
fi
for host in {" ".join(hosts)}; do
  until (exec 3<> "/dev/tcp/$host/{_PORT}") 2> /dev/null; do sleep 2; done
done
export TPU_LOAD_LIBRARY=0
exec python main.py --tpu=grpc://{addresses} {shlex.join(flags)}
"""


def _xpk_command(config: Config, flags: list[str]) -> str:
    """Returns the command of xpk 1.16, which makes such a JobSet itself; it starts anew on PREEMPTED by default."""
    launch = config.launch
    command = ["xpk", "workload", "create", "--cluster=CLUSTER", f"--workload={launch.tpu_name}"]
    command += [f"--tpu-type={parse_tpu_type(launch.tpu_type).accelerator_type}", f"--docker-image={launch.image}"]
    command += [f"--max-restarts={_RESTARTS}", f"--termination-grace-period-seconds={_GRACE}"]
    command += [f"--zone={config.hardware.tpu_zone}"] if config.hardware.tpu_zone else []
    command += [f"--project={config.hardware.gcp_project}"] if config.hardware.gcp_project else []
    return shlex.join([*command, f"--command={shlex.join(['python', 'main.py', '--tpu=local', *flags])}"])
