"""The flag file that repeats a run, rerun.flags in its model_dir. No TensorFlow."""

from typing import Any

from efficientnet_tpu.config.config import OPTIONS, Config, command_line, run_options
from efficientnet_tpu.installation import program
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.secrets import masked

RERUN_FLAGS = "rerun.flags"


def given_options(config: Config) -> dict[str, Any]:
    """Returns the options of a run that are not at their default, by flag name, without secrets."""
    options = {name: value for name, value in run_options(config).items() if value != OPTIONS[name].default}
    return {name: masked(value) if isinstance(value, str) else value for name, value in options.items()}


def rerun_flags(config: Config) -> str:
    """Returns a flag file with every option of a run that is not at its default, but model_dir.

    A value that a flag file cannot hold, or that holds a password, stands in a comment.
    """
    options = {name: value for name, value in run_options(config).items() if name != "model_dir"}
    lines = [
        "# Repeats the run in this directory in another one, with the values that the run chose itself:",
        "#",
        f"#   {program()} --flagfile=rerun.flags --model_dir=DIR",
        "#",
    ]
    for flag in command_line(options):
        if masked(flag) != flag:
            lines.append(f"# {masked(flag)}: give this one yourself, it holds a secret")
        elif flag != flag.strip() or len(flag.splitlines()) > 1:
            lines.append(f"# {shown(flag)}: give this one yourself, a flag file cannot hold it")
        else:
            lines.append(flag)
    return "".join(f"{line}\n" for line in lines)
