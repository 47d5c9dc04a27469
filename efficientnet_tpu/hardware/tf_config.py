"""The hosts that train one network, read from the environment variable TF_CONFIG.

TensorFlow does not check it, and waits forever for a host that does not exist. Here it is read and checked before
TensorFlow starts.
"""

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


ONE_HOST = TFConfig(("localhost",), 0)


def read_tf_config(environment: Mapping[str, str] = os.environ) -> TFConfig:
    """Reads TF_CONFIG; returns ONE_HOST if it names one host or none. Raises UserError if it is wrong."""
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return ONE_HOST
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
