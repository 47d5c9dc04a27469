"""Running a command: its flags are checked, become a Config, and its function is called.

Nothing here needs TensorFlow before a command has been found to have what it needs.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from efficientnet_tpu.commands.table import COMMANDS, ONE_RUN, Command, takes
from efficientnet_tpu.config.config import OPTIONS, RUN_SECTIONS, Config, with_options
from efficientnet_tpu.config.data import DATASETS_WITHOUT_A_PLACE
from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import output_streams, preemption, tensorflow_startup
from efficientnet_tpu.hardware.tf_config import read_tf_config
from efficientnet_tpu.installation import program, recipe_file
from efficientnet_tpu.models import stage_table
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.storage import remote_path
from efficientnet_tpu.texts.known_errors import explained_out_of_memory
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.secrets import masked


def run_command(name: str, options: Mapping[str, Any], typed: Collection[str], arguments: Sequence[str]) -> None:
    """Runs a command with the options that were given by flag name, and the arguments after its name.

    typed: the options given on the command line itself, the others being in a flag file.
    Raises UserError on bad input; what can be refused without TensorFlow, which takes seconds to start, is refused
    before it starts.
    """
    command = COMMANDS[name]
    if command.leaves_files:
        output_streams.go_on_without_output()
    _require_single_lines(options)
    # No shell expands ~ behind --flag= or in a flag file.
    paths = {flag: [os.path.expanduser(path) for path in OPTIONS[flag].paths(options[flag])] for flag in options}
    options = {flag: ",".join(paths[flag]) if paths[flag] else value for flag, value in options.items()}
    arguments = [os.path.expanduser(argument) for argument in arguments]
    typed_paths = [(path, f"--{flag}={options[flag]}") for flag, named in paths.items() for path in named]
    typed_paths += [(argument, argument) for argument in arguments]
    for path, named in typed_paths:
        remote_path.require_known_scheme(path, named)
    if options.get("stage_table"):  # read here, so that a run holds the table and not the file's name
        options["stage_table"] = stage_table.inline(recipe_file(options["stage_table"]))
    _require_own_options(name, options, typed)
    options |= _named_run(name, command, arguments)
    _check_usage(name, command, options, arguments)
    config = with_options(_base_config(command, options), options)
    config = _with_typed_images(config, options, typed)
    if answer := command.answer(config):
        print(answer)
        return
    if command.checks:
        from efficientnet_tpu import first_checks

        for check in command.checks:
            getattr(first_checks, check)(config, arguments)
    if command.needs_tensorflow:
        tensorflow_startup.import_tensorflow()
        for path, named in typed_paths:
            remote_path.require_reachable(path, named)
    # A command of devices may be inside of a call for long, and is then ended as the system does it.
    clears_away = "hardware" not in command.sections
    try:
        with (
            preemption.ended_by_signals() if clears_away else contextlib.nullcontext(),
            explained_out_of_memory(lambda: _smaller_evaluation(command, config)),
        ):
            command.run(config, arguments)
    except KeyboardInterrupt:
        after = f"; the same command {command.after_ctrl_c}" if command.after_ctrl_c else ""
        print(f"\ninterrupted{after}", file=sys.stderr)
        sys.exit(130)


def _smaller_evaluation(command: Command, config: Config) -> str:
    """Returns the flag by which a command that trains nothing takes less memory; "" for one that trains."""
    half = config.eval.eval_batch_size // 2
    only_evaluates = "eval" in command.sections and "train" not in command.sections
    return f"--eval_batch_size={half}" if only_evaluates and half else ""


def _require_single_lines(options: Mapping[str, Any]) -> None:
    """Raises UserError for a value with a line's end, of which every message and list that names it would make two."""
    if "\n" in (here := os.path.abspath(".")):
        raise UserError(f"{shown(here)}: the current directory has a line's end in its name. Rename it.")
    for flag, value in options.items():
        is_table = flag == "stage_table" and value.startswith("{")  # JSON, which may be of several lines
        if isinstance(value, str) and "\n" in value and not is_table:
            raise UserError(f"--{flag}={shown(masked(value))}: takes no line's end. Rename what it names.")


def _with_typed_images(config: Config, options: Mapping[str, Any], typed: Collection[str]) -> Config:
    """Returns the config with the images of --data_dir, where that was said after a --dataset that has images itself.

    A run of the sample, and a recipe for it, name a --dataset. Left there, it would be read in place of the folder that
    is typed now.
    """
    # What is typed comes after the recipe, and both come after the run.
    later = [given for given in (options, typed) if "data_dir" in given and "dataset" not in given]
    has_images_itself = config.data.dataset.partition(":")[0] in DATASETS_WITHOUT_A_PLACE
    if later and has_images_itself and config.data.data_dir:
        return with_options(config, {"dataset": "auto"})
    return config


def _require_own_options(name: str, options: Mapping[str, Any], typed: Collection[str]) -> None:
    """Raises UserError for an option that another command has.

    A flag file may be the recipe of a run, which is more than a plan or an evaluation takes: there, options of a run
    are accepted.
    """
    for option in map(OPTIONS.__getitem__, options):
        from_recipe = option.name not in typed and option.section in RUN_SECTIONS
        if not takes(name, option) and not from_recipe:
            owners = [other for other in COMMANDS if takes(other, option)]
            have = "has" if len(owners) == 1 else "have"
            advice = " The classes are those of the images." if option.name == "num_classes" else ""
            raise UserError(f"--{option.name}: not a flag of {name}; {', '.join(owners)} {have} it.{advice}")


def _named_run(name: str, command: Command, arguments: Sequence[str]) -> dict[str, str]:
    """Returns the --model_dir that the argument of a command is, where it is one. Raises UserError for several."""
    if command.arguments != ONE_RUN or not arguments:
        return {}
    if len(arguments) > 1:
        raise UserError(f"{name} {shown(' '.join(arguments))}: takes one run; `{program()} compare` takes several.")
    return {"model_dir": arguments[0]}


def _check_usage(name: str, command: Command, options: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Raises UserError for values out of their limits, and for too few or too many flags and arguments."""
    config = with_options(Config(), options)
    configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    if "hardware" in command.sections and command.reads_cluster:
        read_tf_config()
    if arguments and not command.arguments:
        raise UserError(f"{shown(' '.join(arguments))}: {name} takes no words beside its flags.")
    if command.arguments and not arguments:
        raise UserError(f"{name}: nothing to work on. Usage: {program()} {name} [--flag=value ...] {command.arguments}")
    for flag in command.required:
        if not options.get(flag):
            raise UserError(f"--{flag} is missing. {OPTIONS[flag].help}")
    names_a_model = command.arguments and command.stored_config == "required"
    if names_a_model and bool(config.run.model_dir) == bool(config.output.saved_model):
        raise UserError(f"{name}: name one model, by --model_dir (a run) or --saved_model (what export wrote).")


def _base_config(command: Command, options: Mapping[str, Any]) -> Config:
    """Returns the configuration that the flags change: the stored run's, or the defaults."""
    if command.stored_config == "unused" or (command.arguments and options.get("saved_model")):
        return Config()
    from efficientnet_tpu.run import run_record

    model_dir = options.get("model_dir", "")
    if command.stored_config == "required":
        # Trained on a TPU, evaluated on a laptop: where it ran is not part of what it is.
        return dataclasses.replace(run_record.load(model_dir).config, hardware=HardwareConfig())
    return run_record.load(model_dir).config if model_dir and run_record.has_run(model_dir) else Config()
