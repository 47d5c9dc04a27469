"""The processes of trials: forked ones compute what fresh ones do, and leave nothing behind."""

import json
import subprocess
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu.run import subprocess_training
from efficientnet_tpu.run.checkpoint_names import newest
from tests.support import stand_in_training

pytestmark = pytest.mark.slow


@pytest.fixture
def trial_process(tf):
    from efficientnet_tpu.studies import trial_process

    return trial_process


def call(trial_process, function, *arguments, output):
    process = trial_process.start(function, *arguments, output=str(output))
    while not process.wait(1.0):
        pass
    return process.returned()


def test_a_forked_training_is_a_fresh_one_to_the_bit(tf, trial_process, tmp_path):
    options = {"dataset": "sample", "model": "efficientnet-nano", "resolution": 16, "train_batch_size": 64}
    options |= {"train_epochs": 0.1, "lr_warmup_epochs": 0.0, "intra_op_threads": 1, "augment": "autoaugment"}
    fresh = tmp_path / "fresh"
    command = subprocess_training.command(options | {"model_dir": str(fresh)})
    subprocess.run(command, env=subprocess_training.environment(), check=True, capture_output=True)
    for name in ("first", "second"):  # the second is forked from a server that has forked before
        forked = tmp_path / name
        arguments = options | {"model_dir": str(forked)}
        status, cpu_seconds = call(
            trial_process, trial_process.train_by_flags, arguments, output=tmp_path / f"{name}.txt"
        )
        assert status == 0
        assert cpu_seconds > 1
        assert evaluations(forked) == evaluations(fresh)
        assert weights(tf, forked) == weights(tf, fresh)


def evaluations(model_dir):
    entries = [json.loads(line) for line in (model_dir / "log.jsonl").read_text().splitlines()]
    return [(entry["loss"], entry["top_1_accuracy"]) for entry in entries if entry["kind"] == "validation"]


def weights(tf, model_dir):
    reader = tf.train.load_checkpoint(newest(str(model_dir)))
    names = sorted(name for name in reader.get_variable_to_shape_map() if name.startswith(("model", "average")))
    assert len(names) > 50
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in names}


def test_the_server_stays_as_small_as_it_was(trial_process, tmp_path):
    def resident():
        return int(Path(f"/proc/{forkserver._forkserver._forkserver_pid}/statm").read_text().split()[1]) * 4096

    first = call(trial_process, stand_in_training.peak_memory, output=tmp_path / "out")
    before = resident()
    for _ in range(200):
        last = call(trial_process, stand_in_training.peak_memory, output=tmp_path / "out")
    assert resident() - before < 2e6
    assert last - first < 20e6


def test_what_is_printed_goes_to_the_end_of_a_file(trial_process, tmp_path):
    output = tmp_path / "out"
    output.write_text("before\n")
    assert call(trial_process, stand_in_training.fails, {}, output=output) == (2, 0.0)
    assert output.read_text() == "before\nno such file\n"
