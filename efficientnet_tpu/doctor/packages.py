"""The packages of this Python: one TensorFlow, versions that go together, extras that are missing.

Nothing is imported; the metadata of what is installed says all.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from efficientnet_tpu.doctor.finding import ERROR, NOTE, OK, WARNING, Finding, refused
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.installation import (
    core_requirements,
    environment_command,
    extras,
    install_command,
    missing_package_text,
    requirements_of,
    shown_path,
)

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

SUBJECT = "packages"
# Distributions that own the folder tensorflow/.
TENSORFLOWS = (
    *("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel", "tensorflow-rocm", "tensorflow-tpu"),
    *("tf-nightly", "tf-nightly-cpu", "tf-nightly-gpu", "tf-nightly-tpu", "intel-tensorflow"),
)
_OF_TPUS = ("tensorflow-tpu", "tf-nightly-tpu")
_SHOWN = (*TENSORFLOWS, "keras", "numpy", "protobuf", "numba", "tensorboard", "libtpu", "tensorflow-datasets", "jax")
# Not the services of --log_to, of which nobody needs all: the flag names its own.
_NEEDED_FOR = {
    "weights": "import-weights from .safetensors files",
    "onnx": "export --export_format=onnx, and predict of .onnx files",
    "tflite": "a runtime of its own for .tflite files",
    "parquet": "predict --output=FILE.parquet",
    "cloud": "--tpu=NAME, a TPU looked up by name",
    "search": "grid-search and search",
    "plan": "plan --compile",
}


@dataclass(frozen=True)
class _BadPair:
    """Two packages that do not go together, which their own requirements do not say.

    packages: names; behind one may stand how the version begins.
    """

    packages: tuple[str, str]
    cause: str
    command: str


_BAD_PAIRS = (
    # The notes of tensorflow-addons' last release, 0.23 (2023-11): it ends with TensorFlow 2.15, before Keras 3.
    _BadPair(
        ("tensorflow-addons", "keras 3"),
        "tensorflow-addons ended before Keras 3; importing both fails in its layers",
        "pip uninstall tensorflow-addons",
    ),
    # jax-ml/jax issue 10192: one program at a time opens a TPU, and libtpu has a lock file for it.
    _BadPair(
        ("tensorflow-tpu", "jax"),
        "both open the TPU, which one program can; and JAX needs a newer libtpu than tensorflow-tpu loads",
        "pip uninstall jax jaxlib",
    ),
    # dataproc-templates issue 428: google-api-python-client 1.8.0, which it pins, needs google-api-core before 2.
    _BadPair(
        ("cloud-tpu-client", "google-api-core 2"),
        "cloud-tpu-client pins google-api-python-client 1.8.0, which needs google-api-core 1",
        "pip uninstall cloud-tpu-client   # only --tpu=NAME needs it",
    ),
)


@dataclass(frozen=True)
class Installed:
    """The distributions of a Python: versions and requirements by name, in lower case with hyphens.

    twice: names that two folders of sys.path have, with both versions.
    """

    versions: Mapping[str, str]
    requirements: Callable[[str], Iterable[str]]
    twice: Mapping[str, tuple[str, str]]
    python: tuple[int, int] = sys.version_info[:2]


def installed() -> Installed:
    """Returns the distributions of this Python."""
    versions: dict[str, str] = {}
    twice: dict[str, tuple[str, str]] = {}
    for distribution in metadata.distributions():
        name, version = _normal(distribution.name or ""), distribution.version
        if name in versions and versions[name] != version:
            twice[name] = (versions[name], version)
        versions.setdefault(name, version)  # the first on sys.path is imported
    return Installed(versions, lambda name: metadata.requires(name) or (), twice)


def check_packages(found: Installed) -> list[Finding]:
    """Returns the findings about the packages of a Python."""
    findings = [
        *_tensorflows(found),
        *refused(SUBJECT, tensorflow_startup.require_compatible_libtpu),
        *_installed_twice(found),
        *_bad_pairs(found),
        *_unmet_requirements(found),
    ]
    if not findings:
        versions = [f"{name} {found.versions[name]}" for name in _SHOWN if name in found.versions]
        findings = [Finding(SUBJECT, OK, ", ".join([f"Python {'.'.join(map(str, found.python))}", *versions]))]
    return [*findings, *_missing_extras(found)]


def _tensorflows(found: Installed) -> list[Finding]:
    names = [name for name in TENSORFLOWS if name in found.versions]
    if not names:
        cause, _, rest = missing_package_text("tensorflow").partition("\n")
        return [Finding(SUBJECT, ERROR, "no TensorFlow is installed", cause, rest or install_command("cpu"))]
    if len(names) == 1:
        return []
    extra = "tpu" if any(name in _OF_TPUS for name in names) else "cpu"
    both = " and ".join(f"{name} {found.versions[name]}" for name in names)
    return [
        Finding(
            SUBJECT,
            ERROR,
            f"{both} are in one environment",
            "each owns the folder tensorflow/: the last that was installed has overwritten files of the others, and "
            "uninstalling one damages the rest",
            f"pip uninstall -y {' '.join(names)}, then {environment_command(extra)}",
        )
    ]


def _installed_twice(found: Installed) -> list[Finding]:
    return [
        Finding(
            SUBJECT,
            WARNING,
            f"{name} is installed twice, {used} and {other}",
            f"two folders of sys.path have it, an environment's and the user's say; {used} is imported",
            f"PYTHONNOUSERSITE=1 leaves the user's out; python -m pip uninstall {name} removes one",
        )
        for name, (used, other) in found.twice.items()
        if name in _SHOWN
    ]


def _bad_pairs(found: Installed) -> Iterator[Finding]:
    for pair in _BAD_PAIRS:
        versions = [_version_in(found, package) for package in pair.packages]
        if all(versions):
            yield Finding(SUBJECT, WARNING, " beside ".join(versions), pair.cause, pair.command)


def _version_in(found: Installed, package: str) -> str:
    """Returns "keras 3.15.1" where that is installed, of "keras 3" or "keras"; else ""."""
    name, _, start = package.partition(" ")
    version = found.versions.get(name, "")
    return (
        f"{name} {version}"
        if version and (version == start or version.startswith(f"{start}." if start else ""))
        else ""
    )


def _unmet_requirements(found: Installed) -> Iterator[Finding]:
    """Yields the packages that are not as the program, or anything that it requires, asks for."""
    from packaging.requirements import Requirement

    waiting = {("this program", text) for text in (*core_requirements(), *_wanted_tensorflows(found))}
    asked: dict[str, dict[str, Requirement]] = {}  # requirements of a package, by who has them
    while waiting:
        owner, text = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = _normal(requirement.name)
        if name in found.versions and name not in asked:
            waiting |= {(f"{name} {found.versions[name]}", other) for other in found.requirements(name)}
        asked.setdefault(name, {})[owner] = requirement
    for name, requirements in sorted(asked.items()):
        ranges = {owner: requirements[owner].specifier for owner in sorted(requirements)}
        yield from _unmet(name, found.versions.get(name), ranges)


def _wanted_tensorflows(found: Installed) -> Iterator[str]:
    """Yields what the extras ask for of the TensorFlow that is installed: of several ranges, one that it is in."""
    from packaging.requirements import Requirement

    texts = [text for extra in extras() if extra != "dev" for text in requirements_of(extra)]
    for name in TENSORFLOWS:
        wanted = [one for one in map(Requirement, texts) if one.name == name]
        if name in found.versions and wanted:
            inside = [one for one in wanted if one.specifier.contains(found.versions[name], prereleases=True)]
            yield f"{name}{(inside or wanted)[0].specifier}"


def _unmet(name: str, version: str | None, asked: Mapping[str, "SpecifierSet"]) -> Iterator[Finding]:
    """Yields the finding on a package that is not as it is asked to be. asked: ranges by who has them."""
    unmet = [
        f"{owner} needs {name}{specifier}"
        for owner, specifier in asked.items()
        if version is None or not specifier.contains(version, prereleases=True)
    ]
    if unmet:
        what = f"{name} {version} is installed" if version else f"{name} is not installed"
        cause = f"{', '.join(unmet)}: another installation has changed it, or this is another environment"
        command = f"{shown_path(sys.executable)} -m pip install '{name}{_narrowed(asked.values())}'"
        yield Finding(SUBJECT, ERROR, what, cause, command)


def _narrowed(ranges: Iterable["SpecifierSet"]) -> str:
    """Returns all ranges as one, so that what is installed for one package does not break another: ">=2.0,<3,!=2.1"."""
    from packaging.version import Version

    parts = {part for one in ranges for part in one}
    bounds = []
    for operator, choose in ((">=", max), ("<", min)):
        same = [part.version for part in parts if part.operator == operator]
        bounds += [f"{operator}{choose(same, key=Version)}"] if same else []
    return ",".join([*bounds, *sorted(str(part) for part in parts if part.operator not in (">=", "<"))])


def _missing_extras(found: Installed) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    for extra, purpose in _NEEDED_FOR.items():
        names = [_normal(Requirement(text).name) for text in requirements_of(extra)]
        missing = [name for name in names if name not in found.versions]
        if missing:
            yield Finding(
                SUBJECT, NOTE, f"the extra {extra} is not installed", f"needed for {purpose}", install_command(extra)
            )


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
