"""The proof that a killed run loses nothing, on this machine and with these flags: `main.py verify-resume`.

It trains twice: straight through, and killed at random steps (SIGKILL, at times during a write) and restarted. The two
must end with the same bits in every weight, average, slot and metric, and have logged the same evaluations.
"""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config, training_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run import checkpoint_names, subprocess_training
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, OUTPUT, read_log
from efficientnet_tpu.storage.literal_path import literal_path
from efficientnet_tpu.storage.presence import check_empty

_STEP = re.compile(r"step +(\d+)/")


def verify_resume(config: Config) -> None:
    """Runs the proof in model_dir, which must not hold a run, and exits with status 1 if it fails."""
    model_dir, verify = config.run.model_dir, config.verify
    check_empty(model_dir, "model_dir")  # the proof needs a directory of its own
    straight, killed = (os.path.join(model_dir, name) for name in ("straight", "killed"))
    started = time.monotonic()
    print(f"straight: {verify.verify_steps} steps", flush=True)
    finish_training(config, straight)
    print(f"straight: done after {time.monotonic() - started:.0f} s", flush=True)
    for target in targets(config):
        if not has_finished(config, killed):
            print(f"killed: {kill_training_after(config, killed, target)}", flush=True)
    if not has_finished(config, killed):
        finish_training(config, killed)
    differences = list(compare_runs(straight, killed))
    if differences:
        print("\n".join(["NOT THE SAME:", *differences[:20]]))
        print(
            f"{len(differences)} differences; both runs stay in {model_dir}. Kernels that add in whatever order, as "
            "some on GPUs do, differ without any interruption: try TF_DETERMINISTIC_OPS=1 in the environment."
        )
        sys.exit(1)
    tensors = len(checkpoint_tensors(straight))
    tf.io.gfile.rmtree(straight)
    tf.io.gfile.rmtree(killed)
    print(f"the same to the bit: {tensors:,} tensors (weights, averages, slots, metrics) and every evaluation logged")


def targets(config: Config) -> list[int]:
    """Returns random steps after which to kill, others in every proof."""
    steps = range(1, config.verify.verify_steps)
    return sorted(random.sample(steps, min(config.verify.verify_kills, len(steps))))


def has_finished(config: Config, model_dir: str) -> bool:
    """Returns whether a run has saved the last step of the proof. If started once more it would continue from there."""
    return checkpoint_names.newest_step(model_dir) >= config.verify.verify_steps


def finish_training(config: Config, model_dir: str) -> None:
    """Starts or continues a run and waits for its end. Raises UserError if it fails."""
    process = start_training(config, model_dir)
    assert process.stdout is not None
    with process:
        output = process.stdout.read()
        process.wait()  # before its standard input is closed, which would stop it
    if process.returncode:
        raise UserError(f"the training under proof failed:\n{output}")


def kill_training_after(config: Config, model_dir: str, target: int) -> str:
    """Starts or continues a run and kills it when it has reported step `target`; returns a description."""
    process = start_training(config, model_dir)
    assert process.stdout is not None
    output = []
    for line in process.stdout:
        output.append(line)
        match = _STEP.match(line)
        if match and int(match[1]) >= target:
            # A checkpoint is written after every report; the kill falls before, during or after it.
            time.sleep(random.uniform(0.0, 0.3))
            process.kill()
            break
    process.wait()
    with process:  # closes its pipes
        pass
    if process.returncode > 0:
        raise UserError(f"the training under proof failed:\n{''.join(output)}")
    writing = any(Path(model_dir).rglob("*_temp")) if "://" not in model_dir else False
    where = " while it wrote a checkpoint" if writing else ""
    return f"after step {match[1]}{where}" if match else "not: it had finished"


def start_training(config: Config, model_dir: str) -> subprocess.Popen[str]:
    """Starts a training process with the same flags that saves as often as it reports."""
    options = training_options(config) | {
        "model_dir": model_dir,
        "train_batch_size": config.train.batch_size,  # which must not depend on what memory is free at the moment
        "minutes_per_save": 1e-9,
        "stop_at_step": config.verify.verify_steps,
        "steps_per_loop": max(1, config.verify.verify_steps // 20),
    }
    return subprocess_training.start(options, subprocess.PIPE)


def compare_runs(straight: str, killed: str) -> Iterator[str]:
    """Yields a line for every tensor of the newest checkpoints, and for the evaluations, that differ in a bit."""
    before, after = checkpoint_tensors(straight), checkpoint_tensors(killed)
    for name in sorted(before.keys() ^ after.keys()):
        yield f"  {name}: in one of them only"
    for name in sorted(before.keys() & after.keys()):
        if before[name].tobytes() != after[name].tobytes():
            yield f"  {name}{_distance(before[name], after[name])}"
    evaluations = [logged_evaluations(directory) for directory in (straight, killed)]
    if evaluations[0] != evaluations[1]:
        yield f"  evaluations: {evaluations[0]} against {evaluations[1]}"


def _distance(one: np.ndarray, other: np.ndarray) -> str:
    if one.dtype.kind != "f" or one.shape != other.shape:
        return f": {one} against {other}"
    return f": up to {np.abs(one - other).max():.1e} of {np.abs(one).max():.1e}"


def checkpoint_tensors(model_dir: str) -> dict[str, np.ndarray]:
    """Returns name -> value, an array [...], of everything in the newest checkpoint."""
    with literal_path(checkpoint_names.newest(model_dir)) as path:
        reader = tf.train.load_checkpoint(path)
        names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
        return {name: np.asarray(reader.get_tensor(name)) for name in names}


def logged_evaluations(model_dir: str) -> list[dict]:
    """Returns the log entries of evaluations, without the time of day."""
    return [
        {name: value for name, value in entry.items() if name != "time"}
        for entry in read_log(os.path.join(model_dir, LOG_JSONL)).entries
        if entry["kind"] not in ("train", OUTPUT)
    ]
