"""Two hosts train one network: two real processes that reach each other over this machine's network."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
# 180 steps, some seconds of them between two evaluations; both have an odd share of the images.
RECIPE = ("--train_epochs=60", "--epochs_per_eval=20")
PATIENCE = 300  # seconds, of which a slow machine needs some to start TensorFlow twice


def free_ports(count):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


class TwoHosts:
    """The processes of a run, host 0 being the chief, and what they have said."""

    def __init__(self, directory, *arguments, others_arguments=(), variables=None):
        """variables: the environment of a host by its index, in place of a TF_CONFIG."""
        self.logs = [directory / f"host{index}.txt" for index in (0, 1)]
        workers = [f"localhost:{port}" for port in free_ports(2)]
        self.processes = []
        for index, more in ((0, ()), (1, others_arguments)):
            task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            own = variables(index) if variables else {"TF_CONFIG": json.dumps(task)}
            with open(self.logs[index], "w") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "main.py", *arguments, *more],
                        cwd=ROOT,
                        env={**os.environ, **own},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in self.processes:
            process.kill()
            process.wait()

    def said(self, index):
        return self.logs[index].read_text()

    def statuses(self, patience=PATIENCE):
        """Exit statuses, when both have ended."""
        deadline = time.monotonic() + patience
        return [process.wait(max(0.0, deadline - time.monotonic())) for process in self.processes]

    def wait_for_evaluation(self, model_dir):
        """Until the first one is reported and then saved."""
        deadline = time.monotonic() + PATIENCE
        while not (model_dir / "checkpoints" / "ckpt-60.index").exists():
            ended = [process.poll() for process in self.processes]
            assert ended == [None, None], self.said(0) + self.said(1)
            assert time.monotonic() < deadline, self.said(0) + self.said(1)
            time.sleep(0.02)


@pytest.fixture(scope="module")
def arguments(shapes, tiny_recipe):
    return (*tiny_recipe, f"--data_dir={shapes}", *RECIPE)


def newest(tf, model_dir):
    """Name -> value of everything in the last checkpoint."""
    reader = tf.train.load_checkpoint(str(model_dir / "checkpoints" / "ckpt-180"))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_CHECKPOINTABLE")]
    return {name: reader.get_tensor(name) for name in names}


def evaluations(model_dir):
    entries = [json.loads(line) for line in (model_dir / "log.jsonl").read_text().splitlines()]
    timeless = [{name: value for name, value in entry.items() if name != "time"} for entry in entries]
    return [entry for entry in timeless if entry["kind"] == "validation"]


@pytest.fixture(scope="module")
def uninterrupted(arguments, tmp_path_factory):
    """model_dir of a run of two hosts, and what each has said."""
    directory = tmp_path_factory.mktemp("two_hosts")
    with TwoHosts(directory, *arguments, f"--model_dir={directory}/run") as hosts:
        assert hosts.statuses() == [0, 0], hosts.said(0) + hosts.said(1)
    return directory / "run", hosts.said(0), hosts.said(1)


@pytest.mark.slow
def test_two_hosts_train_and_the_chief_reports(uninterrupted):
    model_dir, chief, other = uninterrupted
    assert "180 steps of 14 images on 2 x CPU on 2 hosts" in chief
    assert re.search("^finished: ", chief, re.M)
    assert re.fullmatch(r"host 1 of 2 \(localhost:\d+\): waiting for the others\n", other)
    assert [entry["step"] for entry in evaluations(model_dir)] == [60, 120, 180]
    assert evaluations(model_dir)[-1]["top_1_accuracy"] >= 0.6  # guessing: a third
    assert {entry["num_images"] for entry in evaluations(model_dir)} == {15}  # each once, of 8 and 7
    assert len(json.loads((model_dir / "run.json").read_text())["starts"]) == 1
    assert len(list((model_dir / "tensorboard" / "train").iterdir())) == 1
    assert {path.name for path in (model_dir / "checkpoints").glob("*.index")} == {
        f"ckpt-{step}.index" for step in (60, 120, 180)
    }
    assert not [path for path in model_dir.rglob("*") if "temp" in path.name or "tmp" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0], ids=["a worker", "the chief"])
def test_a_killed_host_ends_the_other_and_both_finish_as_if_nothing_had_been(
    tf, uninterrupted, arguments, tmp_path, victim
):
    model_dir = tmp_path / "run"
    with TwoHosts(tmp_path, *arguments, f"--model_dir={model_dir}") as hosts:
        hosts.wait_for_evaluation(model_dir)
        hosts.processes[victim].kill()
        killed = time.monotonic()
        statuses = hosts.statuses(patience=120)
        print(f"the other host ended {time.monotonic() - killed:.1f} s after host {victim} was killed")
        assert statuses[victim] == -signal.SIGKILL
        assert statuses[1 - victim] == 42
        last = hosts.said(1 - victim).splitlines()[-1]
    assert last.startswith(f"host {1 - victim} of TF_CONFIG: another host is gone (")
    assert last.endswith("Start all of them again by the same command: the run continues from its last checkpoint.")
    assert not (model_dir / "checkpoints" / "ckpt-180.index").exists()
    with TwoHosts(tmp_path, *arguments, f"--model_dir={model_dir}") as hosts:
        assert hosts.statuses() == [0, 0], hosts.said(0) + hosts.said(1)
        assert re.search(r"^continuing from step (60|120)$", hosts.said(0), re.M), hosts.said(0)
    expected, found = newest(tf, uninterrupted[0]), newest(tf, model_dir)
    assert len(expected) > 300
    assert expected.keys() == found.keys()
    assert [name for name, value in expected.items() if not np.array_equal(value, found[name])] == []
    assert evaluations(model_dir) == evaluations(uninterrupted[0])
    assert len(json.loads((model_dir / "run.json").read_text())["starts"]) == 2


@pytest.mark.slow
def test_a_host_that_is_told_to_stop_stops_both_with_everything_saved(arguments, tmp_path):
    model_dir = tmp_path / "run"
    with TwoHosts(tmp_path, *arguments, f"--model_dir={model_dir}") as hosts:
        hosts.wait_for_evaluation(model_dir)
        hosts.processes[1].terminate()
        assert hosts.statuses() == [42, 42], hosts.said(0) + hosts.said(1)
        said = [hosts.said(index).splitlines() for index in (0, 1)]
    step = max(int(path.stem.partition("-")[2]) for path in (model_dir / "checkpoints").glob("*.index"))
    saved = f"step {step} is saved in {model_dir}; the same command goes on from there"
    assert f"stopped with another host: {saved}" in said[0]
    assert f"stopped by SIGTERM: {saved}" in said[1]


@pytest.mark.slow
def test_a_host_with_other_flags_is_refused(arguments, tmp_path):
    with TwoHosts(tmp_path, *arguments, f"--model_dir={tmp_path}/run", others_arguments=["--seed=1"]) as hosts:
        assert hosts.statuses() == [42, 2], hosts.said(0) + hosts.said(1)
        message = "error: host 1 of TF_CONFIG: the flags are not the same as on the chief, host 0."
        assert hosts.said(1).splitlines()[-1] == message


@pytest.mark.slow
def test_hosts_that_do_not_share_the_directory_are_refused(arguments, uninterrupted, tmp_path):
    shared = f"--model_dir={uninterrupted[0]}"
    own = f"--model_dir={tmp_path}/own"
    with TwoHosts(tmp_path, *arguments, shared, others_arguments=[own]) as hosts:
        assert hosts.statuses() == [42, 2], hosts.said(0) + hosts.said(1)
        assert f"{own}: the checkpoints are not the same as on the chief" in hosts.said(1)


@pytest.mark.slow
def test_two_hosts_evaluate(arguments, uninterrupted, tmp_path):
    with TwoHosts(tmp_path, "evaluate", f"--model_dir={uninterrupted[0]}") as hosts:
        assert hosts.statuses() == [0, 0], hosts.said(0) + hosts.said(1)
        last = evaluations(uninterrupted[0])[-1]
        assert f"validation: top-1 {last['top_1_accuracy']:.2%}" in hosts.said(0)
        assert "15 of 57 images" in hosts.said(0)
        assert "validation" not in hosts.said(1)


@pytest.mark.slow
def test_two_tasks_of_slurm_train_one_network(shapes, tiny_recipe, tmp_path):
    """By the variables that srun sets for them, on one node; no TF_CONFIG."""
    variables = {
        "SLURM_JOB_ID": str(free_ports(1)[0]), "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0",
    }  # fmt: skip
    arguments = (*tiny_recipe, f"--data_dir={shapes}", f"--model_dir={tmp_path}/run", "--train_epochs=2")
    with TwoHosts(tmp_path, *arguments, variables=lambda index: variables | {"SLURM_LOCALID": str(index)}) as hosts:
        assert hosts.statuses() == [0, 0], hosts.said(0) + hosts.said(1)
        assert "images on 2 x CPU on 2 hosts" in hosts.said(0)
        assert hosts.said(1).startswith("host 1 of 2 (localhost:")
