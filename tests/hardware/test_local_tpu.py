"""The TPU of this machine is found and named, refused where it cannot be used, and told of before TensorFlow starts."""

import os
import subprocess
import sys
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import local_tpu, tensorflow_startup
from tests.support.tpu_machine import describe, machine
from tests.test_packaging import CORE, EXTRAS

ROOT = Path(__file__).parents[2]
NETWORK_CARD = "0x0042"  # Google's too, in machines without a TPU
TYPE = "TPU_ACCELERATOR_TYPE"


@pytest.mark.parametrize(
    ("chips", "devices", "environment", "evidence", "kind", "pjrt"),
    [
        ((NETWORK_CARD, "0x0063", "0x0063"), (), {}, "TPU v5e on the PCI bus", "v5e", True),
        (("0x0027",), ("accel0",), {}, "TPU v2 or v3 on the PCI bus", "v2 or v3", False),
        (("0x005e",), (), {TYPE: "v5p-8"}, "TPU v4 on the PCI bus", "v4", False),
        (("0x0076",), (), {}, "TPU 7x on the PCI bus", "7x", False),
        ((), ("accel1", "accel0"), {TYPE: "v5litepod-8"}, "/dev/accel0", "v5e", True),
        ((), ("accel0",), {}, "/dev/accel0", "", False),  # older ones have such a file
        ((), ("vfio/0", "vfio/vfio"), {TYPE: "v6e-1"}, "/dev/vfio/0", "v6e", True),
        ((), ("vfio/0",), {}, "/dev/vfio/0", "", True),  # newer ones have such a file
        ((), ("vfio/0",), {TYPE: "tpu7x-8"}, "/dev/vfio/0", "7x", False),
        ((), ("accel0",), {TYPE: "V5P-8"}, "/dev/accel0", "v5p", True),
        ((), ("accel0",), {TYPE: "new-8"}, "/dev/accel0", "", False),
        ((NETWORK_CARD,), ("vfio/3",), {TYPE: "v6e-8"}, "/dev/vfio/3", "v6e", True),  # a chip that is not known yet
    ],
)
def test_a_tpu_is_found_and_its_kind_decides_how_it_is_driven(
    tmp_path, chips, devices, environment, evidence, kind, pjrt
):
    found = local_tpu.find(machine(tmp_path, *chips, devices=devices), environment)
    assert (found.evidence, found.kind, found.has_pjrt) == (evidence, kind, pjrt)


def test_other_machines_have_none(tmp_path):
    # /dev/accel is a directory of other makers' accelerators; /dev/vfio of any device given to a virtual machine.
    root = machine(tmp_path / "a", NETWORK_CARD, devices=("nvidia0", "vfio/1", "vfio/vfio", "accel/accel0"))
    assert local_tpu.find(root, {}) is None
    assert local_tpu.find(machine(tmp_path / "b", "0x0063", vendor="0x10de", devices=("vfio/0",)), {}) is None
    root = machine(tmp_path / "c", devices=("accel0",))
    describe(tmp_path / "c/sys/class/accel/accel0/device", "0x10de", "0x0063")
    assert local_tpu.find(root, {}) is None


@pytest.mark.parametrize("chips", [(), (NETWORK_CARD,)], ids=["a bus that is hidden", "a bus without a chip"])
def test_what_the_environment_names_alone_is_none(tmp_path, chips):
    """tensorflow-tpu 2.20 ends the process by a signal when libtpu looks for such a TPU."""
    root, environment = machine(tmp_path, *chips), {TYPE: "v5litepod-8"}
    assert local_tpu.find(root, environment) is None
    note = local_tpu.note_of_unused(HardwareConfig(), root, environment)
    assert note.startswith("warning: TPU_ACCELERATOR_TYPE=v5litepod-8 is set, but this machine has no TPU")
    with pytest.raises(UserError, match=r"no /dev/vfio/0, although TPU_ACCELERATOR_TYPE=v5litepod-8 is set\. "):
        local_tpu.require_usable(HardwareConfig(tpu="local"), root, environment)


def test_a_tpu_that_plain_tensorflow_leaves_unused_is_said_before_it_starts(tmp_path, monkeypatch, capsys):
    root = machine(tmp_path, "0x0063")
    monkeypatch.setattr(local_tpu, "installed_version", {"tensorflow": "2.21.0"}.get)
    note = local_tpu.note_of_unused(HardwareConfig(), root, {})
    assert note.startswith("warning: the TPU of this machine (TPU v5e on the PCI bus) is NOT used: tensorflow 2.21.0")
    assert "requirements-tpu.txt" in note
    assert "\n" not in note
    for declined, environment in ((HardwareConfig(tpu="none"), {}), (HardwareConfig(), {"TPU_NAME": "pod"})):
        assert local_tpu.note_of_unused(declined, root, environment) == ""
    monkeypatch.setattr(local_tpu, "note_of_unused", lambda hardware: note)
    monkeypatch.setattr(tensorflow_startup, "import_tensorflow", lambda: pytest.fail("started TensorFlow"))
    with pytest.raises(UserError, match=r"^--data_dir=/none: does not exist"):
        cli.main(["main.py", f"--model_dir={tmp_path}/run", "--data_dir=/none"])
    assert capsys.readouterr().out == f"{note}\n"


def test_the_build_for_tpus_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(local_tpu, "installed_version", {"tensorflow-tpu": "2.19.1", "tensorflow": "2.19.1"}.get)
    assert local_tpu.note_of_unused(HardwareConfig(), machine(tmp_path, "0x0063"), {}) == ""
    assert local_tpu.note_of_unused(HardwareConfig(), machine(tmp_path / "other"), {}) == ""


def test_a_device_file_is_known_by_its_chip(tmp_path):
    describe(tmp_path / "sys/class/accel/accel0/device", "0x1ae0", "0x0063")
    assert local_tpu.find(machine(tmp_path, devices=("accel0",)), {}) == local_tpu.LocalTpu("/dev/accel0", "v5e")


@pytest.mark.parametrize(
    ("options", "chips", "environment", "message"),
    [
        (
            {"tpu": "local"},
            (),
            {},
            r"^--tpu=local: no TPU on this machine: .* Without --tpu it trains",
        ),
        (
            {"tpu": "local"},
            ("0x0076",),
            {},
            r"^--tpu=local: this machine has a TPU7x \(TPU 7x on the PCI",
        ),
        ({}, ("0x0076",), {}, r"^this machine has a TPU7x .* JAX and PyTorch alone .* or give --tpu=none"),
        (
            {"tpu": "local"},
            ("0x0063",),
            {},
            r"^--tpu=local: .* but tensorflow 2\.21\.0 is the .*requirements-tpu\.txt$",
        ),
        ({}, (), {}, ""),
        ({}, ("0x0063",), {}, ""),  # a note, later
        ({"tpu": "none"}, ("0x0076",), {}, ""),
        ({"virtual_replicas": 2}, ("0x0076",), {}, ""),
        ({"tpu": "grpc://ada:1"}, (), {}, ""),
        ({}, ("0x0076",), {"TPU_NAME": "pod"}, ""),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, monkeypatch, options, chips, environment, message):
    monkeypatch.setattr(local_tpu, "installed_version", {"tensorflow": "2.21.0"}.get)
    arguments = (HardwareConfig(**options), machine(tmp_path, *chips), environment)
    if message:
        with pytest.raises(UserError, match=message):
            local_tpu.require_usable(*arguments)
    else:
        local_tpu.require_usable(*arguments)


def test_the_program_refuses_it_before_tensorflow_starts(monkeypatch):
    monkeypatch.setattr(local_tpu, "find", lambda *_: None)
    monkeypatch.setattr(tensorflow_startup, "import_tensorflow", lambda: pytest.fail("started TensorFlow"))
    with pytest.raises(UserError, match=r"^--tpu=local: no TPU on this machine"):
        cli.main(["main.py", "--model_dir=unused", "--tpu=local"])


@pytest.mark.parametrize(
    ("kind", "pjrt", "flags"), [("v5e", True, True), ("v4", False, True), ("", False, True), (None, False, False)]
)
def test_what_tensorflow_is_told(monkeypatch, kind, pjrt, flags):
    monkeypatch.setattr(local_tpu, "installed_version", {"libtpu": "0.0.10"}.get)
    monkeypatch.setitem(sys.modules, "libtpu", SimpleNamespace(get_library_path=lambda: "/lib/libtpu.so"))
    mine = {"PJRT_DEVICE": "mine", "TF_XLA_FLAGS": "", "TPU_SKIP_MDS_QUERY": "0"}  # also what is set to nothing
    tpu = None if kind is None else local_tpu.LocalTpu("a TPU", kind)
    ours, kept = local_tpu.settings(tpu, {}), local_tpu.settings(tpu, mine)
    assert ours.keys() == kept.keys()
    assert kept == ours | {name: value for name, value in mine.items() if name in ours}
    assert {"GCS_READ_REQUEST_TIMEOUT_SECS", "TF_XLA_FLAGS"} <= ours.keys() or not flags
    assert (ours.get("TF_PLUGGABLE_DEVICE_LIBRARY_PATH") == "/lib/libtpu.so") == pjrt
    assert "LIBTPU_INIT_ARGS" not in local_tpu.settings(tpu, {"TPU_LOAD_LIBRARY": "0"})  # a server has the chips
    assert ("LIBTPU_INIT_ARGS" in ours) == (ours.get("PJRT_DEVICE") == "TPU") == pjrt
    # libtpu would ask a metadata server for two minutes.
    assert (ours.get("TPU_LOAD_LIBRARY") == "0") == (ours.get("TPU_SKIP_MDS_QUERY") == "1") == (kind is None)


def test_the_settings_are_those_of_a_tpu_where_its_tensorflow_is(monkeypatch):
    monkeypatch.setattr(local_tpu, "find", lambda *_: local_tpu.LocalTpu("/dev/accel0", "v4"))
    monkeypatch.setattr(tensorflow_startup, "installed_version", {"tensorflow": "2.21.0"}.get)
    assert tensorflow_startup.settings({}) == {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
    monkeypatch.setattr(tensorflow_startup, "installed_version", {"tensorflow-tpu": "2.19.1"}.get)
    changed = tensorflow_startup.settings({"TF_CPP_MIN_LOG_LEVEL": "0", "GCS_READ_REQUEST_TIMEOUT_SECS": "9"})
    assert changed["GCS_WRITE_REQUEST_TIMEOUT_SECS"] == "600"
    assert (changed["TF_CPP_MIN_LOG_LEVEL"], changed["GCS_READ_REQUEST_TIMEOUT_SECS"]) == ("0", "9")


def _environment(folder, requirements):
    """Installs into a fresh environment and returns its interpreter. Skips where there is no registry."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    if "Failed to establish a new connection" in done.stderr:
        pytest.skip("no package registry")
    assert done.returncode == 0, done.stderr
    return python


def _run(python, *flags, seconds):
    """Runs main.py as on a machine without a TPU, and ends it when it takes longer."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TPU_", "TF_", "PJRT"))}
    command = [python, "main.py", *flags]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["tpu", "tpu220"])
def test_an_environment_for_tpus_trains_on_a_cpu_too(tmp_path, extra):
    """And answers at once that there is no TPU: libtpu would ask a metadata server for two minutes."""
    if extra == "tpu" and sys.version_info >= (3, 13):
        pytest.skip("tensorflow-tpu 2.19 ends at Python 3.12")
    of_extra = [str(requirement) for requirement in (CORE | EXTRAS[extra]).values()]
    python = _environment(tmp_path / "env", ["-r", "requirements-tpu.txt"] if extra == "tpu" else of_extra)
    run = (f"--model_dir={tmp_path}/run", "--model=efficientnet-b0", "--resolution=64", "--dataset=fake:10:48:8")
    answer = _run(python, *run, "--tpu=local", seconds=30)
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: --tpu=local: no TPU on this machine: ")
    trained = _run(python, *run, "--train_batch_size=8", "--train_epochs=1", seconds=600)
    assert trained.returncode == 0, trained.stderr
    assert "\nefficientnet-b0: " in trained.stdout
    assert "numba cannot be used" not in trained.stdout  # our own operation is registered
