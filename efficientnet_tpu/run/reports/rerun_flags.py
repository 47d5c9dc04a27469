"""The flag file that repeats a run, rerun.flags in its model_dir. No TensorFlow."""

from efficientnet_tpu.config.config import Config, command_line, run_options
from efficientnet_tpu.installation import program
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.secrets import masked

RERUN_FLAGS = "rerun.flags"


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
