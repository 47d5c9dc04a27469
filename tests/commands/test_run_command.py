"""Commands take their own flags and no other's."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.commands.run_command import run_command
from efficientnet_tpu.commands.table import COMMANDS, takes
from efficientnet_tpu.config.config import OPTIONS, RUN_SECTIONS
from efficientnet_tpu.errors import UserError

ROOT = Path(__file__).parents[2]


def refusal(line):
    """The message of a command line that is refused, or ''; no command runs."""
    try:
        cli.main(["main.py", *shlex.split(line)])
    except UserError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _no_work(monkeypatch):
    """Commands that only check what they were given."""
    for name, command in COMMANDS.items():
        idle = dataclasses.replace(
            command,
            run=lambda config, arguments: None,
            stored_config="unused",
            needs_tensorflow=False,
            required=(),
            checks=(),
        )
        monkeypatch.setitem(COMMANDS, name, idle)


@pytest.mark.parametrize(
    ("line", "flag", "owners"),
    [
        ("evaluate --model_dir=x --grid_step=0.1", "--grid_step", ["grid-search"]),
        ("--model_dir=x --top_k=3", "--top_k", ["predict"]),
        ("train_and_eval --model_dir=x --study_workers=3", "--study_workers", ["grid-search", "scaling-study"]),
        ("predict --saved_model=x --print a.jpg", "--print", ["launch"]),
        ("export --model_dir=x --report=y", "--report", ["evaluate", "check-data"]),
        ("plan --tpu_type=v5e-8 --verify_kills=1", "--verify_kills", ["verify-resume"]),
        ("evaluate --model_dir=x --optimizer=sgd", "--optimizer", ["train_and_eval", "plan"]),
        ("import-weights --from=x --table=1", "--table", ["reproduce"]),
    ],
)
def test_a_flag_of_another_command_is_refused(line, flag, owners):
    message = refusal(line)
    assert message.startswith(f"{flag}: not a flag of ")
    assert all(owner in message for owner in owners)


def test_every_flag_is_taken_by_its_commands_alone():
    for option in OPTIONS.values():
        value = option.choices[0] if option.choices else option.default
        for name, command in COMMANDS.items():
            accepted = takes(name, option)
            try:
                run_command(name, {option.name: value}, {option.name}, ["input"] if command.arguments else [])
            except UserError as error:
                refused = f"--{option.name}: not a flag of {name};" in str(error)
            else:
                refused = False
            assert refused != accepted, (name, option.name)


@pytest.mark.parametrize("line", [
    "--model_dir='a\nb'", "--flagfile='a\nb'", "--stage_table='a\nb.csv'", "--seed='1\n2'", "'--se\ned=1'", "tra'\n'in",
    "predict --model_dir='a\nb' x.jpg", "compare-maps --runs='a,b\nc' --picture=x x.jpg", "models 'a\nb'",
    "grid-search --study_name='a\nb' --output_dir=x",
])  # fmt: skip
def test_a_value_of_two_lines_is_named_on_one(line):
    message = refusal(line)
    assert "\\n" in message
    assert "\n" not in message


def test_a_directory_of_two_lines_is_named_on_one(tmp_path, monkeypatch):
    (tmp_path / "a\nb").mkdir()
    monkeypatch.chdir(tmp_path / "a\nb")
    assert refusal("models") == (f"{tmp_path}/a\\nb: the current directory has a line's end in its name. Rename it.")


def test_a_flag_file_may_be_the_recipe_of_a_run(tmp_path):
    recipe = tmp_path / "recipe.flags"
    recipe.write_text("--model=efficientnet-b4\n--optimizer=sgd\n--augment=autoaugment\n--tpu=local\n")
    for command in ("evaluate --model_dir=x", "plan --tpu_type=v5e-8", "predict --model_dir=x a.jpg", "models"):
        assert refusal(f"{command} --flagfile={recipe}") == ""
    assert refusal(f"evaluate --flagfile={recipe} --optimizer=sgd").startswith("--optimizer: not a flag of evaluate;")


def test_a_flag_file_has_no_other_commands_flags(tmp_path):
    recipe = tmp_path / "recipe.flags"
    recipe.write_text("--grid_step=0.1\n")
    assert refusal(f"evaluate --flagfile={recipe}") == (
        "--grid_step: not a flag of evaluate; grid-search, paper-miniature have it."
    )


def test_every_shipped_recipe_is_one_of_a_run_or_of_a_study_of_runs():
    own = {"search": ["search"], "paper": ["study"]}  # sections, by the first word of the recipe's name
    for path in (ROOT / "flags").glob("*.flags"):
        options = cli.parse([f"--flagfile={path}"]).options
        known = {*RUN_SECTIONS, *own.get(path.name.partition("-")[0], [])}
        assert {OPTIONS[name].section for name in options} <= known, path.name


def documented():
    """Every command line of the documentation, the recipes and the Makefile."""
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("flags/*.flags"), ROOT / "Makefile"]:
        text = re.sub(r"\\\n\s*#?", " ", path.read_text().replace("$(RUN)", "run"))
        for line in re.findall(r"(?:python |bin/|^)main\.py (?! )(.+)$", text, re.MULTILINE):
            command = re.split(r"\s+#|\s+\||`|\s+<|\s*;|\s+>|\)", line)[0].replace("...", "x").replace("$flags", "")
            yield pytest.param(command, id=f"{path.name}: {command[:60]}")


@pytest.mark.parametrize("line", list(documented()))
def test_documented_command_lines_are_accepted(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    message = refusal(line)
    assert "not a flag of" not in message
    is_made_before = "--model=efficientnet-$" in message or "--flagfile=report/" in message  # by the line before
    assert "no such" not in message or is_made_before, message


def test_an_unknown_scheme_is_refused_wherever_a_path_is_taken():
    """And before TensorFlow starts; `launch` alone takes paths of another machine."""
    for option in (option for option in OPTIONS.values() if option.path):
        for name in (name for name in COMMANDS if takes(name, option)):
            words = " IMAGE.jpg" if COMMANDS[name].arguments else ""
            message = refusal(f"{name} --{option.name}=s3://bucket/x{words}")
            assert message.startswith(f"--{option.name}=s3://bucket/x: cannot be reached: s3:// is not read here"), name


@pytest.mark.parametrize("line", ["predict --model_dir=x", "compare-maps --runs=x --picture=y"])
def test_an_unknown_scheme_of_an_image(line):
    assert refusal(f"{line} a.jpg https://example.com/b.jpg").startswith("https://example.com/b.jpg: cannot be reached")


@pytest.mark.parametrize(
    ("name", "after"), [("train_and_eval", "; the same command continues from the last checkpoint"), ("check-data", "")]
)
def test_ctrl_c_says_what_the_same_command_does_next(monkeypatch, capsys, name, after):
    def interrupted(config, arguments):
        raise KeyboardInterrupt

    command = dataclasses.replace(COMMANDS[name], run=interrupted, stored_config="unused", required=())
    monkeypatch.setitem(COMMANDS, name, command)
    with pytest.raises(SystemExit) as ended:
        cli.main(["main.py", name, "--dataset=sample"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"\ninterrupted{after}\n"
