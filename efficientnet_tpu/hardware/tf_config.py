"""The hosts that train one network, read from the environment variable TF_CONFIG, or from those of Slurm.

TensorFlow does not check it, and waits forever for a host that does not exist. Here it is read and checked before
TensorFlow starts.
"""

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.texts.printable import shown

_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
# A name or an IPv4 address; an IPv6 address.
_ADDRESS = re.compile(r"[^\s:/\x00-\x1f\x7f]{1,253}:([0-9]{1,5})|\[[0-9a-fA-F:.]{2,45}\]:([0-9]{1,5})")


@dataclass(frozen=True)
class TFConfig:
    """The hosts of a run. addresses: "host:port", the chief's first. index: the host of this process."""

    addresses: tuple[str, ...]
    index: int

    @property
    def count(self) -> int:
        """The number of hosts."""
        return len(self.addresses)

    def as_json(self) -> str:
        """Returns the content of TF_CONFIG that says the same."""
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": list(self.addresses)}, "task": task})


ONE_HOST = TFConfig(("localhost",), 0)


def read_tf_config(environment: Mapping[str, str] = os.environ) -> TFConfig:
    """Reads TF_CONFIG or, without it, the variables of Slurm; returns ONE_HOST where they name one host or none.

    TF_CONFIG={} is one host under Slurm too. Raises UserError if they are wrong.
    """
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return _read_slurm(environment)
    try:
        content = read_json(text)
    except ValueError as error:
        raise _wrong(str(error).removeprefix("is ")) from error
    if not isinstance(content, dict) or not isinstance(content.get("cluster") or {}, dict):
        raise _wrong("not an object with a cluster")
    if not content.get("cluster"):
        return ONE_HOST
    addresses_of_job = _read_cluster(content["cluster"])
    addresses = sum(addresses_of_job.values(), ())
    if len(set(addresses)) < len(addresses):
        twice, _ = Counter(addresses).most_common(1)[0]
        raise _wrong(f"{twice} is there twice")
    job, index = _read_task(content.get("task"), addresses_of_job)
    if len(addresses) == 1:
        return ONE_HOST
    first_index = {"chief": 0, "worker": len(addresses_of_job.get("chief", ()))}
    return TFConfig(addresses, first_index[job] + index)


def _read_cluster(cluster: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Returns the addresses of each job, the chief first."""
    for job in cluster:
        if job not in ("chief", "worker"):
            raise _wrong(f"the job {_shown(job)} has no part here: every host trains, as chief or worker")
    for job, addresses in sorted(cluster.items()):
        if not isinstance(addresses, list) or not addresses:
            raise _wrong(f"cluster.{job} is not a list of addresses")
        if job == "chief" and len(addresses) != 1:
            raise _wrong("there must be one chief")
        for address in addresses:
            match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
            if not match or not 0 < int(match[1] or match[2]) < 65536:
                raise _wrong(f"cluster.{job}: {_shown(address)} is not host:port")
    return {job: tuple(addresses) for job, addresses in sorted(cluster.items())}


def _read_task(task: Any, addresses: dict[str, tuple[str, ...]]) -> tuple[str, int]:
    """Returns the job of this host and its index among the addresses of that job."""
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise _wrong("it does not say which host this is: task.type and task.index")
    job, index = task["type"], task["index"]
    if not isinstance(job, str) or job not in addresses:
        raise _wrong(f"task.type is {_shown(job)}, and the cluster has {' and '.join(addresses)}")
    if not re.fullmatch("[0-9]{1,6}", str(index)) or int(index) >= len(addresses[job]):
        count = len(addresses[job])
        allowed = "0" if count == 1 else f"0 to {count - 1}"
        raise _wrong(f"task.index is {_shown(index)}, and the cluster has {count} {job}{'s' * (count > 1)}: {allowed}")
    return job, int(index)


def _shown(value: object) -> str:
    """Returns a value as a message may quote it: 'ada', 3."""
    return shown(repr(value), 80)


def _wrong(what: str) -> UserError:
    """Returns the error for a TF_CONFIG in which `what` is wrong."""
    return UserError(
        f"TF_CONFIG: {what}. On every host it must be such as {_EXAMPLE}, with the host's own index; "
        "on a single host leave it unset."
    )


# What srun sets for each of the tasks that it starts, as TensorFlow's SlurmClusterResolver reads them. A task's own
# number among all, SLURM_PROCID, goes round the nodes where srun is told so: node and number on it tell for certain.
_SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_NODEID", "SLURM_LOCALID")
_FIRST_PORT, _NUM_PORTS = 20_000, 12_000  # below those that Linux gives to clients
_MOST_HOSTS = 100_000


def _read_slurm(environment: Mapping[str, str]) -> TFConfig:
    """Returns the hosts of the step of Slurm that this process is a task of; ONE_HOST outside of one."""
    in_a_step = any(environment.get(name) for name in _SLURM if "_STEP_" in name)
    if not in_a_step or environment.get("SLURM_STEP_NUM_TASKS") == "1":
        return ONE_HOST
    missing = [name for name in _SLURM if not environment.get(name)]
    if missing:
        given = next(name for name in _SLURM if environment.get(name))
        raise _wrong_slurm(f"{missing[0]} is missing, and {given}={shown(environment[given])} is set")
    count, _, _, node, local = (environment[name] for name in _SLURM)
    hosts = _expand_hosts(environment["SLURM_STEP_NODELIST"])
    tasks = _tasks_of_hosts(environment["SLURM_STEP_TASKS_PER_NODE"])
    if len(hosts) != len(tasks) or str(sum(tasks)) != count:
        lists = (
            f"SLURM_STEP_NODELIST has {len(hosts)} nodes, SLURM_STEP_TASKS_PER_NODE {sum(tasks)} tasks on {len(tasks)}"
        )
        raise _wrong_slurm(f"{lists}, and SLURM_STEP_NUM_TASKS={shown(count)}")
    if not (node.isdecimal() and int(node) < len(hosts) and local.isdecimal() and int(local) < tasks[int(node)]):
        raise _wrong_slurm(f"SLURM_NODEID={shown(node)} SLURM_LOCALID={shown(local)}: there is no such task")
    job = environment.get("SLURM_JOB_ID", "0")
    port = _FIRST_PORT + (int(job) if job.isdecimal() else 0) % _NUM_PORTS
    addresses = [f"{host}:{port + task}" for host, number in zip(hosts, tasks, strict=True) for task in range(number)]
    return TFConfig(tuple(addresses), sum(tasks[: int(node)]) + int(local))


def _expand_hosts(nodelist: str) -> list[str]:
    """Returns the names in a list as Slurm writes it: gpu[01-03,07],login1."""
    hosts: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", nodelist):
        pieces = [_expand_range(piece) for piece in re.findall(r"\[[^\]]*\]|[^\[\]]+", part)]
        hosts += itertools.islice(map("".join, itertools.product(*pieces)), _MOST_HOSTS)
    if not hosts or not all(re.fullmatch(r"[A-Za-z0-9._-]{1,253}", host) for host in hosts):
        raise _wrong_slurm(f"SLURM_STEP_NODELIST={shown(nodelist)}: is no list of nodes")
    return hosts


def _expand_range(piece: str) -> list[str]:
    """Returns 01, 02, 03, 07 of [01-03,07], and another piece of a name as it is."""
    if not piece.startswith("["):
        return [piece]
    numbers: list[str] = []
    for part in piece[1:-1].split(","):
        first, _, last = part.partition("-")
        if not re.fullmatch("[0-9]{1,9}", first) or not re.fullmatch("[0-9]{0,9}", last):
            raise _wrong_slurm(f"SLURM_STEP_NODELIST: {shown(piece)} is no range")
        limit = min(int(last or first), int(first) + _MOST_HOSTS) + 1
        numbers += [f"{number:0{len(first)}}" for number in range(int(first), limit)]
    return numbers


def _tasks_of_hosts(text: str) -> list[int]:
    """Returns 2, 2, 2, 1 of 2(x3),1."""
    tasks: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:\(x([0-9]{1,5})\))?", part)
        if not match:
            raise _wrong_slurm(f"SLURM_STEP_TASKS_PER_NODE={shown(text)}: is no such list as 2(x3),1")
        tasks += [int(match[1])] * int(match[2] or 1)
    return tasks


def _wrong_slurm(what: str) -> UserError:
    """Returns the error for variables of Slurm in which `what` is wrong."""
    return UserError(
        f"Slurm: {what}. srun sets all of {', '.join(_SLURM)}; TF_CONFIG={{}} in the environment trains alone."
    )
