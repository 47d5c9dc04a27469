"""TPU discovery: whether this machine has a TPU, and whether a remote one is ready.

cloud-tpu-client asks the Cloud TPU API; it is an extra, needed only for a TPU given by name. Nothing here waits longer
than the limits below: the client alone would wait for a metadata server forever.
"""

import importlib.util
import os
import re
import socket
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import local_tpu
from efficientnet_tpu.hardware.local_tpu import LOCAL, NONE
from efficientnet_tpu.installation import install_command

Result = TypeVar("Result")
_METADATA_SECONDS = 5.0
_API_SECONDS = 60.0
_CONNECT_SECONDS = 10.0


def choose(
    tpu: str, can_use_tpu: bool, environment: Mapping[str, str] = os.environ, root: str = "/"
) -> tuple[str, str]:
    """Returns the TPU to use ("local", a name, an address, "" for none) and a line to print ("" for none).

    tpu: the value of --tpu. can_use_tpu: whether this TensorFlow has the operations of TPUs.
    """
    if tpu:
        return ("" if tpu == NONE else tpu), ""
    named = environment.get("TPU_NAME", "")
    local = None if named else local_tpu.find(root, environment)
    if not named and local is None:
        return "", ""
    found = local.evidence if local else f"TPU_NAME={named}"
    if not can_use_tpu:
        # Of the plain TensorFlow the user was told before it started.
        return "", "" if local_tpu.plain_tensorflow() else f"note: the TPU ({found}) is not used by this TensorFlow"
    return named or LOCAL, f"using the TPU ({found}); --tpu=none does not"


def require_reachable(name: str, zone: str, project: str) -> tuple[str, str]:
    """Checks that a TPU given by name or address answers; returns its zone and project, looked up if not given.

    Raises UserError for a TPU that is not READY and healthy, and for an address where nothing listens.
    """
    if name == LOCAL:
        return zone, project
    if name.startswith("grpc://"):
        require_listening(name, grpc_addresses(name))
        return zone, project
    if importlib.util.find_spec("cloud_tpu_client") is None:
        raise UserError(
            f"--tpu={name}: looking up a TPU by name needs cloud-tpu-client: {install_command('cloud')}\n"
            "On a TPU VM no name is needed: --tpu=local"
        )
    project = project or read_metadata(name, "gcp_project", "project/project-id")
    zone = zone or read_metadata(name, "tpu_zone", "instance/zone").rpartition("/")[2]
    require_listening(name, ready_workers(name, zone, project))
    return zone, project


def grpc_addresses(tpu: str) -> list[tuple[str, int]]:
    """Returns the host and port of every worker of grpc://host:port[,host:port...]."""
    addresses = []
    for part in tpu.split(","):
        match = re.fullmatch(r"(?:grpc://)?([^\s:/]+):(\d{1,5})", part.strip())
        if not match:
            raise UserError(f"--tpu={tpu}: {part!r} is no address. Such is --tpu=grpc://10.0.0.2:8470")
        addresses.append((match[1], int(match[2])))
    return addresses


def require_listening(tpu: str, addresses: Sequence[tuple[str, int]]) -> None:
    """Raises UserError unless something listens at all (host, port)."""
    # TensorFlow would try for minutes, and report only that it could not connect.
    for host, port in addresses:
        try:
            socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            raise UserError(
                f"--tpu={tpu}: nothing answers at {host}:{port} ({error}). A TPU's workers are reached from its own "
                "network alone, and a TPU VM with one host has none: run there, with --tpu=local."
            ) from error


def ready_workers(name: str, zone: str, project: str) -> list[tuple[str, int]]:
    """Asks the Cloud TPU API for the state of the TPU; returns the addresses of its workers."""

    def ask() -> tuple[Any, Any, list[dict[str, Any]]]:
        import cloud_tpu_client

        client = cloud_tpu_client.Client(tpu=name, zone=zone, project=project)
        state, health = client.state(), client.health()
        return state, health, client.network_endpoints() if state == "READY" else []

    place = f"--tpu={name} in {zone} of {project}"
    try:
        state, health, endpoints = call_within(_API_SECONDS, ask)
    except TimeoutError as error:
        raise UserError(f"{place}: the Cloud TPU API did not answer within {_API_SECONDS:.0f} s.") from error
    except Exception as error:  # the client raises many unrelated classes
        raise UserError(
            f"{place}: cannot be looked up: {error}\nIs there such a TPU, is the Cloud TPU API enabled, and is there "
            "`gcloud auth application-default login`?"
        ) from error
    remedy = _remedy(state, health, f"{name} --zone={zone} --project={project}")
    if remedy:
        raise UserError(f"{place}: state {state}, health {health or 'unknown'}. {remedy}")
    return [(endpoint["ipAddress"], int(endpoint["port"])) for endpoint in endpoints]


def _remedy(state: str | None, health: str | None, which: str) -> str:
    """Returns what to do before a TPU in this state can be used; "" if it can."""
    gcloud = "gcloud compute tpus tpu-vm"
    if state in ("PREEMPTED", "TERMINATED"):
        return f"It will not come back: {gcloud} delete {which}, and create it again."
    if state in ("STOPPED", "STOPPING"):
        return f"Start it: {gcloud} start {which}"
    if state != "READY" or health == "UNHEALTHY_MAINTENANCE":
        return f"Wait until it is READY: {gcloud} describe {which}"
    if health in ("TIMEOUT", "UNHEALTHY_TENSORFLOW", "DEPRECATED_UNHEALTHY", "UNHEALTHY"):
        return f"Restart it: {gcloud} stop {which}, then {gcloud} start {which}"
    return ""


def read_metadata(name: str, flag: str, path: str) -> str:
    """Returns a value from the metadata server of Google Cloud."""
    server = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{server}/computeMetadata/v1/{path}", headers={"Metadata-Flavor": "Google"}
    )

    def ask() -> str:
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as answer:
            return answer.read().decode()

    try:
        return call_within(2 * _METADATA_SECONDS, ask)  # urlopen does not limit the look-up of a name
    except OSError as error:
        raise UserError(
            f"--{flag} is missing: --tpu={name} is looked up by name, and no metadata server answers that "
            "would know it, as one does on Google Cloud."
        ) from error


def call_within(seconds: float, function: Callable[[], Result]) -> Result:
    """Returns or raises what `function` does. Raises TimeoutError after `seconds`; the function keeps running then."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again by future.result
            future.set_exception(error)

    Thread(target=run, daemon=True).start()  # a daemon does not keep the program from ending
    return future.result(seconds)
