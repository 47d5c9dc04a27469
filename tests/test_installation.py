"""What messages say of the program, its recipes and its packages holds wherever it was installed."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from efficientnet_tpu import cli, installation
from efficientnet_tpu.errors import UserError
from tests.test_packaging import EXTRAS, ROOT


@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("main.py", "python main.py"),
        ("/somewhere/main.py", "python main.py"),
        ("/usr/bin/efficientnet-tpu", "efficientnet-tpu"),
        (f"{ROOT}/efficientnet_tpu/__main__.py", "python -m efficientnet_tpu"),
        ("/site-packages/pytest/__main__.py", "python main.py"),
    ],
)
def test_the_program_is_called_as_it_was_started(monkeypatch, capsys, started, name):
    monkeypatch.setattr(sys, "argv", [started])
    assert installation.program() == name
    cli.main(["x", "--help"])
    assert f"usage: {name} [COMMAND]" in capsys.readouterr().out
    with pytest.raises(UserError, match=f"`{name} --helpfull` lists them"):
        cli.main(["x", "--no_such_flag=1"])


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_command_for_an_extra_installs_its_requirements(monkeypatch, tmp_path, extra):
    """In a clone by pyproject.toml; installed, where that file is not, by the metadata of the distribution."""
    for clone in (ROOT, tmp_path):
        monkeypatch.setattr(installation, "_CLONE", clone)
        python, *command = shlex.split(installation.install_command(extra))
        assert os.path.samefile(ROOT / python, sys.executable)
        assert command[:3] == ["-m", "pip", "install"]
        assert {Requirement(text) for text in command[3:]} == set(EXTRAS[extra].values())


def test_a_recipe_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.parse(["--flagfile=efficientnet-b4"]).options["model"] == "efficientnet-b4"
    assert cli.parse(["--flagfile", "efficientnet-b4.flags"]).options["model"] == "efficientnet-b4"
    (tmp_path / "efficientnet-b4").write_text("--model=efficientnet-b1\n")
    assert cli.parse(["--flagfile=efficientnet-b4"]).options["model"] == "efficientnet-b1"
    with pytest.raises(UserError, match=r"--flagfile=efficientnet-b44: no such file or recipe\. Did you mean .*b4\?"):
        cli.parse(["--flagfile=efficientnet-b44"])


def test_a_recipes_table_is_found_beside_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.main(["main.py", "models", "--flagfile=scaling-study"])
    assert "as asked for" in capsys.readouterr().out


def clone(folder, has_environment):
    """A checkout without installed packages: `python -S` sees none but the standard library."""
    shutil.copy(ROOT / "main.py", folder)  # Python looks for modules beside what a link points to
    for name in ("efficientnet_tpu", "pyproject.toml", "requirements.txt"):
        (folder / name).symlink_to(ROOT / name)
    if has_environment:
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return folder


@pytest.mark.parametrize(
    ("has_environment", "advice"), [(True, "source .venv/bin/activate"), (False, "-m pip install -r requirements.txt")]
)
def test_a_python_without_the_packages_says_where_they_are(tmp_path, has_environment, advice):
    command = [sys.executable, "-E", "-s", "-S", "main.py", "models"]
    run = subprocess.run(
        command, cwd=clone(tmp_path, has_environment), capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert "does not have the package absl" in run.stderr
    assert advice in run.stderr
    assert "Traceback" not in run.stderr


def test_without_tensorflow_one_error_names_the_ways_to_get_it(monkeypatch, tmp_path):
    from efficientnet_tpu.hardware import tensorflow_startup

    monkeypatch.setattr(installation, "_CLONE", tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr("builtins.__import__", _without("tensorflow", __import__))
    with pytest.raises(UserError, match=r"does not have the package tensorflow\.(?s:.*)tensorflow\[and-cuda\]"):
        tensorflow_startup.import_tensorflow()


def _without(package, real_import):
    def importing(name, *arguments, **options):
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *arguments, **options)

    return importing


@pytest.mark.slow
def test_an_installed_copy_has_the_recipes_and_runs_as_a_module(tmp_path):
    """Without its dependencies, which are this environment's."""
    where = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--prefix={where}", str(ROOT)]
    subprocess.run(install, check=True, timeout=300)
    [packages] = where.rglob("site-packages")
    environment = os.environ | {"PYTHONPATH": str(packages)}
    for command in ([sys.executable, "-m", "efficientnet_tpu"], [str(where / "bin" / "efficientnet-tpu")]):
        line = [*command, "models", "--flagfile=efficientnet-b4"]
        run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert "efficientnet-b4" in run.stdout
    assert Path(packages, "efficientnet_tpu").is_dir()
