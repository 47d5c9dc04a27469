"""The table of commands: what each takes and needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from efficientnet_tpu.commands import functions
from efficientnet_tpu.config.config import RUN_SECTIONS, Config
from efficientnet_tpu.config.option import Option

DEFAULT_COMMAND = "train_and_eval"
ONE_RUN = "RUN"


@dataclass(frozen=True)
class Command:
    """A word on the command line and what belongs to it.

    run: the function; the first line of its docstring is the command's line in `--help`.
    group: its heading there.
    sections: the sections of Config that it takes whole; an option may name further commands.
    required: flags it cannot do without.
    arguments: what has to follow the command; empty: nothing may; ONE_RUN: the --model_dir of a run.
    stored_config: whether it starts from the configuration in model_dir: never, where there is one, or always.
    checks: functions of `first_checks`, which look at what it needs of the file system before TensorFlow starts.
    answer: gives the text to print in place of the work, where the files have it already; else "".
    example: its flags in the first lesson; empty: it is not in it.
    after_ctrl_c: what the same command does after it was interrupted; empty: it begins anew.
    leaves_files: whether its work is in files, so that it goes on where its output cannot be written; that of another
    command is its output.
    reads_cluster: whether a TF_CONFIG that is wrong is refused, of a command that takes the section of hardware.
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
    reads_cluster: bool = True


_USE, _DATA, _TPU, _PAPER = "train and use a model", "look at the data", "prepare a machine", "study the paper"
COMMANDS = {
    "train_and_eval": Command(
        functions.train_and_eval,
        _USE,
        RUN_SECTIONS,
        required=("model_dir",),
        stored_config="optional",
        checks=("tpu", "data", "cache", "first_weights", "class_weights", "tracker"),
        answer=functions.finished,
        example="--model=efficientnet-b0 --data_dir=photos --model_dir=runs/b0",
        after_ctrl_c="continues from the last checkpoint",
        leaves_files=True,
    ),
    "evaluate": Command(
        functions.evaluate,
        _USE,
        ("model", "data", "hardware", "eval"),
        required=("model_dir",),
        stored_config="required",
        checks=("tpu", "checkpoint", "data", "cache", "report"),
        example="--model_dir=runs/b0",
    ),
    "report": Command(
        functions.report,
        _USE,
        ("model", "data", "hardware", "eval"),
        arguments=ONE_RUN,
        stored_config="required",
        checks=("tpu", "checkpoint", "data", "cache", "report"),
        leaves_files=True,
    ),
    "predict": Command(
        functions.predict,
        _USE,
        ("model", "eval"),
        arguments="IMAGE...",
        stored_config="required",
        checks=("prediction_files", "named_images", "model"),
        example="--model_dir=runs/b0 photo.jpg",
    ),
    "export": Command(
        functions.export,
        _USE,
        ("model", "data", "eval"),
        required=("model_dir", "output_dir"),
        stored_config="required",
        checks=("export_output", "checkpoint"),
        example="--model_dir=runs/b0 --output_dir=exports/b0",
        leaves_files=True,
    ),
    "compare": Command(functions.compare, _USE, arguments="RUN...", needs_tensorflow=False),
    "import-weights": Command(
        functions.import_weights,
        _USE,
        ("model",),
        required=("import_from", "output_dir"),
        checks=("new_output", "imported_weights"),
        leaves_files=True,
    ),
    "models": Command(functions.models, _USE, ("model",), needs_tensorflow=False),
    "check-data": Command(
        functions.check_data, _DATA, ("model", "data"), checks=("data",), example="--data_dir=photos"
    ),
    "preview": Command(
        functions.preview,
        _DATA,
        ("model", "data", "train"),
        required=("picture",),
        checks=("data",),
        leaves_files=True,
    ),
    "make-tfrecords": Command(
        functions.make_tfrecords,
        _DATA,
        ("data",),
        required=("output_dir",),
        checks=("converted_data", "new_shards"),
        after_ctrl_c="continues from the last whole shard",
        leaves_files=True,
    ),
    "benchmark": Command(
        functions.benchmark,
        _DATA,
        ("model", "data", "hardware", "train"),
        arguments="input|train|inference",
        stored_config="optional",
        needs_tensorflow=False,
        checks=("benchmark",),
    ),
    "doctor": Command(
        functions.doctor,
        _TPU,
        RUN_SECTIONS,
        stored_config="optional",
        needs_tensorflow=False,
        reads_cluster=False,
    ),
    "plan": Command(
        functions.plan,
        _TPU,
        ("model", "data", "train", "eval"),
        required=("tpu_type",),
        needs_tensorflow=False,
    ),
    "launch": Command(
        functions.launch,
        _TPU,
        RUN_SECTIONS,
        required=("model_dir",),
        needs_tensorflow=False,
    ),
    "verify-resume": Command(
        functions.verify_resume,
        _TPU,
        RUN_SECTIONS,
        required=("model_dir",),
        checks=("tpu", "empty_model_dir", "data", "cache", "first_weights", "class_weights"),
        leaves_files=True,
    ),
    "scale": Command(functions.scale, _PAPER, ("model", "hardware", "train"), needs_tensorflow=False),
    "reproduce": Command(functions.reproduce, _PAPER, needs_tensorflow=False),
    "grid-search": Command(
        functions.grid_search,
        _PAPER,
        ("model", "data", "hardware", "train", "eval"),
        required=("output_dir",),
        needs_tensorflow=False,
        checks=("tpu", "data", "cache", "first_weights", "class_weights"),
        after_ctrl_c="continues the study",
        leaves_files=True,
    ),
    "scaling-study": Command(
        functions.scaling_study,
        _PAPER,
        ("model", "data", "hardware", "train", "eval"),
        required=("output_dir",),
        needs_tensorflow=False,
        checks=("tpu", "data", "cache", "first_weights", "class_weights"),
        after_ctrl_c="continues the study",
        leaves_files=True,
    ),
    "search": Command(
        functions.search,
        _PAPER,
        ("model", "data", "hardware", "train", "eval"),
        required=("output_dir",),
        needs_tensorflow=False,
        checks=("data", "cache", "first_weights", "class_weights"),
        after_ctrl_c="continues the search",
        leaves_files=True,
    ),
    "paper-miniature": Command(
        functions.paper_miniature,
        _PAPER,
        ("model", "data", "hardware", "train", "eval"),
        required=("output_dir",),
        needs_tensorflow=False,
        checks=("data", "cache", "transfer_data", "first_weights", "class_weights"),
        after_ctrl_c="continues the study",
        leaves_files=True,
    ),
    "search-report": Command(
        functions.search_report,
        _PAPER,
        required=("searches", "output_dir"),
        needs_tensorflow=False,
        leaves_files=True,
    ),
    "compare-maps": Command(
        functions.compare_maps,
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
