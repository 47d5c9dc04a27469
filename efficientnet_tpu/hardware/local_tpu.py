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
_TYPE_VARIABLE = "TPU_ACCELERATOR_TYPE"
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
    """Returns the TPU of this machine, or None: by its chips on the PCI bus, or by its device files.

    Containers may hide the bus, and have TPU_ACCELERATOR_TYPE, which then says the kind. Alone it shows nothing: no
    program reaches a TPU without one of its files, and libtpu, told to look for it, ends the process.
    """
    for folder in sorted(glob.glob(os.path.join(root, "sys/bus/pci/devices/*"))):
        if kind := _chip(folder):
            return LocalTpu(f"TPU {kind} on the PCI bus", kind)
    accelerator_type = environment.get(_TYPE_VARIABLE, "")
    kind = _kind_of_type(accelerator_type)
    for device in sorted(glob.glob(os.path.join(root, "dev/accel[0-9]*"))):
        folder = os.path.join(root, "sys/class/accel", os.path.basename(device), "device")
        if _chip(folder) or not os.path.exists(folder):
            return LocalTpu("/" + os.path.relpath(device, root), _chip(folder) or kind)
    # A group of devices that a program may drive: of any maker, where the bus shows another and nothing says TPU.
    for device in sorted(glob.glob(os.path.join(root, "dev/vfio/[0-9]*"))):
        if accelerator_type or not glob.glob(os.path.join(root, "sys/bus/pci/devices/*")):
            return LocalTpu("/" + os.path.relpath(device, root), kind)
    return None


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
                f"{flag}no TPU on this machine: no chip on the PCI bus, no /dev/accel0, no /dev/vfio/0"
                f"{_although_named(environment)}. Without --tpu it trains on what there is. A container needs the "
                "device files of its TPU: docker run --privileged, or GKE's google.com/tpu."
            )
        return
    if found.kind == _NEWEST:
        raise UserError(
            f"{flag}this machine has a TPU7x ({found.evidence}), which TensorFlow cannot drive: Google supports JAX "
            f"and PyTorch alone on it. Rent one of {', '.join(GENERATIONS)}, or give --tpu=none to train on its CPU."
        )
    if tpu and (plain := plain_tensorflow()):
        raise UserError(
            f"{flag}this machine has a TPU ({found.evidence}), but {plain} is the TensorFlow of CPUs and GPUs, which "
            f"has no TPU support; tensorflow-tpu has. In a fresh environment: {environment_command('tpu')}"
        )


def note_of_unused(hardware: HardwareConfig, root: str = "/", environment: Mapping[str, str] = os.environ) -> str:
    """Returns a line on a TPU that is here, or should be, and will not be used though nobody said so; else "".

    The TensorFlow that is installed may be that of CPUs and GPUs; or the environment may name a TPU that is not there.
    """
    if asked_for(hardware) or environment.get("TPU_NAME"):
        return ""
    found = find(root, environment)
    if found is None:
        named = _although_named(environment).removeprefix(", although ")
        return f"warning: {named}, but this machine has no TPU: trains on what there is" if named else ""
    if plain := plain_tensorflow():
        return (
            f"warning: the TPU of this machine ({found.evidence}) is NOT used: {plain} is the TensorFlow of CPUs and "
            f"GPUs. To use it, in a fresh environment: {environment_command('tpu')}. --tpu=none: without this line"
        )
    return ""


def plain_tensorflow() -> str:
    """Returns "tensorflow 2.21.0" where that of CPUs and GPUs is installed, and none for TPUs; else ""."""
    if any(installed_version(name) for name in ("tensorflow-tpu", "tf-nightly-tpu")):
        return ""
    plain = [name for name in ("tensorflow", "tensorflow-cpu", "tf-nightly") if installed_version(name)]
    return f"{plain[0]} {installed_version(plain[0])}" if plain else ""


def _although_named(environment: Mapping[str, str]) -> str:
    """Returns ", although TPU_ACCELERATOR_TYPE=v4-8 is set" where it is."""
    named = environment.get(_TYPE_VARIABLE, "")
    return f", although {_TYPE_VARIABLE}={shown(named)} is set" if named else ""


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
