"""`main.py benchmark train|inference`: milliseconds of a call, images a second and memory, by batch. No TensorFlow.

Each runtime, and each batch of a training, is measured in a process of its own (`worker`): nothing of the others is in
its memory, and one that is killed for want of memory is a row of the table.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from efficientnet_tpu.config.commands import ALL_RUNTIMES, read_batch_sizes
from efficientnet_tpu.config.config import Config, options_of
from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting.export_folder import newest_version
from efficientnet_tpu.installation import install_command
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run.subprocess_training import environment
from efficientnet_tpu.speed import timings
from efficientnet_tpu.speed.runtimes import RUNTIMES, runtime_of
from efficientnet_tpu.speed.timings import Timing
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.temporary_directory import temporary_directory
from efficientnet_tpu.storage.write_errors import explained_write_errors

_INFERENCE_BATCHES, _TRAINING_BATCHES = (1, 8, 32), (8, 32)


def benchmark_train(config: Config) -> None:
    """Measures training steps of a network, or of a run's options, for each batch of --batch_sizes."""
    architecture = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    facts = _facts("train", config, architecture.name, architecture.resolution)
    facts["precision"] = config.hardware.precision
    print(f"training steps of {_title(facts)}, --precision={config.hardware.precision}")
    rows = []
    for batch_size in _batch_sizes(config, _TRAINING_BATCHES):
        task = {"kind": "train", "options": options_of(config), "batch_size": batch_size}
        rows += _measured(task | {"seconds": config.benchmark.seconds}, [batch_size], "", not rows)
    _finish(config, facts, rows)


def benchmark_inference(config: Config) -> None:
    """Measures a network, a run or an export in each of --runtimes, for each batch of --batch_sizes."""
    export = newest_version(config.output.saved_model) if config.output.saved_model else ""
    names = chosen_runtimes(config.benchmark.runtimes, export)
    with temporary_directory() as folder:
        if export:
            found = _answer({"kind": "inspect", "path": export, "trust": config.output.trust})
            paths = {RUNTIMES[name].form: export for name in names}
        else:
            forms = [RUNTIMES[name].form for name in names]
            found = _answer({"kind": "export", "options": options_of(config), "forms": forms, "folder": folder})
            paths = found["paths"]
        name = export or configured_architecture(config.model, NUM_IMAGENET_CLASSES).name
        facts = _facts("inference", config, name, found["size"])
        print(f"inference of {_title(facts)}")
        sizes, rows = _batch_sizes(config, _INFERENCE_BATCHES), []
        for runtime in names:
            task = {
                "kind": "infer",
                "name": runtime,
                "path": paths[RUNTIMES[runtime].form],
                "size": found["size"],
                "batch_sizes": sizes,
                "seconds": config.benchmark.seconds,
                "threads": facts["threads"],
            }
            rows += _measured(task, sizes, runtime, not rows)
    _finish(config, facts, rows)


def chosen_runtimes(asked: str, export: str) -> list[str]:
    """Returns the runtimes to measure: --runtimes, or all that are installed and read what there is to be read.

    export: --saved_model, or "". Raises UserError for one that is not installed, or cannot read the export.
    """
    reads = runtime_of(export) if export else None
    if export and not reads:
        known = ", ".join(ending for runtime in RUNTIMES.values() for ending in runtime.endings if ending)
        raise UserError(f"--saved_model={export}: must be the directory of a SavedModel, or end with one of {known}.")
    if asked == ALL_RUNTIMES:
        return [reads] if reads else [name for name, runtime in RUNTIMES.items() if runtime.is_installed]
    names = list(dict.fromkeys(asked.split(",")))
    for name in names:
        if reads and name != reads:
            raise UserError(f"--runtimes={name}: reads no {export}; {reads} does. Leave --runtimes out.")
        if not RUNTIMES[name].is_installed:
            raise UserError(f"--runtimes={name}: is not installed: {install_command(RUNTIMES[name].extra)}")
    return names


def _batch_sizes(config: Config, default: tuple[int, ...]) -> list[int]:
    return read_batch_sizes(config.benchmark.batch_sizes) or [*default]


def _facts(kind: str, config: Config, name: str, size: int) -> dict[str, Any]:
    machine = timings.machine()
    distributions = {one for runtime in RUNTIMES.values() for one in runtime.distributions}
    versions = {}
    for distribution in sorted(distributions):
        try:
            versions[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    weights = "export" if config.output.saved_model else "run" if config.run.model_dir else "random"
    return {
        "benchmark": kind,
        "model": name,
        "model_options": {
            name: value for name, value in vars(config.model).items() if value != vars(ModelConfig())[name]
        },
        "resolution": size,
        "weights": weights,
        "threads": config.hardware.intra_op_threads or machine["cores"],
        "machine": machine,
        "versions": versions,
    }


def _title(facts: dict[str, Any]) -> str:
    machine = facts["machine"]
    return (
        f"{facts['model']} at {facts['resolution']} x {facts['resolution']}, {facts['weights']} weights, "
        f"{facts['threads']} threads of {machine['cores']} cores, load average {machine['load_average']:.1f}"
    )


def _measured(task: dict[str, Any], sizes: list[int], name: str, is_first: bool) -> list[Timing]:
    """Runs a task of timings, and prints each as it comes. Sizes of which none comes get a row that says why."""
    if is_first:
        print(timings.header("runtime" if name else "device"), flush=True)
    rows: list[Timing] = []
    try:
        for answer in _answers(task):
            rows.append(Timing(**answer))
            print(timings.line(rows[-1]), flush=True)
    except _WorkerEndedError as error:
        rows.append(Timing(name or "-", sizes[len(rows)], failure=str(error)))
        print(timings.line(rows[-1]), flush=True)
    return rows


class _WorkerEndedError(Exception):
    """The process of a task ended before its answer; the message is for a row of the table."""


def _answer(task: dict[str, Any]) -> Any:
    """Returns the one answer of a task. Raises UserError where there is none."""
    try:
        return next(_answers(task))
    except _WorkerEndedError as error:
        raise UserError(f"the {task['kind']} ended without an answer: {error}.") from error


def _answers(task: dict[str, Any]) -> Iterator[Any]:
    command = [sys.executable, "-m", "efficientnet_tpu.speed.worker"]
    with tempfile.TemporaryFile("w+") as words:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": words}
        with subprocess.Popen(command, text=True, env=environment(), **pipes) as process:
            assert process.stdin
            assert process.stdout
            with contextlib.suppress(BrokenPipeError):  # it has ended: its status says how
                process.stdin.write(json.dumps(task))
                process.stdin.close()
            for text in process.stdout:
                answer = json.loads(text)
                if "refused" in answer:
                    raise UserError(answer["refused"])
                yield answer
        if process.returncode:
            words.seek(0)
            last = "".join(words.read().strip().splitlines()[-1:])[:200]
            killed = "was killed, as by a machine that has not the memory"
            raise _WorkerEndedError(killed if process.returncode == -9 else last or f"status {process.returncode}")


def _finish(config: Config, facts: dict[str, Any], rows: list[Timing]) -> None:
    print("p50, p90, p99: of calls, each to its end. peak: of the process, or of the accelerator where it is told.")
    if facts["machine"]["load_average"] > facts["machine"]["cores"] / 2:
        print("warning: other programs run here; without them calls would be shorter. CPU ms would change less.")
    if path := config.output.report:
        with explained_write_errors(f"--report={path}"):
            write_atomically(path, timings.report(facts, rows))
        print(f"{path}: all of it as JSON")
