"""The hosts that train one network, read from the environment variable TF_CONFIG.

TensorFlow does not check it, and waits forever for a host that does not exist. Here it is read and checked before
TensorFlow starts.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.errors import UserError

_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
_ADDRESS = re.compile(r"[^\s:/]+:(\d+)|\[[0-9a-fA-F:.]+\]:(\d+)")  # a name or an IPv4 address; an IPv6 address


@dataclass(frozen=True)
class TFConfig:
    """The hosts of a run. addresses: "host:port", the chief's first. index: the host of this process."""

    addresses: tuple[str, ...]
    index: int

    @property
    def count(self) -> int:
        """The number of hosts."""
        return len(self.addresses)


ONE_HOST = TFConfig(("localhost",), 0)


def read_tf_config(environment: Mapping[str, str] = os.environ) -> TFConfig:
    """Reads TF_CONFIG; returns ONE_HOST if it names one host or none. Raises UserError if it is wrong."""
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return ONE_HOST
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise _wrong(f"not JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("cluster") or {}, dict):
        raise _wrong("not an object with a cluster")
    if not content.get("cluster"):
        return ONE_HOST
    addresses_of_job = _read_cluster(content["cluster"])
    addresses = sum(addresses_of_job.values(), ())
    twice = next((address for address in addresses if addresses.count(address) > 1), None)
    if twice:
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
            raise _wrong(f"the job {job!r} has no part here: every host trains, as chief or worker")
    if len(cluster.get("chief", [0])) != 1:
        raise _wrong("there must be one chief")
    for job, addresses in sorted(cluster.items()):
        if not isinstance(addresses, list) or not addresses:
            raise _wrong(f"cluster.{job} is not a list of addresses")
        for address in addresses:
            match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
            if not match or not 0 < int(match[1] or match[2]) < 65536:
                raise _wrong(f"cluster.{job}: {address!r} is not host:port")
    return {job: tuple(addresses) for job, addresses in sorted(cluster.items())}


def _read_task(task: Any, addresses: dict[str, tuple[str, ...]]) -> tuple[str, int]:
    """Returns the job of this host and its index among the addresses of that job."""
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise _wrong("it does not say which host this is: task.type and task.index")
    job, index = task["type"], task["index"]
    if job not in addresses:
        raise _wrong(f"task.type is {job!r}, and the cluster has {' and '.join(addresses)}")
    if not re.fullmatch(r"\d+", str(index)) or int(index) >= len(addresses[job]):
        count = len(addresses[job])
        allowed = "0" if count == 1 else f"0 to {count - 1}"
        raise _wrong(f"task.index is {index!r}, and the cluster has {count} {job}{'s' * (count > 1)}: {allowed}")
    return job, int(index)


def _wrong(what: str) -> UserError:
    """Returns the error for a TF_CONFIG in which `what` is wrong."""
    return UserError(
        f"TF_CONFIG: {what}. On every host it must be such as {_EXAMPLE}, with the host's own index; "
        "on a single host leave it unset."
    )
