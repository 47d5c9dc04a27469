"""TF_CONFIG is understood, or refused before TensorFlow could wait for a host that does not exist."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.hardware.tf_config import ONE_HOST, read_tf_config

ROOT = Path(__file__).parents[2]
TWO = ["ada:2222", "bob:2222"]


def hosts(cluster, task):
    return read_tf_config({"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})})


def test_one_host_is_the_rule():
    assert read_tf_config({}) == read_tf_config({"TF_CONFIG": " "}) == read_tf_config({"TF_CONFIG": "{}"}) == ONE_HOST
    # As some platforms set it for a single machine.
    assert hosts({"chief": ["ada:2222"]}, {"type": "chief", "index": 0}) == ONE_HOST
    assert ONE_HOST.count == 1


def test_the_first_worker_is_the_chief():
    found = [hosts({"worker": TWO}, {"type": "worker", "index": index}) for index in (0, 1)]
    assert [one.index for one in found] == [0, 1]
    assert all(one.addresses == ("ada:2222", "bob:2222") and one.count == 2 for one in found)


def test_a_chief_of_its_own_comes_before_the_workers():
    cluster = {"worker": TWO, "chief": ["eve:2222"]}
    assert hosts(cluster, {"type": "chief", "index": 0}).index == 0
    found = hosts(cluster, {"type": "worker", "index": "1"})  # as some write it
    assert (found.index, found.addresses) == (2, ("eve:2222", "ada:2222", "bob:2222"))


def test_ipv6_addresses():
    assert hosts({"worker": ["[fe80::1]:2222", "10.0.0.2:1"]}, {"type": "worker", "index": 0}).count == 2


FIRST = {"type": "worker", "index": 0}


@pytest.mark.parametrize(
    ("cluster", "task", "message"),
    [
        ({"worker": []}, FIRST, "cluster.worker is not a list of addresses"),
        ({"worker": "ada:2222"}, FIRST, "cluster.worker is not a list of addresses"),
        ({"worker": ["ada"]}, FIRST, "cluster.worker: 'ada' is not host:port"),
        ({"worker": ["ada:0", "bob:1"]}, FIRST, "cluster.worker: 'ada:0' is not host:port"),
        ({"worker": ["ada:65536"]}, FIRST, "cluster.worker: 'ada:65536' is not host:port"),
        ({"worker": ["http://ada:22"]}, FIRST, "cluster.worker: 'http://ada:22' is not host:port"),
        ({"worker": [2222]}, FIRST, "cluster.worker: 2222 is not host:port"),
        ({"worker": ["ada:1", "ada:1"]}, FIRST, "ada:1 is there twice"),
        ({"worker": TWO, "ps": ["eve:1"]}, FIRST, "the job 'ps' has no part here: every host trains, as chief"),
        ({"worker": TWO, "chief": ["eve:1", "flo:1"]}, FIRST, "there must be one chief"),
        ({"worker": TWO}, None, "it does not say which host this is: task.type and task.index"),
        ({"worker": TWO}, {"type": "worker"}, "it does not say which host this is: task.type and task.index"),
        ({"worker": TWO}, {"type": "chief", "index": 0}, "task.type is 'chief', and the cluster has worker"),
        ({"worker": TWO}, {"type": "worker", "index": 2}, "task.index is 2, and the cluster has 2 workers: 0 to 1"),
        ({"worker": TWO}, {"type": "worker", "index": -1}, "task.index is -1, and the cluster has 2 workers: 0 to 1"),
        ({"worker": ["ada:1"]}, {"type": "worker", "index": 1}, "task.index is 1, and the cluster has 1 worker: 0"),
    ],
)
def test_what_is_wrong_is_said(cluster, task, message):
    with pytest.raises(UserError) as error:
        hosts(cluster, task)
    assert str(error.value).startswith(f"TF_CONFIG: {message}")
    assert '"index": 0' in str(error.value)  # an example


@pytest.mark.parametrize(
    ("text", "message"), [("worker=ada", "not JSON"), ("[1]", "not an object"), ('{"cluster": 3}', "not an object")]
)
def test_what_is_not_even_an_object(text, message):
    with pytest.raises(UserError, match=f"^TF_CONFIG: {message}"):
        read_tf_config({"TF_CONFIG": text})


def test_the_program_refuses_it_before_tensorflow_starts(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "worker=ada")
    monkeypatch.setattr(tensorflow_startup, "import_tensorflow", lambda: pytest.fail("started TensorFlow"))
    with pytest.raises(UserError, match=r"^TF_CONFIG: not JSON"):
        cli.main(["main.py", "--model_dir=unused"])


def test_the_error_is_one_line_and_status_2():
    done = subprocess.run(
        [sys.executable, "main.py", "--model_dir=unused"],
        cwd=ROOT, env={"TF_CONFIG": "{"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: TF_CONFIG: not JSON")
    assert done.stderr.count("\n") == 1


def slurm(**changes):
    """What srun sets for task 3 of five on three nodes; None takes a variable away."""
    variables = {
        "SLURM_JOB_ID": "1234567", "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_NODELIST": "gpu[01-02],login1",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1", "SLURM_NODEID": "1", "SLURM_LOCALID": "1",
    } | changes  # fmt: skip
    return {name: value for name, value in variables.items() if value is not None}


def test_the_hosts_of_a_step_of_slurm():
    found = read_tf_config(slurm())
    port = 20_000 + 1234567 % 12_000
    assert found.addresses == (
        f"gpu01:{port}", f"gpu01:{port + 1}", f"gpu02:{port}", f"gpu02:{port + 1}", f"login1:{port}",
    )  # fmt: skip
    assert found.index == 3
    assert read_tf_config({"TF_CONFIG": found.as_json()}) == found


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "7", "SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_PROCID": "0"},  # the batch script's own
        slurm(SLURM_STEP_NUM_TASKS="1"),
        slurm(SLURM_STEP_NUM_TASKS="1", SLURM_STEP_NODELIST=None),
        slurm(TF_CONFIG="{}"),
    ],
)
def test_one_host_under_slurm(environment):
    assert read_tf_config(environment) is ONE_HOST


@pytest.mark.parametrize(
    ("nodelist", "hosts"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,12].site", ["n08.site", "n09.site", "n10.site", "n12.site"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
    ],
)
def test_lists_of_nodes(nodelist, hosts):
    tasks = len(hosts)
    if tasks == 1:
        environment = slurm(SLURM_STEP_NUM_TASKS="2", SLURM_STEP_TASKS_PER_NODE="2", SLURM_NODEID="0")
    else:
        environment = slurm(
            SLURM_STEP_NUM_TASKS=str(tasks), SLURM_STEP_TASKS_PER_NODE=f"1(x{tasks})", SLURM_LOCALID="0"
        )
    found = read_tf_config(environment | {"SLURM_STEP_NODELIST": nodelist})
    assert list(dict.fromkeys(address.partition(":")[0] for address in found.addresses)) == hosts


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SLURM_STEP_NODELIST": None}, "SLURM_STEP_NODELIST is missing, and SLURM_STEP_NUM_TASKS=5 is set"),
        ({"SLURM_STEP_NUM_TASKS": None}, "SLURM_STEP_NUM_TASKS is missing, and SLURM_STEP_NODELIST="),
        ({"SLURM_NODEID": None}, "SLURM_NODEID is missing"),
        ({"SLURM_LOCALID": ""}, "SLURM_LOCALID is missing"),
        ({"SLURM_STEP_NUM_TASKS": "6"}, "5 tasks on 3, and SLURM_STEP_NUM_TASKS=6"),
        ({"SLURM_STEP_NODELIST": "gpu[01-"}, "SLURM_STEP_NODELIST"),
        ({"SLURM_STEP_NODELIST": "gpu[x-y]"}, "[x-y] is no range"),
        ({"SLURM_STEP_NODELIST": "a b"}, "SLURM_STEP_NODELIST=a b: is no list of nodes"),
        ({"SLURM_STEP_NODELIST": "n[1-999999999]"}, "nodes"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x"}, "SLURM_STEP_TASKS_PER_NODE=2(x: is no such list as 2(x3),1"),
        ({"SLURM_NODEID": "3"}, "SLURM_NODEID=3 SLURM_LOCALID=1: there is no such task"),
        ({"SLURM_LOCALID": "2"}, "SLURM_NODEID=1 SLURM_LOCALID=2: there is no such task"),
    ],
)
def test_variables_of_slurm_that_are_half_set_or_wrong(changes, words):
    with pytest.raises(UserError) as error:
        read_tf_config(slurm(**changes))
    assert str(error.value).startswith("Slurm: ")
    assert words in str(error.value)
    assert "TF_CONFIG={} in the environment trains alone" in str(error.value)
    assert "\n" not in str(error.value)
