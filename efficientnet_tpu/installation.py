"""How the program was installed and started: its name in messages, its recipes, how to install what is missing.

Imports nothing but the standard library, because it explains a Python that lacks everything else.
"""

import os
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

DISTRIBUTION = "efficientnet-tpu"
SCRIPT = "efficientnet-tpu"  # the console script
_PACKAGE = Path(__file__).parent
_CLONE = _PACKAGE.parent
RECIPE_FOLDER = "flags"


def program() -> str:
    """Returns how the user starts the program: python main.py, efficientnet-tpu or python -m efficientnet_tpu."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py" and started.parent.name == _PACKAGE.name:
        return f"python -m {_PACKAGE.name}"
    return started.name if started.name == SCRIPT else "python main.py"


def install_command(*extras: str) -> str:
    """Returns the command that installs what the extras name, into this Python, from a clone or from anywhere else."""
    needed = [requirement for extra in extras for requirement in requirements_of(extra)]
    return f"{shown_path(sys.executable)} -m pip install {shlex.join(needed)}"


def environment_command(*extras: str) -> str:
    """Returns the command that installs the program with the extras into a fresh environment."""
    if extras == ("tpu",) and (_CLONE / "requirements-tpu.txt").exists():
        return f"pip install -r {shown_path(_CLONE / 'requirements-tpu.txt')}"
    if (_CLONE / "pyproject.toml").exists():
        return f"pip install -e '{shown_path(_CLONE)}[{','.join(extras)}]'"
    needed = [*core_requirements(), *(one for extra in extras for one in requirements_of(extra))]
    return f"pip install {shlex.join(needed)}"


def core_requirements() -> list[str]:
    """Returns the requirements that are in no extra, such as ["absl-py>=2.1,<3", "numpy>=1.26,<3"]."""
    if project := _project():
        return project["dependencies"]
    return [requirement for requirement in metadata.requires(DISTRIBUTION) or () if ";" not in requirement]


def extras() -> list[str]:
    """Returns the names of the extras."""
    if project := _project():
        return [*project["optional-dependencies"]]
    return metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []


def requirements_of(extra: str) -> list[str]:
    """Returns the requirements of an extra, such as ["onnx>=1.17,<2", "onnxruntime>=1.20,<2"]."""
    if project := _project():
        return project["optional-dependencies"][extra]
    listed = (requirement.partition(";") for requirement in metadata.requires(DISTRIBUTION) or ())
    return [name.strip() for name, _, marker in listed if marker.strip().replace("'", '"') == f'extra == "{extra}"']


def _project() -> dict[str, Any]:
    """Returns the clone's own description of the project; empty where the program is no clone."""
    project_file = _CLONE / "pyproject.toml"
    if not project_file.exists():
        return {}
    import tomllib  # Python 3.11 has it; an older one must come as far as the advice of missing_package_text

    return tomllib.loads(project_file.read_text())["project"]


def installed_version(distribution: str) -> str | None:
    """Returns the version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def recipes() -> dict[str, str]:
    """Returns the files of recipes by name: flag files without their ending, and the tables that they name."""
    if (_CLONE / RECIPE_FOLDER).is_dir() and (_CLONE / "pyproject.toml").exists():
        files = (_CLONE / RECIPE_FOLDER).iterdir()
    else:
        installed = metadata.files(DISTRIBUTION) or ()
        files = (Path(str(file.locate())) for file in installed if file.parent.name == RECIPE_FOLDER)
    return {file.name.removesuffix(".flags"): shown_path(file) for file in sorted(files)}


def recipe_file(name: str) -> str:
    """Returns the file that `name` means: a file of that name, else the recipe of that name, else `name`."""
    return name if os.path.exists(name) else recipes().get(name.removesuffix(".flags"), name)


def missing_package_text(package: str) -> str:
    """Returns what to do about a package that this Python does not have."""
    environment = _CLONE / ".venv"
    lines = [f"{shown_path(sys.executable)} does not have the package {package}."]
    if (environment / "bin" / "python").exists() and Path(sys.prefix) != environment:
        folder = shown_path(environment)
        lines.append(f"It is installed in {folder}: run `source {folder}/bin/activate` first, then the same command.")
    elif package == "tensorflow":
        lines += [
            f"Install it for the CPU:                  {install_command('cpu')}",
            f"or for NVIDIA GPUs:                      {install_command('gpu')}",
            f"or on a TPU VM, in a fresh environment:  {environment_command('tpu')}",
        ]
    elif (_CLONE / "requirements.txt").exists():
        listed = shown_path(_CLONE / "requirements.txt")
        lines.append(f"Install all that is needed: {shown_path(sys.executable)} -m pip install -r {listed}")
    return "\n".join(lines)


def shown_path(path: str | Path) -> str:
    """Returns a path as a command would name it: below the current folder, relative to it."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
