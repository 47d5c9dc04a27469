"""A clone and an installation get the same libraries, and a TPU's TensorFlow is never overlaid."""

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from efficientnet_tpu.hardware.tensorflow_startup import LIBTPU_RANGES
from efficientnet_tpu.installation import SCRIPT

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    extra: {requirement.name: requirement for requirement in map(Requirement, texts)}
    for extra, texts in PROJECT["optional-dependencies"].items()
}
CORE = {requirement.name: requirement for requirement in map(Requirement, PROJECT["dependencies"])}


def listed(name):
    lines = (ROOT / name).read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len({requirement.name for requirement in requirements}) == len(requirements)
    return {requirement.name: requirement for requirement in requirements}


CLONE = listed("requirements.txt")


def test_a_clone_gets_the_core_a_cpu_and_the_cloud_client():
    assert CLONE == CORE | EXTRAS["cpu"] | EXTRAS["cloud"]


def test_a_clone_on_a_tpu_vm_gets_the_core_and_a_tpu():
    # Not the cloud client: a TPU VM's own TPU needs none, and TensorFlow would prefer it to its own, newer one.
    assert listed("requirements-tpu.txt") == CORE | EXTRAS["tpu"]


def test_the_core_brings_no_tensorflow():
    assert not [name for name in CORE if name in ("tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tf-nightly")]
    assert "cloud-tpu-client" not in CORE


def test_cpu_and_gpu_are_one_distribution():
    # Two distributions that own the same folder would be laid over each other.
    assert set(EXTRAS["cpu"]) == set(EXTRAS["gpu"]) == {"tensorflow"}
    assert EXTRAS["cpu"]["tensorflow"].specifier == EXTRAS["gpu"]["tensorflow"].specifier


def test_the_tpu_takes_a_libtpu_that_tensorflow_can_load():
    for extra, release in (("tpu", "2.19"), ("tpu220", "2.20")):
        assert EXTRAS[extra].keys() >= {"tensorflow-tpu", "libtpu"}
        assert EXTRAS[extra]["tensorflow-tpu"].specifier.contains(Version(f"{release}.1"))
        first, limit = LIBTPU_RANGES[release]
        assert EXTRAS[extra]["libtpu"].specifier == SpecifierSet(f">={first},<{limit}")
    libtpu = EXTRAS["tpu220"]["libtpu"].specifier
    # Tried on tensorflow-tpu 2.20.0: these load, and from 0.0.32 on `import tensorflow` aborts.
    tried = ("0.0.14", "0.0.17", "0.0.24", "0.0.30", "0.0.31", "0.0.32", "0.0.32.1", "0.0.34", "0.0.42.1")
    assert [version for version in tried if version in libtpu] == ["0.0.14", "0.0.17", "0.0.24", "0.0.30", "0.0.31"]


def test_every_requirement_has_a_range():
    for requirement in [*CORE.values(), *(one for extra in EXTRAS.values() for one in extra.values())]:
        assert requirement.specifier, requirement
        assert not requirement.url, requirement


@pytest.mark.parametrize("name", CLONE)
def test_what_runs_here_is_in_range(name):
    installed = Version(importlib.metadata.version(name))
    assert CLONE[name].specifier.contains(installed), f"{name} {installed} is installed; {CLONE[name]} is asked for"


def test_the_console_script_is_what_main_runs():
    from efficientnet_tpu.__main__ import main

    assert PROJECT["scripts"] == {SCRIPT: f"{main.__module__}:{main.__name__}"}


def test_installs_from_nowhere_in_particular():
    # Where packages come from is the user's configuration.
    for name in ("requirements.txt", "requirements-tpu.txt", "pyproject.toml", "Makefile"):
        text = (ROOT / name).read_text()
        for option in ("--index-url", "--extra-index-url", "--find-links", "--trusted-host"):
            assert option not in text, f"{name}: {option}"
