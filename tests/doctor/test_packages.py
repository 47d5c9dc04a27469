"""Environments with two TensorFlows, with packages that do not fit together, and without extras."""

import functools

import pytest
from packaging.specifiers import SpecifierSet

from efficientnet_tpu.config.commands import TRACKERS
from efficientnet_tpu.doctor import packages
from efficientnet_tpu.doctor.finding import ERROR, NOTE, OK, WARNING
from efficientnet_tpu.doctor.packages import Installed, check_packages

HERE = packages.installed()


@functools.cache
def requirements_here(name):
    return HERE.requirements(name) if name in HERE.versions else ()


def environment(changes=None, requirements=requirements_here, twice=None):
    """This environment with other versions; None removes a package."""
    versions = dict(HERE.versions) | (changes or {})
    return Installed({name: one for name, one in versions.items() if one}, requirements, twice or {})


def worst(findings):
    return [finding for finding in findings if finding.severity in (ERROR, WARNING)]


def test_this_environment_is_well():
    findings = check_packages(environment())
    assert findings[0].severity == OK
    assert f"numpy {HERE.versions['numpy']}" in findings[0].found
    assert worst(findings) == []


@pytest.mark.parametrize("other", ["tensorflow-cpu", "tensorflow-tpu", "tf-nightly"])
def test_two_tensorflows(other):
    [finding] = worst(check_packages(environment({other: "2.20.0"})))[:1]
    assert finding.severity == ERROR
    assert f"{other} 2.20.0" in finding.found
    assert f"tensorflow {HERE.versions['tensorflow']}" in finding.found
    assert "overwritten" in finding.cause
    assert finding.command.startswith("pip uninstall -y tensorflow ")
    assert other in finding.command


def test_no_tensorflow():
    [finding] = worst(check_packages(environment({"tensorflow": None})))[:1]
    assert (finding.severity, finding.found) == (ERROR, "no TensorFlow is installed")
    assert "pip install" in finding.command


@pytest.mark.parametrize(
    ("changes", "found", "owner"),
    [
        ({"protobuf": "3.19.6"}, "protobuf 3.19.6 is installed", "tensorflow "),
        ({"numpy": "1.20.0"}, "numpy 1.20.0 is installed", "this program"),
        ({"tensorboard": None}, "tensorboard is not installed", "this program"),
        ({"tensorflow": "2.15.1"}, "tensorflow 2.15.1 is installed", "this program"),
        ({"keras": "2.15.0"}, "keras 2.15.0 is installed", "this program"),
    ],
)
def test_a_version_that_another_package_does_not_take(changes, found, owner):
    [finding] = [one for one in check_packages(environment(changes)) if one.found == found]
    assert finding.severity == ERROR
    assert f"{owner}" in finding.cause
    assert f" -m pip install '{next(iter(changes))}" in finding.command


def test_the_second_build_for_tpus_is_in_range_too():
    changes = {"tensorflow": None, "tensorflow-tpu": "2.20.0", "libtpu": "0.0.31"}
    asked = [one for one in check_packages(environment(changes)) if "tensorflow-tpu" in one.found + one.cause]
    assert worst(asked) == []


def test_packages_that_do_not_go_together():
    findings = worst(check_packages(environment({"tensorflow-addons": "0.23.0", "google-api-core": "2.24.0"})))
    assert {one.found for one in findings if one.severity == WARNING} == {
        f"tensorflow-addons 0.23.0 beside keras {HERE.versions['keras']}",
        "cloud-tpu-client 0.10 beside google-api-core 2.24.0",
    }


def test_installed_twice():
    findings = worst(check_packages(environment(twice={"numpy": ("2.4.6", "1.26.4"), "unrelated": ("1", "2")})))
    assert [one.found for one in findings] == ["numpy is installed twice, 2.4.6 and 1.26.4"]


def test_missing_extras_are_notes():
    findings = [one for one in check_packages(environment({"onnx": None})) if "extra onnx" in one.found]
    assert [one.severity for one in findings] == [NOTE]
    assert "onnxruntime" in findings[0].command


def test_every_extra_is_named_but_those_that_bring_tensorflow_or_a_choice_of_services():
    others = {"cpu", "gpu", "tpu", "tpu220", "dev", "profile", *TRACKERS}
    assert {*packages.extras()} - others == packages._NEEDED_FOR.keys()


def test_one_range_for_all_who_ask():
    found = environment({"numpy": "1.20.0"})
    [finding] = [one for one in check_packages(found) if one.found == "numpy 1.20.0 is installed"]
    wanted = SpecifierSet(finding.command.partition("'numpy")[2].removesuffix("'"))
    assert wanted.contains(HERE.versions["numpy"])
    assert not wanted.contains("1.26.0")  # ml-dtypes needs 2
    assert str(wanted).count(">=") == str(wanted).count("<") == 1
