"""The command line: flags -> Config -> COMMANDS[command](config).

Everything a command needs is imported when it runs, so that `--help`, `models` and typing errors answer at once,
without TensorFlow.
"""

import dataclasses
import itertools
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from absl import flags

from efficientnet_tpu.config.commands import OutputConfig
from efficientnet_tpu.config.config import Config, sections, with_options
from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.hardware import preemption, tensorflow_startup
from efficientnet_tpu.hardware.tf_config import read_tf_config
from efficientnet_tpu.models import stage_table
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.compound_scaling import configured_architecture

DEFAULT_COMMAND = "train_and_eval"
PATH_FLAGS = (
    *("model_dir", "data_dir", "output_dir", "saved_model", "picture", "report", "cam"),
    *("import_from", "labels", "parity_python", "init_from", "baseline", "plan_table"),
)
# Python's keywords cannot name a field of a section.
ALIASES = {"from": "import_from"}


def _train_and_eval(config: Config, words: Sequence[str]) -> None:
    """train a model, evaluating as it goes; resumes from model_dir (the default command)"""
    from efficientnet_tpu import train

    train.train_and_eval(config)


def _evaluate(config: Config, words: Sequence[str]) -> None:
    """measure a trained model on the validation images; --report: a page of what it gets right and wrong"""
    if config.output.report:
        from efficientnet_tpu.model_inspection import evaluation_report

        evaluation_report.evaluate_and_report(config)
        return
    from efficientnet_tpu import evaluate

    evaluate.evaluate_run(config)


def _export(config: Config, words: Sequence[str]) -> None:
    """write a trained model as SavedModel, .keras, TFLite or ONNX, each read back and compared"""
    from efficientnet_tpu import export

    export.export_run(config)


def _predict(config: Config, words: Sequence[str]) -> None:
    """classify image files, folders, globs or a list on stdin (-) with a trained or an exported model"""
    from efficientnet_tpu import predict

    predict.predict_paths(config, words)


def _models(config: Config, words: Sequence[str]) -> None:
    """list every model: parameters, multiply-adds, resolution, drop rates; with model flags, that model too"""
    from efficientnet_tpu.models import complexity

    print(complexity.models_table(config.model))


def _make_tfrecords(config: Config, words: Sequence[str]) -> None:
    """convert an image folder or a manifest to TFRecord shards like ImageNet's; continues if interrupted"""
    from efficientnet_tpu.data.conversion import make_tfrecords

    make_tfrecords.convert_folder(config)


def _check_data(config: Config, words: Sequence[str]) -> None:
    """read every image and say what is wrong: unreadable, duplicate, in two splits; exit status 1 if so"""
    from efficientnet_tpu.data_inspection import check_data

    check_data.check_data(config)


def _preview(config: Config, words: Sequence[str]) -> None:
    """draw what the model sees into --picture: training images as prepared, each operation by itself"""
    from efficientnet_tpu.data_inspection import preview

    preview.preview(config)


def _benchmark(config: Config, words: Sequence[str]) -> None:
    """`benchmark input`: where the input pipeline's time goes, and which accelerators that feeds"""
    from efficientnet_tpu.data_inspection import input_benchmark

    if list(words) != ["input"]:
        raise UserError(f"benchmark {' '.join(words)}: there is one benchmark so far: `main.py benchmark input`.")
    input_benchmark.benchmark_input(config)


def _import_weights(config: Config, words: Sequence[str]) -> None:
    """turn weights of keras.applications, TensorFlow 1, timm or EfficientNet-PyTorch into a model_dir"""
    from efficientnet_tpu.weights import import_weights

    import_weights.import_weights(config)


def _launch(config: Config, words: Sequence[str]) -> None:
    """print a script that makes a TPU VM, trains on it through preemptions and deletes it"""
    from efficientnet_tpu.launch import launch

    print(launch.script(config), end="")


def _plan(config: Config, words: Sequence[str]) -> None:
    """say whether a training fits a TPU, how fast it is at best and what it costs; needs no TPU"""
    from efficientnet_tpu.plan.plan import plan

    plan(config)


def _verify_resume(config: Config, words: Sequence[str]) -> None:
    """train briefly, straight and killed at random steps, and compare the two to the bit"""
    from efficientnet_tpu.run import verify_resume

    verify_resume.verify_resume(config)


def _reproduce(config: Config, words: Sequence[str]) -> None:
    """print a table or figure of the paper with our columns beside it; --output_dir: files of it too"""
    from efficientnet_tpu.paper import reproduce

    reproduce.reproduce(config)


def _scale(config: Config, words: Sequence[str]) -> None:
    """find the largest network that a budget pays for, by compound scaling of --model or a table of your own"""
    from efficientnet_tpu.studies import scale_to_budget

    scale_to_budget.scale_to_budget(config)


def _compare_maps(config: Config, words: Sequence[str]) -> None:
    """draw where several runs look in the same images: class activation maps side by side, as in Figure 7"""
    from efficientnet_tpu.model_inspection import compare_maps

    compare_maps.compare_maps(config, words)


def _grid_search(config: Config, words: Sequence[str]) -> None:
    """the paper's STEP 1: train every alpha, beta, gamma with alpha * beta^2 * gamma^2 about 2; rank them"""
    from efficientnet_tpu.studies import run_grid_search

    run_grid_search.run(config)


def _scaling_study(config: Config, words: Sequence[str]) -> None:
    """train a base network, and it scaled in depth, width, resolution and all three at equal cost; compare"""
    from efficientnet_tpu.studies import run_scaling_study

    run_scaling_study.run(config)


@dataclass(frozen=True)
class Command:
    """What a word on the command line does, and what belongs to it."""

    run: Callable[[Config, Sequence[str]], None]  # its docstring is the help
    sections: tuple[str, ...]  # of Config, shown by `<command> --help`
    required: tuple[str, ...] = ()  # flags it cannot do without
    words: str = ""  # what has to follow the command; empty: nothing may
    # Whether it starts from the configuration stored in model_dir: never, where there is one, or always.
    stored_config: Literal["unused", "optional", "required"] = "unused"
    needs_tensorflow: bool = True


COMMANDS = {
    "train_and_eval": Command(
        _train_and_eval,
        ("run", "model", "data", "hardware", "train", "eval"),
        required=("model_dir",),
        stored_config="optional",
    ),
    "evaluate": Command(
        _evaluate, ("run", "data", "hardware", "eval", "output"), required=("model_dir",), stored_config="required"
    ),
    "export": Command(
        _export, ("run", "data", "eval", "output"), required=("model_dir", "output_dir"), stored_config="required"
    ),
    "predict": Command(_predict, ("run", "eval", "output"), words="IMAGE...", stored_config="required"),
    "models": Command(_models, ("model",), needs_tensorflow=False),
    "check-data": Command(_check_data, ("run", "model", "data", "output")),
    "preview": Command(_preview, ("run", "model", "data", "train", "output"), required=("picture",)),
    "benchmark": Command(_benchmark, ("run", "model", "data", "hardware", "train"), words="input"),
    "import-weights": Command(_import_weights, ("model", "output", "weights"), required=("import_from", "output_dir")),
    "launch": Command(
        _launch,
        ("run", "model", "data", "hardware", "train", "eval", "launch"),
        required=("tpu_type", "tpu_zone", "gcp_project", "model_dir"),
        needs_tensorflow=False,
    ),
    "plan": Command(
        _plan, ("model", "train", "eval", "launch", "plan"), required=("tpu_type",), needs_tensorflow=False
    ),
    "verify-resume": Command(
        _verify_resume, ("run", "model", "data", "hardware", "train", "eval", "verify"), required=("model_dir",)
    ),
    "reproduce": Command(_reproduce, ("run", "output", "study"), needs_tensorflow=False),
    "scale": Command(_scale, ("model", "hardware", "train", "launch", "plan", "study"), needs_tensorflow=False),
    "compare-maps": Command(_compare_maps, ("output",), required=("runs", "picture"), words="IMAGE..."),
    "grid-search": Command(
        _grid_search,
        ("model", "data", "hardware", "train", "eval", "output", "study"),
        required=("output_dir",),
        needs_tensorflow=False,
    ),
    "scaling-study": Command(
        _scaling_study,
        ("model", "data", "hardware", "train", "eval", "output", "study"),
        required=("output_dir",),
        needs_tensorflow=False,
    ),
    "make-tfrecords": Command(_make_tfrecords, ("run", "data", "output"), required=("data_dir", "output_dir")),
}


def run(argv: Sequence[str] | None = None) -> None:
    """Entry point of main.py and of the console script. Exits with status 2 and a message on bad input."""
    try:
        main(sys.argv if argv is None else argv)
        sys.stdout.flush()  # a closed pipe shows here, not when Python exits
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except preemption.StoppedError as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_status)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        print(
            "\ninterrupted; restarted, training continues from its last checkpoint, make-tfrecords from its last shard",
            file=sys.stderr,
        )
        sys.exit(130)


def main(argv: Sequence[str]) -> None:
    """Runs a command line; argv[0] is the program's name. Raises UserError on bad input."""
    flag_values = _define_flags()
    words = _parse(flag_values, argv)
    name, words = _split_command(words)
    if flag_values["help"].value:
        named = name if any(word == name for word in argv) else None
        print(help_text(named))
        return
    given = {field: _expand(field, flag_values[field].value) for field in _fields() if flag_values[field].present}
    words = [os.path.expanduser(word) for word in words]
    command = COMMANDS[name]
    _check_usage(name, command, given, words)
    if command.needs_tensorflow:
        tensorflow_startup.import_tensorflow()
    command.run(with_options(_base_config(command, given), given), words)


def _expand(name: str, value: Any) -> Any:
    """Home directories in paths: no shell expands ~ behind --flag= or in a flag file. A baseline is read here."""
    value = os.path.expanduser(value) if name in PATH_FLAGS else value
    return stage_table.inline(value) if name == "baseline" and value else value


def _check_usage(name: str, command: Command, given: dict[str, Any], words: Sequence[str]) -> None:
    """Refuses what can be refused without TensorFlow, which takes seconds to start."""
    config = with_options(Config(), given)
    configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    if "hardware" in command.sections:
        read_tf_config()
    if words and not command.words:
        raise UserError(f"{' '.join(words)}: {name} takes no words beside its flags.")
    if command.words and not words:
        raise UserError(f"{name}: nothing to work on. Usage: main.py {name} [--flag=value ...] {command.words}")
    for flag in command.required:
        if not given.get(flag):
            raise UserError(f"--{flag} is missing. {_fields()[flag].metadata['help']}")
    names_a_model = command.words and command.stored_config == "required"
    if names_a_model and bool(config.run.model_dir) == bool(config.output.saved_model):
        raise UserError(f"{name}: name one model, by --model_dir (a run) or --saved_model (what export wrote).")


def _base_config(command: Command, given: dict[str, Any]) -> Config:
    """What the flags on the command line override: the run's own configuration, or the defaults."""
    if command.stored_config == "unused" or (command.words and given.get("saved_model")):
        return Config()
    from efficientnet_tpu.run import run_record

    if command.stored_config == "required":
        # Trained on a TPU, evaluated on a laptop: where it ran, and what it wrote, are not part of what it is.
        stored = run_record.load(given["model_dir"]).config
        return dataclasses.replace(stored, hardware=HardwareConfig(), output=OutputConfig())
    model_dir = given["model_dir"]
    return run_record.load(model_dir).config if run_record.has_run(model_dir) else Config()


def _fields() -> dict[str, dataclasses.Field]:
    return {field.name: field for section in sections().values() for field in dataclasses.fields(section)}


def _define_flags() -> flags.FlagValues:
    """absl flags of every field of every section, in a registry of their own: parsing leaves no global state."""
    flag_values = flags.FlagValues()
    flag_values.set_gnu_getopt(True)  # flags may follow words
    define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    for section in sections().values():
        types_of_fields = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            kind = types_of_fields[field.name]
            if isinstance(kind, types.UnionType):  # float | None
                kind = typing.get_args(kind)[0]
            define[kind](field.name, field.default, field.metadata["help"], flag_values=flag_values)
    for alias, name in ALIASES.items():
        flags.DEFINE_alias(alias, name, flag_values=flag_values)
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=flag_values)
    return flag_values


def _parse(flag_values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Reads the flags; returns the words between them."""
    try:
        return flag_values([argv[0], *_flag_files_first(argv[1:])])[1:]
    except flags.UnrecognizedFlagError as error:
        closest = nearest(f"--{error.flagname}", [f"--{name}" for name in (*_fields(), "help", "flagfile")])
        raise UserError(f"--{error.flagname}: no such flag.{closest} `main.py --help` lists them.") from error
    except flags.CantOpenFlagFileError as error:
        raise UserError(f"--flagfile: {str(error).removeprefix('ERROR:: ')}") from error
    except (flags.Error, ValueError) as error:  # absl: ValueError for --noflag=value
        raise UserError(str(error)) from error


def _flag_files_first(arguments: Sequence[str]) -> list[str]:
    """What stands on the command line overrides what stands in a file, wherever the file is named."""
    files: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            others += [argument, *rest]
        elif argument in ("--flagfile", "-flagfile"):
            files += [argument, *itertools.islice(rest, 1)]
        elif argument.startswith(("--flagfile=", "-flagfile=")):
            files.append(argument)
        else:
            others.append(argument)
    return files + others


def _split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    if not words:
        return DEFAULT_COMMAND, []
    if words[0] not in COMMANDS:
        raise UserError(f"{words[0]}: no such command.{nearest(words[0], COMMANDS)} Commands: {', '.join(COMMANDS)}.")
    return words[0], list(words[1:])


def help_text(command_name: str | None = None) -> str:
    """Help on one command, or on all of them; flags grouped by topic."""
    lines = ["Trains, evaluates, exports and uses EfficientNets on TPU, GPU or CPU.", ""]
    if command_name is None:
        lines += ["usage: main.py [command] [--flag=value ...] [--flagfile=FILE]", "", "commands:"]
        lines += [f"  {name:<16}{command.run.__doc__}" for name, command in COMMANDS.items()]
        shown: Sequence[str] = tuple(sections())
    else:
        command = COMMANDS[command_name]
        usage = " ".join(filter(None, ["main.py", command_name, "[--flag=value ...]", command.words]))
        lines += [f"usage: {usage}", "", f"  {command.run.__doc__}"]
        shown = command.sections
    for name, section in sections().items():
        if name in shown:
            lines += ["", f"{section.__doc__}:"]
            for field in dataclasses.fields(section):
                lines += _flag_help(field)
    return "\n".join(lines)


def _flag_help(field: dataclasses.Field, width: int = 120) -> list[str]:
    import textwrap

    notes = [f"one of {', '.join(field.metadata['choices'])}"] if "choices" in field.metadata else []
    notes += [f"of {', '.join(field.metadata['parts'])}"] if "parts" in field.metadata else []
    if field.default not in (None, ""):
        notes.append(f"default {field.default}")
    text = field.metadata["help"] + (f" ({'; '.join(notes)})" if notes else "")
    head = f"  --{field.name}"
    body = textwrap.wrap(text, width - 28)
    first = [f"{head:<28}{body[0]}"] if len(head) < 27 else [head, " " * 28 + body[0]]
    return first + [" " * 28 + line for line in body[1:]]
