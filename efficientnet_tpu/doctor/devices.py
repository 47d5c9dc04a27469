"""The accelerators of this machine, and why TensorFlow would find none: drivers, libraries, variables, rights."""

import ctypes
import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.doctor.finding import ERROR, NOTE, OK, WARNING, Finding, refused
from efficientnet_tpu.hardware import local_tpu
from efficientnet_tpu.installation import environment_command, install_command

SUBJECT = "devices"
_NVIDIA = "0x10de"  # the vendor of PCI devices
# NVIDIA's release notes of CUDA 12, which TensorFlow 2.19 to 2.21 are built with: the first driver of that series.
_FIRST_DRIVER = 525
# Of TensorFlow's wheels for CUDA 12, what is looked up when the first GPU is used.
_CUDA_LIBRARIES = ("libcudart.so.12", "libcudnn.so.9", "libcublas.so.12")
# Variables that name a file by which TensorFlow or libtpu reaches the TPU, and those that ask for one.
_LIBRARY_VARIABLES = ("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "TPU_LIBRARY_PATH")
_LOCK_FILE = "tmp/libtpu_lockfile"  # jax-ml/jax issue 10192: left by a program that aborted, it keeps others out


def _is_loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Machine:
    """The files, variables and libraries that the checks look at.

    root: holds dev/, proc/, sys/ and tmp/; another one in tests. is_loadable: whether the dynamic linker finds a
    library. has_rights: whether a file may be read and written.
    """

    versions: Mapping[str, str]
    root: str = "/"
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    is_loadable: Callable[[str], bool] = _is_loadable
    has_rights: Callable[[str], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)

    def files(self, pattern: str) -> list[str]:
        """Returns the files under the root that a pattern names."""
        return sorted(glob.glob(os.path.join(self.root, pattern)))

    def has_accelerator(self) -> bool:
        """Returns whether there is the device file of a GPU, or a TPU."""
        return bool(self.files("dev/nvidia[0-9]*") or local_tpu.find(self.root, self.environment))

    def shown(self, path: str) -> str:
        """Returns a path under the root as the machine has it."""
        return "/" + os.path.relpath(path, self.root)


def check_devices(machine: Machine, hardware: HardwareConfig) -> list[Finding]:
    """Returns the findings about GPUs and TPUs."""
    found = [*_gpu(machine), *_tpu(machine, hardware), *_variables(machine)]
    if not found:
        found = [
            Finding(SUBJECT, NOTE, "no GPU and no TPU: trains on the CPU", "neither is on the PCI bus nor in /dev")
        ]
    return found


def _gpu(machine: Machine) -> Iterator[Finding]:
    nodes = machine.files("dev/nvidia[0-9]*")
    driver = _driver_version(machine)
    on_bus = any(map(_is_nvidia, machine.files("sys/bus/pci/devices/*")))
    if not nodes and not (on_bus or driver):
        return
    if not driver and not nodes:
        yield Finding(
            SUBJECT,
            ERROR,
            "an NVIDIA GPU is on the PCI bus, and its driver is not loaded",
            "no /proc/driver/nvidia/version: the driver is not installed, or its module failed after a new kernel",
            "sudo dmesg | grep -i nvidia; then install the driver of your distribution, and start the machine again",
        )
        return
    if not nodes:
        yield Finding(
            SUBJECT,
            ERROR,
            "the driver of NVIDIA is loaded, and there is no /dev/nvidia0",
            "a container was not given the GPU, or nothing has made the device files yet",
            "docker run --gpus all ...; outside a container: sudo nvidia-modprobe -u -c=0",
        )
        return
    if closed := [machine.shown(node) for node in nodes if not machine.has_rights(node)]:
        yield Finding(
            SUBJECT,
            ERROR,
            f"{', '.join(closed)}: may not be read and written by this user",
            "the device file belongs to another group",
            f"ls -l {closed[0]}; sudo usermod -aG $(stat -c %G {closed[0]}) $USER, then log in again",
        )
    yield from _gpu_libraries(machine, driver, len(nodes))


def _gpu_libraries(machine: Machine, driver: str, num_gpus: int) -> Iterator[Finding]:
    """Yields what TensorFlow lacks to use GPUs that are there."""
    major = int(re.match("[0-9]*", driver)[0] or 0) if driver else 0  # pyright: ignore[reportOptionalSubscript]
    gpus = f"{num_gpus} NVIDIA GPU{'s' * (num_gpus > 1)}"
    if 0 < major < _FIRST_DRIVER:
        yield Finding(
            SUBJECT,
            ERROR,
            f"the driver of NVIDIA is {driver}",
            f"TensorFlow's CUDA 12 needs {_FIRST_DRIVER} or newer, and trains on the CPU with an older one",
            f"install a driver from {_FIRST_DRIVER} on; nvidia-smi shows what is loaded",
        )
    hidden = machine.environment.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not re.search("[0-9a-zA-Z]", hidden.replace("-1", "")):
        yield Finding(
            SUBJECT,
            WARNING,
            f"CUDA_VISIBLE_DEVICES={hidden} hides the GPUs of this machine",
            "it is set in the environment, and TensorFlow trains on the CPU",
            "unset CUDA_VISIBLE_DEVICES",
        )
    if without := [name for name in ("tensorflow-cpu", "tf-nightly-cpu") if name in machine.versions]:
        yield Finding(
            SUBJECT,
            ERROR,
            f"{gpus}, and {without[0]}, which has no CUDA",
            "it is the build for CPUs",
            f"in a fresh environment: {environment_command('gpu')}",
        )
        return
    missing = [name for name in ("libcuda.so.1", *_CUDA_LIBRARIES) if not machine.is_loadable(name)]
    from_wheels = {"nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu12", "nvidia-cublas-cu12"} <= machine.versions.keys()
    if "libcuda.so.1" in missing:
        yield Finding(
            SUBJECT,
            ERROR,
            f"{gpus}, and the dynamic linker does not find libcuda.so.1",
            "the driver's library is not installed, or a container was started without --gpus all",
            "ldconfig -p | grep libcuda; nvidia-smi",
        )
    elif missing and not from_wheels:
        yield Finding(
            SUBJECT,
            ERROR,
            f"{gpus}, and CUDA's libraries are missing: {', '.join(missing)}",
            "TensorFlow without them trains on the CPU, and says so in a warning only",
            install_command("gpu"),
        )
    else:
        yield Finding(SUBJECT, OK, f"{gpus}, driver {driver or 'unknown'}, CUDA's libraries are there")


def _tpu(machine: Machine, hardware: HardwareConfig) -> Iterator[Finding]:
    root, environment = machine.root, machine.environment
    refusals = refused(SUBJECT, lambda: local_tpu.require_usable(hardware, root, environment))
    yield from refusals
    found = local_tpu.find(root, environment)
    if note := local_tpu.note_of_unused(hardware, root, environment):
        what, _, rest = note.removeprefix("warning: ").partition(": ")
        yield Finding(SUBJECT, WARNING, what, rest, environment_command("tpu") if found else "")
    if found is None:
        return
    nodes = machine.files("dev/accel[0-9]*") or machine.files("dev/vfio/[0-9]*")
    closed = [machine.shown(node) for node in nodes if not machine.has_rights(node)]
    if closed:
        yield Finding(
            SUBJECT,
            ERROR,
            f"{', '.join(closed)}: may not be read and written by this user",
            "the TPU's device files belong to root, as on a new TPU VM for users that were added later",
            f"sudo chmod a+rw {' '.join(closed)}; in a container: docker run --privileged",
        )
    lock = os.path.join(root, _LOCK_FILE)
    if os.path.exists(lock):
        yield Finding(
            SUBJECT,
            WARNING,
            f"{machine.shown(lock)} is there",
            "another program holds the TPU, or one that aborted has left it; libtpu then refuses the TPU",
            "sudo lsof -w /dev/accel* /dev/vfio/*; if nothing holds it: sudo rm -f /tmp/libtpu_lockfile",
        )
    if not (closed or refusals or note):
        yield Finding(SUBJECT, OK, found.evidence)


def _variables(machine: Machine) -> Iterator[Finding]:
    """Yields variables that name a TPU's library that is not there, or ask for a device that is not."""
    environment = machine.environment
    for name in _LIBRARY_VARIABLES:
        path = environment.get(name, "")
        if path and not os.path.exists(path):
            yield Finding(
                SUBJECT,
                ERROR,
                f"{name}={path}: there is no such file",
                "TensorFlow loads the TPU's driver from it, and ends by a signal or finds no TPU",
                f"unset {name}   # the program sets it by itself where it is needed",
            )
    if environment.get("PJRT_DEVICE", "").upper() == "TPU" and not local_tpu.find(machine.root, environment):
        yield Finding(
            SUBJECT,
            WARNING,
            "PJRT_DEVICE=TPU is set, and this machine has no TPU",
            "it was set for another machine, or the container was not given the TPU's device files",
            "unset PJRT_DEVICE; for a TPU in a container: docker run --privileged",
        )


def _driver_version(machine: Machine) -> str:
    """Returns "535.104.05", "" where no driver is loaded."""
    for path in machine.files("proc/driver/nvidia/version"):
        with open(path, errors="replace") as file:
            if match := re.search(r"\s([0-9]{3,4}\.[0-9.]+)\s", file.read()):
                return match[1]
        return "unknown"
    return ""


def _is_nvidia(folder: str) -> bool:
    """Returns whether a folder of sysfs is that of an NVIDIA device that computes: class 03, a display controller."""
    try:
        with open(os.path.join(folder, "vendor")) as vendor, open(os.path.join(folder, "class")) as kind:
            return vendor.read().strip() == _NVIDIA and kind.read().startswith("0x03")
    except OSError:
        return False
