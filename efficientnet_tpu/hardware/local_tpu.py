"""The TPU of this machine: what shows that there is one, its kind, and what TensorFlow is told of it before it starts.

No TensorFlow. Without a TPU, libtpu would ask a metadata server for minutes while TensorFlow is imported.
"""

import glob
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS
from efficientnet_tpu.installation import environment_command, installed_version
from efficientnet_tpu.texts.printable import shown

LOCAL, NONE = "local", "none"

# TPU chips are PCI devices of Google (vendor 0x1ae0). Its other devices, such as network cards, have other numbers.
_PCI_VENDOR = "0x1ae0"
_NEWEST = "7x"
_PCI_DEVICES = {
    "0x0027": "v2 or v3",
    "0x005e": "v4",
    "0x0062": "v5p",
    "0x0063": "v5e",
    "0x006f": "v6e",
    "0x0076": _NEWEST,
}

# What the public recipes for TensorFlow on TPUs set, of which docs/tpu.md names the sources: the way through MLIR from
# graphs to programs; a buffer that PJRT copies; and seconds of patience with Google Cloud Storage, where a checkpoint
# is one large file.
_ON_EVERY_TPU = {
    "TF_XLA_FLAGS": "--tf_mlir_enable_mlir_bridge=true --tf_mlir_enable_convert_control_to_data_outputs_pass=true "
    "--tf_mlir_enable_merge_control_flow_pass=true",
    "GCS_RESOLVE_REFRESH_SECS": "60",
    "GCS_REQUEST_CONNECTION_TIMEOUT_SECS": "300",
    "GCS_METADATA_REQUEST_TIMEOUT_SECS": "300",
    "GCS_READ_REQUEST_TIMEOUT_SECS": "300",
    "GCS_WRITE_REQUEST_TIMEOUT_SECS": "600",
}
_WITH_PJRT = {
    "PJRT_DEVICE": "TPU",
    "NEXT_PLUGGABLE_DEVICE_USE_C_API": "true",
    "LIBTPU_INIT_ARGS": "--copy_with_dynamic_shape_op_output_pjrt_buffer=true",
}
# Neither is libtpu loaded, nor, where a user has it loaded, the metadata server asked.
_WITHOUT_A_TPU = {"TPU_LOAD_LIBRARY": "0", "TPU_SKIP_MDS_QUERY": "1"}


@dataclass(frozen=True)
class LocalTpu:
    """A TPU of this machine.

    evidence: what shows it, such as "TPU v5e on the PCI bus". kind: v4, v5e, "v2 or v3", 7x, or "" where nothing tells.
    """

    evidence: str
    kind: str

    @property
    def has_pjrt(self) -> bool:
        """Whether libtpu drives it through PJRT: from v5e on. v2 to v4 have StreamExecutor, TensorFlow's default."""
        # What is known by its device file alone is as new as the kind of that file.
        return self.kind.startswith(("v5", "v6")) or (not self.kind and "vfio" in self.evidence)


def find(root: str = "/", environment: Mapping[str, str] = os.environ) -> LocalTpu | None:
    """Returns the TPU of this machine, or None: by its chips, its device files, or the environment of containers."""
    for folder in sorted(glob.glob(os.path.join(root, "sys/bus/pci/devices/*"))):
        if kind := _chip(folder):
            return LocalTpu(f"TPU {kind} on the PCI bus", kind)
    # Containers on a TPU VM or in GKE may hide the bus, and have this variable.
    accelerator_type = environment.get("TPU_ACCELERATOR_TYPE", "")
    kind = _kind_of_type(accelerator_type)
    for device in sorted(glob.glob(os.path.join(root, "dev/accel[0-9]*"))):
        folder = os.path.join(root, "sys/class/accel", os.path.basename(device), "device")
        if _chip(folder) or not os.path.exists(folder):
            return LocalTpu("/" + os.path.relpath(device, root), _chip(folder) or kind)
    # A group of devices that a program may drive: of any maker, where the bus shows which.
    for device in sorted(glob.glob(os.path.join(root, "dev/vfio/[0-9]*"))):
        if not glob.glob(os.path.join(root, "sys/bus/pci/devices/*")):
            return LocalTpu("/" + os.path.relpath(device, root), kind)
    return LocalTpu(f"TPU_ACCELERATOR_TYPE={shown(accelerator_type)}", kind) if accelerator_type else None


def asked_for(hardware: HardwareConfig) -> str:
    """Returns the value of --tpu that the flags amount to; "" takes the TPU where there is one."""
    return hardware.tpu or (NONE if hardware.virtual_replicas else "")


def require_usable(hardware: HardwareConfig, root: str = "/", environment: Mapping[str, str] = os.environ) -> None:
    """Raises UserError where this machine's TPU is asked for and there is none, or one that TensorFlow cannot drive."""
    tpu = asked_for(hardware)
    if tpu not in ("", LOCAL) or (not tpu and environment.get("TPU_NAME")):
        return
    found = find(root, environment)
    flag = "--tpu=local: " if tpu else ""
    if found is None:
        if tpu:
            raise UserError(
                f"{flag}no TPU on this machine: no chip on the PCI bus, no /dev/accel0, no /dev/vfio/0, no "
                "TPU_ACCELERATOR_TYPE in the environment. Without --tpu it trains on what there is. In a container "
                "that hides its TPU set TPU_ACCELERATOR_TYPE, such as v5litepod-8."
            )
        return
    if found.kind == _NEWEST:
        raise UserError(
            f"{flag}this machine has a TPU7x ({found.evidence}), which TensorFlow cannot drive: Google supports JAX "
            f"and PyTorch alone on it. Rent one of {', '.join(GENERATIONS)}, or give --tpu=none to train on its CPU."
        )
    builds = [name for name in ("tensorflow-tpu", "tf-nightly-tpu") if installed_version(name)]
    plain = [name for name in ("tensorflow", "tensorflow-cpu", "tf-nightly") if installed_version(name)]
    if tpu and plain and not builds:
        raise UserError(
            f"{flag}this machine has a TPU ({found.evidence}), but {plain[0]} {installed_version(plain[0])} is the "
            "TensorFlow of CPUs and GPUs, which has no TPU support; tensorflow-tpu has. In a fresh environment: "
            f"{environment_command('tpu')}"
        )


def settings(tpu: LocalTpu | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the variables that tensorflow-tpu and libtpu read when they are imported, as they shall be.

    What the environment has is kept. A program that is told not to load libtpu, as the one that trains on a slice is,
    leaves the chips to a server: PJRT would take them.
    """
    wanted = dict(_ON_EVERY_TPU if tpu else _WITHOUT_A_TPU)
    takes_chips = environment.get("TPU_LOAD_LIBRARY") != "0" and installed_version("libtpu")
    if tpu and tpu.has_pjrt and takes_chips:
        wanted |= _WITH_PJRT
        wanted["TF_PLUGGABLE_DEVICE_LIBRARY_PATH"] = importlib.import_module("libtpu").get_library_path()
    return {name: environment.get(name, value) for name, value in wanted.items()}


def _chip(folder: str) -> str:
    """Returns the kind of the TPU chip that a folder of sysfs describes; "" if it is none."""
    if _first_line(os.path.join(folder, "vendor")) != _PCI_VENDOR:
        return ""
    return _PCI_DEVICES.get(_first_line(os.path.join(folder, "device")), "")


def _kind_of_type(accelerator_type: str) -> str:
    """Returns the kind of a type as Google Cloud writes it, v5litepod-8 say; "" if it is none that is known."""
    prefix = accelerator_type.strip().lower().partition("-")[0]
    if prefix in ("tpu7x", "tpu7", "7x"):
        return _NEWEST
    return {generation.prefix: kind for kind, generation in GENERATIONS.items()}.get(
        prefix, prefix if prefix in GENERATIONS else ""
    )


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""
