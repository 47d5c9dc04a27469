"""The commands: a table of them, what each takes and needs, and functions that import the work when it runs.

Nothing here needs TensorFlow before a command has been found to have what it needs.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from efficientnet_tpu.config.config import OPTIONS, RUN_SECTIONS, Config, with_options
from efficientnet_tpu.config.option import Option
from efficientnet_tpu.config.run import DATASETS_WITHOUT_A_PLACE, HardwareConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import output_streams, preemption, tensorflow_startup
from efficientnet_tpu.hardware.tf_config import read_tf_config
from efficientnet_tpu.installation import program, recipe_file
from efficientnet_tpu.models import stage_table
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.storage import remote_path

DEFAULT_COMMAND = "train_and_eval"


def train_and_eval(config: Config, arguments: Sequence[str]) -> None:
    """Trains a model, evaluating as it goes (the default command).

    A run continues from the newest checkpoint in --model_dir.
    """
    from efficientnet_tpu import train

    train.train_and_eval(config)


def evaluate(config: Config, arguments: Sequence[str]) -> None:
    """Measures a trained model on the validation images.

    --report writes a page about what the model gets right and wrong.
    """
    if config.output.report:
        from efficientnet_tpu.model_inspection import evaluation_report

        evaluation_report.evaluate_and_report(config)
        return
    from efficientnet_tpu import evaluate

    evaluate.evaluate_run(config)


def predict(config: Config, arguments: Sequence[str]) -> None:
    """Classifies images with a trained or an exported model.

    An IMAGE is a file, a folder or a glob; - reads a list of files from stdin.
    """
    from efficientnet_tpu import predict

    predict.predict_paths(config, arguments)


def export(config: Config, arguments: Sequence[str]) -> None:
    """Writes a trained model as SavedModel, Keras, TFLite or ONNX.

    Every format is read back and compared with the run.
    """
    from efficientnet_tpu import export

    export.export_run(config)


def import_weights(config: Config, arguments: Sequence[str]) -> None:
    """Turns weights of Keras, TF1, timm or PyTorch into a model_dir.

    The sources are keras.applications, the TensorFlow 1 reference, timm and EfficientNet-PyTorch.
    """
    from efficientnet_tpu.weights import import_weights

    import_weights.import_weights(config)


def models(config: Config, arguments: Sequence[str]) -> None:
    """Lists all models: parameters, multiply-adds, resolution.

    With flags of section Model, that model is listed too.
    """
    from efficientnet_tpu.models.models_table import models_table

    print(models_table(config.model))


def check_data(config: Config, arguments: Sequence[str]) -> None:
    """Reads every image and reports the unreadable and the duplicate.

    It looks for images in two splits too. The exit status is 1 if there is something to report.
    """
    from efficientnet_tpu.data_inspection import check_data

    check_data.check_data(config)


def preview(config: Config, arguments: Sequence[str]) -> None:
    """Draws the training images as the model sees them.

    --picture shows them as they are prepared, and each augmentation operation by itself.
    """
    from efficientnet_tpu.data_inspection import preview

    preview.preview(config)


def make_tfrecords(config: Config, arguments: Sequence[str]) -> None:
    """Converts a folder or a manifest to TFRecord shards.

    The shards are laid out like ImageNet's; an interrupted conversion continues.
    """
    from efficientnet_tpu.data.conversion import make_tfrecords

    make_tfrecords.convert_folder(config)


def benchmark(config: Config, arguments: Sequence[str]) -> None:
    """Measures the input pipeline: `benchmark input`.

    Says where its time goes and which accelerators it can feed.
    """
    from efficientnet_tpu.data_inspection import input_benchmark

    if list(arguments) != ["input"]:
        raise UserError(
            f"benchmark {' '.join(arguments)}: there is one benchmark so far: `{program()} benchmark input`."
        )
    input_benchmark.benchmark_input(config)


def plan(config: Config, arguments: Sequence[str]) -> None:
    """Estimates memory, speed and cost of a training on a TPU.

    It needs no TPU.
    """
    from efficientnet_tpu.plan.plan import plan

    plan(config)


def launch(config: Config, arguments: Sequence[str]) -> None:
    """Prints a script that trains on a TPU VM.

    The script makes the TPU VM, trains on it through preemptions and deletes it.
    """
    from efficientnet_tpu.launch import launch

    print(launch.launch_script(config), end="")


def verify_resume(config: Config, arguments: Sequence[str]) -> None:
    """Proves that a killed run loses nothing.

    Trains briefly, straight and killed at random steps, and compares the two to the bit.
    """
    from efficientnet_tpu.run import verify_resume

    verify_resume.verify_resume(config)


def scale(config: Config, arguments: Sequence[str]) -> None:
    """Finds the largest network that a budget pays for.

    The network is --model, or a table of your own, with compound scaling.
    """
    from efficientnet_tpu.studies import scale_to_budget

    scale_to_budget.scale_to_budget(config)


def reproduce(config: Config, arguments: Sequence[str]) -> None:
    """Prints a table or figure of the paper beside our numbers.

    --output_dir writes files of it too.
    """
    from efficientnet_tpu.paper import reproduce

    reproduce.reproduce(config)


def grid_search(config: Config, arguments: Sequence[str]) -> None:
    """Trains a grid of alpha, beta and gamma: the paper's step 1.

    The grid holds all with alpha * beta^2 * gamma^2 about 2; the result is a ranking.
    """
    from efficientnet_tpu.studies import run_grid_search

    run_grid_search.run(config)


def scaling_study(config: Config, arguments: Sequence[str]) -> None:
    """Compares networks scaled in depth, width, resolution and all.

    All are scaled from one base network to equal cost, trained with several seeds, and compared.
    """
    from efficientnet_tpu.studies import run_scaling_study

    run_scaling_study.run(config)


def compare_maps(config: Config, arguments: Sequence[str]) -> None:
    """Draws where several runs look in the same images.

    Class activation maps side by side, as in the paper's Figure 7.
    """
    from efficientnet_tpu.model_inspection import compare_maps

    compare_maps.compare_maps(config, arguments)


def _finished(config: Config) -> str:
    """Returns the results of a run that has nothing left to train, from its files, else ""."""
    from efficientnet_tpu.run.finished_run import describe_finished

    return describe_finished(config)


@dataclass(frozen=True)
class Command:
    """A word on the command line and what belongs to it.

    run: the function; the first line of its docstring is the command's line in `--help`.
    group: its heading there.
    sections: the sections of Config that it takes whole; an option may name further commands.
    required: flags it cannot do without.
    arguments: what has to follow the command; empty: nothing may.
    stored_config: whether it starts from the configuration in model_dir: never, where there is one, or always.
    checks: functions of `first_checks`, which look at what it needs of the file system before TensorFlow starts.
    answer: gives the text to print in place of the work, where the files have it already; else "".
    example: its flags in the first lesson; empty: it is not in it.
    after_ctrl_c: what the same command does after it was interrupted; empty: it begins anew.
    leaves_files: whether its work is in files, so that it goes on where its output cannot be written; that of another
    command is its output.
    """

    run: Callable[[Config, Sequence[str]], None]
    group: str
    sections: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    arguments: str = ""
    stored_config: Literal["unused", "optional", "required"] = "unused"
    needs_tensorflow: bool = True
    checks: tuple[str, ...] = ()
    answer: Callable[[Config], str] = lambda config: ""
    example: str = ""
    after_ctrl_c: str = ""
    leaves_files: bool = False


_USE, _DATA, _TPU, _PAPER = "train and use a model", "look at the data", "prepare for a TPU", "study the paper"
COMMANDS = {
    "train_and_eval": Command(
        train_and_eval,
        _USE,
        RUN_SECTIONS,
        required=("model_dir",),
        stored_config="optional",
        checks=("data", "first_weights", "class_weights"),
        answer=_finished,
        example="--model=efficientnet-b0 --data_dir=photos --model_dir=runs/b0",
        after_ctrl_c="continues from the last checkpoint",
        leaves_files=True,
    ),
    "evaluate": Command(
        evaluate,
        _USE,
        ("model", "data", "hardware", "eval"),
        required=("model_dir",),
        stored_config="required",
        checks=("checkpoint", "data"),
        example="--model_dir=runs/b0",
    ),
    "predict": Command(
        predict,
        _USE,
        ("model", "eval"),
        arguments="IMAGE...",
        stored_config="required",
        checks=("named_images", "model"),
        example="--model_dir=runs/b0 photo.jpg",
    ),
    "export": Command(
        export,
        _USE,
        ("model", "data", "eval"),
        required=("model_dir", "output_dir"),
        stored_config="required",
        checks=("new_output", "checkpoint"),
        example="--model_dir=runs/b0 --output_dir=exports/b0",
        leaves_files=True,
    ),
    "import-weights": Command(
        import_weights,
        _USE,
        ("model",),
        required=("import_from", "output_dir"),
        checks=("new_output", "imported_weights"),
        leaves_files=True,
    ),
    "models": Command(models, _USE, ("model",), needs_tensorflow=False),
    "check-data": Command(check_data, _DATA, ("model", "data"), checks=("data",), example="--data_dir=photos"),
    "preview": Command(
        preview,
        _DATA,
        ("model", "data", "train"),
        required=("picture",),
        checks=("data",),
        leaves_files=True,
    ),
    "make-tfrecords": Command(
        make_tfrecords,
        _DATA,
        ("data",),
        required=("data_dir", "output_dir"),
        checks=("data", "new_shards"),
        after_ctrl_c="continues from the last whole shard",
        leaves_files=True,
    ),
    "benchmark": Command(benchmark, _DATA, ("model", "data", "hardware", "train"), arguments="input"),
    "plan": Command(plan, _TPU, ("model", "train", "eval"), required=("tpu_type",), needs_tensorflow=False),
    "launch": Command(
        launch,
        _TPU,
        RUN_SECTIONS,
        required=("tpu_type", "tpu_zone", "gcp_project", "model_dir"),
        needs_tensorflow=False,
    ),
    "verify-resume": Command(
        verify_resume,
        _TPU,
        RUN_SECTIONS,
        required=("model_dir",),
        checks=("empty_model_dir", "data", "first_weights", "class_weights"),
        leaves_files=True,
    ),
    "scale": Command(scale, _PAPER, ("model", "hardware", "train"), needs_tensorflow=False),
    "reproduce": Command(reproduce, _PAPER, needs_tensorflow=False),
    "grid-search": Command(
        grid_search,
        _PAPER,
        ("model", "data", "hardware", "train", "eval"),
        required=("output_dir",),
        needs_tensorflow=False,
        checks=("data", "first_weights", "class_weights"),
        after_ctrl_c="continues the study",
        leaves_files=True,
    ),
    "scaling-study": Command(
        scaling_study,
        _PAPER,
        ("model", "data", "hardware", "train", "eval"),
        required=("output_dir",),
        needs_tensorflow=False,
        checks=("data", "first_weights", "class_weights"),
        after_ctrl_c="continues the study",
        leaves_files=True,
    ),
    "compare-maps": Command(
        compare_maps,
        _PAPER,
        required=("runs", "picture"),
        arguments="IMAGE...",
        checks=("compared_runs", "named_images"),
        leaves_files=True,
    ),
}


def takes(name: str, option: Option) -> bool:
    """Returns whether a command has a flag for an option."""
    return option.section in COMMANDS[name].sections or name in option.commands


def run_command(name: str, options: Mapping[str, Any], typed: Collection[str], arguments: Sequence[str]) -> None:
    """Runs a command with the options that were given by flag name, and the arguments after its name.

    typed: the options given on the command line itself, the others being in a flag file.
    Raises UserError on bad input; what can be refused without TensorFlow, which takes seconds to start, is refused
    before it starts.
    """
    command = COMMANDS[name]
    if command.leaves_files:
        output_streams.go_on_without_output()
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
        with preemption.ended_by_signals() if clears_away else contextlib.nullcontext():
            command.run(config, arguments)
    except KeyboardInterrupt:
        after = f"; the same command {command.after_ctrl_c}" if command.after_ctrl_c else ""
        print(f"\ninterrupted{after}", file=sys.stderr)
        sys.exit(130)


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


def _check_usage(name: str, command: Command, options: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Raises UserError for values out of their limits, and for too few or too many flags and arguments."""
    config = with_options(Config(), options)
    configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    if "hardware" in command.sections:
        read_tf_config()
    if arguments and not command.arguments:
        raise UserError(f"{' '.join(arguments)}: {name} takes no words beside its flags.")
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

    model_dir = options["model_dir"]
    if command.stored_config == "required":
        # Trained on a TPU, evaluated on a laptop: where it ran is not part of what it is.
        return dataclasses.replace(run_record.load(model_dir).config, hardware=HardwareConfig())
    return run_record.load(model_dir).config if run_record.has_run(model_dir) else Config()
