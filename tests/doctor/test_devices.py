"""GPUs and TPUs that are there and cannot be used: made-up device files, drivers, libraries and variables."""

import pytest

from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.doctor.devices import Machine, check_devices
from efficientnet_tpu.doctor.finding import ERROR, NOTE, OK, WARNING
from efficientnet_tpu.hardware import local_tpu

VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Feb  1 01:22:26 UTC 2024\nGCC version:  11\n"


@pytest.fixture
def made(tmp_path):
    """made(files, **facts) -> findings on a machine that has the files, by path under its root."""

    def make(files, versions=("tensorflow",), is_loadable=lambda name: True, closed=(), tpu="", **environment):
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content)
        machine = Machine(
            dict.fromkeys(versions, "2.21.0"),
            str(tmp_path),
            environment,
            is_loadable,
            lambda path: not path.endswith(tuple(closed)) if closed else True,
        )
        return check_devices(machine, HardwareConfig(tpu=tpu))

    return make


def gpu(driver="535.104.05", node=True):
    files = {
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
    }
    files |= {"proc/driver/nvidia/version": VERSION.format(driver)} if driver else {}
    return files | ({"dev/nvidia0": ""} if node else {})


def test_nothing_is_a_note(made):
    [finding] = made({})
    assert (finding.severity, finding.found) == (NOTE, "no GPU and no TPU: trains on the CPU")


def test_a_gpu_that_is_well(made):
    [finding] = made(gpu())
    assert finding.severity == OK
    assert finding.found.startswith("1 NVIDIA GPU, driver 535.104.05")


@pytest.mark.parametrize(
    ("files", "facts", "found", "command"),
    [
        (gpu(driver="", node=False), {}, "driver is not loaded", "dmesg"),
        (gpu(node=False), {}, "there is no /dev/nvidia0", "docker run --gpus all"),
        (gpu(), {"closed": ["nvidia0"]}, "/dev/nvidia0: may not be read and written", "usermod"),
        (gpu(driver="470.42.01"), {}, "the driver of NVIDIA is 470.42.01", "525"),
        (gpu(), {"versions": ["tensorflow-cpu"]}, "tensorflow-cpu, which has no CUDA", "[gpu]"),
        (gpu(), {"is_loadable": lambda name: False}, "does not find libcuda.so.1", "ldconfig"),
        (gpu(), {"is_loadable": lambda name: "cudnn" not in name}, "missing: libcudnn.so.9", "and-cuda"),
    ],
)
def test_a_gpu_that_cannot_be_used(made, files, facts, found, command):
    [finding] = [one for one in made(files, **facts) if one.severity == ERROR]
    assert found in finding.found
    assert command in finding.command


def test_libraries_in_wheels_are_found_by_tensorflow_itself(made):
    wheels = ["tensorflow", "nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu12", "nvidia-cublas-cu12"]
    findings = made(gpu(), versions=wheels, is_loadable=lambda name: name == "libcuda.so.1")
    assert [one.severity for one in findings] == [OK]


@pytest.mark.parametrize(("value", "is_hidden"), [("", True), ("-1", True), ("0", False), ("GPU-8a", False)])
def test_a_hidden_gpu(made, value, is_hidden):
    findings = [one for one in made(gpu(), CUDA_VISIBLE_DEVICES=value) if one.severity == WARNING]
    assert bool(findings) == is_hidden


def test_a_library_of_pjrt_that_is_nowhere(made):
    findings = made({}, TF_PLUGGABLE_DEVICE_LIBRARY_PATH="/nowhere/libtpu.so", PJRT_DEVICE="TPU")
    assert [(one.severity, one.found) for one in findings] == [
        (ERROR, "TF_PLUGGABLE_DEVICE_LIBRARY_PATH=/nowhere/libtpu.so: there is no such file"),
        (WARNING, "PJRT_DEVICE=TPU is set, and this machine has no TPU"),
    ]
    assert findings[0].command.startswith("unset TF_PLUGGABLE_DEVICE_LIBRARY_PATH")


def test_a_tpu_that_is_asked_for_and_not_there(made):
    [finding] = made({}, tpu="local")
    assert finding.severity == ERROR
    assert finding.found.startswith("--tpu=local: no TPU on this machine")


def test_a_tpu_with_plain_tensorflow(made, monkeypatch):
    monkeypatch.setattr(local_tpu, "installed_version", {"tensorflow": "2.21.0"}.get)
    [finding] = made({"dev/accel0": ""})
    assert finding.severity == WARNING
    assert "is NOT used" in finding.found + finding.cause
    assert "requirements-tpu.txt" in finding.command


def test_a_tpu_that_is_held_or_closed(made, monkeypatch):
    monkeypatch.setattr(local_tpu, "installed_version", {"tensorflow-tpu": "2.19.1"}.get)
    assert [one.severity for one in made({"dev/accel0": ""})] == [OK]
    held, _ = made({"tmp/libtpu_lockfile": ""})
    assert (held.severity, held.found) == (WARNING, "/tmp/libtpu_lockfile is there")
    closed, _ = made({}, closed=["accel0"])
    assert (closed.severity, closed.found) == (ERROR, "/dev/accel0: may not be read and written by this user")
    assert closed.command.startswith("sudo chmod a+rw /dev/accel0")
