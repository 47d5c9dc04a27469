"""Checks what a command needs of the file system before TensorFlow starts, which takes seconds.

The work looks again where it opens what is checked here. Here the answer comes in half a second. On gs:// nothing is
looked at: that needs TensorFlow.
"""

import dataclasses
import errno
import os
from collections.abc import Sequence

from efficientnet_tpu.config.commands import ALL_RUNTIMES
from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.shard_part import VERIFY
from efficientnet_tpu.data.cache import cache_place
from efficientnet_tpu.data.data_place import require_data_place
from efficientnet_tpu.data.sources import named_files
from efficientnet_tpu.display.prediction_output import check_embeddings, check_output
from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.exporting.export_folder import export_place, require_room
from efficientnet_tpu.hardware import local_tpu
from efficientnet_tpu.run import run_record
from efficientnet_tpu.run.checkpoint_names import DIRECTORIES, checkpoint_paths
from efficientnet_tpu.run.reports.report_folder import report_folder
from efficientnet_tpu.run.tracking import trackers
from efficientnet_tpu.speed.benchmark import chosen_runtimes
from efficientnet_tpu.storage import presence
from efficientnet_tpu.storage.write_errors import OTHER_FOLDER, cannot_be_written
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.weights.weight_place import require_weight_place

BENCHMARKS = ("input", "train", "inference")


def tpu(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where this machine's TPU is asked for, and there is none that TensorFlow can use; says where one
    that nobody declined will not be used.
    """
    local_tpu.require_usable(config.hardware)
    if note := local_tpu.note_of_unused(config.hardware):
        print(note, flush=True)


def checkpoint(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError for a run without any checkpoint."""
    model_dir = config.run.model_dir
    if _is_local(model_dir) and not any(checkpoint_paths(model_dir, which) for which in DIRECTORIES):
        raise UserError(f"--model_dir={model_dir}: the run has no checkpoint yet.")


def data(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --data_dir names no place that is there."""
    if presence.is_local(config.data.data_dir):
        require_data_place(config.data)


def cache(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --cache names no directory for it, or cannot be obeyed."""
    place = config.hardware.cache
    cache_place.require_ours(place, config.data.data_dir)
    if place and config.data.downscale != "mean":
        raise UserError(
            f"--cache={place}: keeps reduced pictures, and --downscale={config.data.downscale} takes single pixels of "
            "whole ones. Leave one of them out."
        )


def report(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where the folder of a report, if one is asked for, cannot be made or written."""
    folder, named = report_folder(config)
    is_asked_for = config.output.report or arguments
    if not (is_asked_for and _is_local(folder)):
        return
    above = os.path.abspath(folder)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise cannot_be_written(named, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), OTHER_FOLDER)
    if not os.access(above, os.W_OK | os.X_OK):
        raise cannot_be_written(named, PermissionError(errno.EACCES, os.strerror(errno.EACCES)), OTHER_FOLDER)


def converted_data(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --data_dir names no place that is there, unless all shards are written."""
    if config.output.shards == VERIFY:
        return
    if not config.data.data_dir:
        raise UserError("--data_dir is missing. Name the images to be written; --shards=verify alone needs none.")
    data(config, arguments)


def transfer_data(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --transfer_data_dir names no place that is there."""
    place = config.study.transfer_data_dir
    if not _is_local(place):
        return
    try:
        require_data_place(dataclasses.replace(config.data, data_dir=place, dataset="auto"))
    except UserError as error:
        raise UserError(f"--transfer_data_dir={place}: {error}") from error


def class_weights(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --class_weights names a file that is not there."""
    if config.train.class_weights not in ("none", "balanced"):
        _require_file(config.train.class_weights, "class_weights")


def first_weights(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --init_from names nothing that is there."""
    if _is_local(config.train.init_from):
        require_weight_place(config.train.init_from, f"--init_from={config.train.init_from}")


def tracker(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where the package of --log_to is not installed."""
    if config.output.log_to != "none":
        trackers.require_installed(config.output.log_to)


def imported_weights(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --from or --labels names nothing that is there."""
    _require_file(config.weights.labels, "labels")
    if _is_local(config.weights.import_from):
        require_weight_place(config.weights.import_from, f"--from={config.weights.import_from}")


def new_output(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --output_dir exists."""
    if _is_local(config.output.output_dir):
        presence.check_absent(config.output.output_dir.rstrip("/"), "output_dir")


def export_output(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --output_dir exists, unless it is an export that can be added to."""
    if _is_local(config.output.output_dir):
        output = config.output
        require_room(export_place(output.output_dir, output.versioned), output.export_format.split(","))


def new_shards(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --output_dir has something in it, and for --shards=verify where nothing is there."""
    output_dir = config.output.output_dir
    if not _is_local(output_dir):
        return
    output_dir = os.path.abspath(output_dir)
    if config.output.shards != VERIFY:
        presence.check_empty(output_dir, "output_dir")
    elif not any(os.path.isdir(path) for path in (output_dir, f"{output_dir}.partial")):
        raise UserError(
            f"--output_dir={output_dir}: there are no parts to verify, in {output_dir}.partial. Give the --output_dir "
            "of the commands with --shards=K/N, after them."
        )


def named_images(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError for an argument that names no file, no folder and no glob."""
    named_files.require_present(arguments)


def prediction_files(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --output or --embeddings names no file that can be written."""
    if config.output.output:
        check_output(config.output.output, config.output.format)
    if config.output.embeddings:
        check_embeddings(config.output.embeddings)


def model(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where --saved_model names nothing that is there, and for a run without any checkpoint."""
    path = config.output.saved_model
    if not path:
        checkpoint(config, arguments)
    else:
        _require_file(path, "saved_model")


def benchmark(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError for a benchmark that there is not, and for what it cannot measure or write."""
    words, output = " ".join(arguments), config.output
    if words not in BENCHMARKS:
        raise UserError(
            f"benchmark {shown(words)}: must be one of {', '.join(BENCHMARKS)}.{nearest(words, BENCHMARKS)}"
        )
    if output.report:
        presence.require_folder(output.report, "report")
    if words != "inference" and (output.saved_model or config.benchmark.runtimes != ALL_RUNTIMES):
        flag = "saved_model" if output.saved_model else "runtimes"
        raise UserError(f"--{flag}: is for `benchmark inference`, not for {words}.")
    if config.run.model_dir:
        if output.saved_model:
            raise UserError("benchmark: name one model, by --model_dir (a run) or --saved_model (what export wrote).")
        run_record.load(config.run.model_dir)
    if words == "inference":
        if config.run.model_dir or output.saved_model:
            model(config, arguments)
        chosen_runtimes(config.benchmark.runtimes, output.saved_model)


def empty_model_dir(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where there is something in --model_dir."""
    if _is_local(config.run.model_dir):
        presence.check_empty(config.run.model_dir, "model_dir")


def compared_runs(config: Config, arguments: Sequence[str]) -> None:
    """Raises UserError where one of --runs is none."""
    for model_dir in filter(_is_local, config.output.runs.split(",")):
        run_record.load(model_dir)


def _require_file(path: str, flag: str) -> None:
    if _is_local(path) and not presence.exists(path, f"--{flag}={path}"):
        raise UserError(f"--{flag}={path}: there is no such file.")


def _is_local(path: str) -> bool:
    """Returns whether a path is given, and is one that the operating system can look at."""
    return bool(path) and presence.is_local(path)
