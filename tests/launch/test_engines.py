"""What `launch --print --on=ENGINE` prints for GKE, SkyPilot, Slurm and Vertex, and what is refused."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from efficientnet_tpu import cli
from efficientnet_tpu.config.cloud import LaunchConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.hardware.preemption import PREEMPTED
from efficientnet_tpu.launch import gke
from efficientnet_tpu.launch.engines import ENGINES
from efficientnet_tpu.launch.gpus import GPUS, Gpus, parse_gpus

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parents[1] / "golden" / "engines"
DATA = ("--print", "--data_dir=gs://photos/imagenet", "--model_dir=gs://photos/runs/b0")
IMAGE = "--image=europe-docker.pkg.dev/photos/images/efficientnet:tpu"
PLACE = ("--tpu_zone=us-west4-a", "--gcp_project=photos")
CASES = {
    "gke_v5e_spot.yaml": ("--on=gke", IMAGE, "--tpu_type=v5e-8", "--spot", *PLACE, "--service_account=trainer"),
    "gke_v5e_slice.yaml": ("--on=gke", IMAGE, "--tpu_type=v5e-16", "--max_hours=12", "--vm_labels=team=vision"),
    "gke_a100.yaml": ("--on=gke", IMAGE, "--gpus=A100:4", "--reservation=ours"),
    "skypilot_v5e_spot.yaml": ("--on=skypilot", "--tpu_type=v5e-8", "--spot", *PLACE),
    "skypilot_l4.yaml": ("--on=skypilot", "--gpus=L4:8", "--vm_labels=team=vision"),
    "slurm_2_hosts.sh": ("--on=slurm", "--gpus=A100:4", "--num_hosts=2", "--partition=gpu", "--max_hours=12.5"),
    "slurm_cpu.sh": ("--on=slurm",),
    "vertex_v5e.yaml": ("--on=vertex", IMAGE, "--tpu_type=v5e-8", *PLACE, "--max_hours=9"),
    "vertex_v3.yaml": ("--on=vertex", IMAGE, "--tpu_type=v3-8", *PLACE, "--spot"),
    "vertex_2_hosts.yaml": ("--on=vertex", IMAGE, "--gpus=A100:8", "--num_hosts=3", *PLACE),
}


def printed(capsys, *flags):
    cli.main(["main.py", "launch", *DATA, *flags])
    return capsys.readouterr().out


@pytest.mark.parametrize("name", CASES)
def test_they_are_what_was_read_and_found_right(capsys, monkeypatch, name):
    """After a change: `PYTHONPATH=. python tests/launch/test_engines.py`, and read the difference."""
    monkeypatch.setattr(tensorflow_startup, "import_tensorflow", lambda: pytest.fail("started TensorFlow"))
    assert printed(capsys, *CASES[name]) == (GOLDEN / name).read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--on=kubernetes"], "--on=kubernetes: must be one of tpu-vm, gke, skypilot, slurm, vertex."),
        (["--on=gke", "--noprint"], "launch: add --print."),
        (["--on=gke", IMAGE], "--on=gke: name the accelerator, by --tpu_type=v5e-8 or --gpus=A100:4."),
        (["--on=gke", "--tpu_type=v5e-8"], "--image is missing."),
        (["--on=gke", IMAGE, "--tpu_type=v3-8"], "--tpu_type=v3-8: --on=gke has v4, v5e, v5p, v6e; for v3 take"),
        (["--on=gke", IMAGE, "--tpu_type=v9-8"], "--tpu_type=v9-8: no such TPU."),
        (["--on=gke", IMAGE, "--tpu_type=v5e-8", "--gpus=L4"], "--gpus=L4 --tpu_type=v5e-8: exclude each other."),
        (["--on=gke", IMAGE, "--gpus=B300:8"], "--gpus=B300:8: no such GPU. There are T4, V100, L4, A100, "),
        (["--on=gke", IMAGE, "--gpus=A100:x"], "--gpus=A100:x: must be a kind and a number, as A100:4."),
        (["--on=gke", IMAGE, "--tpu_type=v5e-8", f"--tpu_name={'a' * 50}"], f"--tpu_name={'a' * 50}: is longer"),
        (["--on=gke", IMAGE, "--tpu_type=v5e-8", "--data_disk=d"], "--data_disk: --on=gke has no use for it; tpu-vm"),
        (["--on=gke", "--image=a b", "--tpu_type=v5e-8"], "--image=a b: is no such name as us-docker.pkg.dev"),
        (["--on=gke", IMAGE, "--gpus=L4", "--vm_labels=Team=x"], "--vm_labels=Team=x: must be such as team=vision"),
        (["--on=gke", IMAGE, "--tpu_type=v5e-8", "--data_dir=/data"], "--data_dir=/data: must be gs://BUCKET/..."),
        (["--on=skypilot", "--tpu_type=v5e-16"], "--tpu_type=v5e-16: is a slice of several hosts, which --on=skypilot"),
        (["--on=skypilot", "--gpus=L4", IMAGE], "--image: --on=skypilot has no use for it; gke, vertex have one."),
        (["--on=slurm", "--tpu_type=v5e-8"], "--tpu_type: --on=slurm has no use for it; tpu-vm, gke, skypilot, vertex"),
        (["--on=slurm", "--tpu_zone=us-west4-a"], "--tpu_zone: --on=slurm has no use for it; "),
        (["--on=slurm", "--partition=gpu; rm -rf /"], "--partition=gpu; rm -rf /: is no such name as gpu."),
        (["--on=slurm", "--num_hosts=2", "--model_dir=/tmp/b0"], "--model_dir=/tmp/b0: is each host's own."),
        (["--on=vertex", IMAGE, "--tpu_type=v6e-8", *PLACE], "--tpu_type=v6e-8: Vertex AI does not support TensorFlow"),
        (["--on=vertex", IMAGE, "--tpu_type=v4-8", *PLACE], "--tpu_type=v4-8: Vertex AI has no v4. Take v2, v3 or v5e"),
        (["--on=vertex", IMAGE, "--tpu_type=v3-32", *PLACE], "--tpu_type=v3-32: --on=vertex starts no slice"),
        (["--on=vertex", IMAGE, "--gpus=H100:1", *PLACE], "--gpus=H100:1: --on=vertex has machines with 8 of H100."),
        (["--on=vertex", IMAGE, "--tpu_type=v5e-8"], "--tpu_zone is missing."),
        (["--on=vertex", IMAGE, "--gpus=L4", "--model_dir=gs://b/$(id)", *PLACE], "--model_dir=gs://b/$(id): --on="),
        (["--image=repo/image", "--tpu_type=v5e-8", *PLACE], "--image: --on=tpu-vm has no use for it; gke, vertex"),
    ],
)  # fmt: skip
def test_what_an_engine_does_not_have_is_refused_in_one_line(capsys, flags, message):
    with pytest.raises(UserError) as error:
        printed(capsys, *flags)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sign", ["\n", "\x1b", "\u2028"])
@pytest.mark.parametrize("name", ["gke_a100.yaml", "skypilot_l4.yaml", "slurm_cpu.sh", "vertex_v5e.yaml"])
def test_ends_of_lines_are_refused(capsys, name, sign):
    with pytest.raises(UserError, match=r"--model_dir=.*takes no line's end"):
        printed(capsys, *CASES[name], f"--model_dir=gs://photos/a{sign}b")


HOSTILE = "gs://photos/$(touch PWNED)`touch PWNED`'\"; touch PWNED; # $HOME $$ {a: b} - & * ! %"


def test_no_value_is_anything_else_in_yaml_or_to_kubernetes(capsys):
    content = yaml.safe_load(printed(capsys, *CASES["gke_a100.yaml"], f"--model_dir={HOSTILE}"))
    [container] = pod(content)["containers"]
    assert f"--model_dir={HOSTILE}" in [expanded(argument) for argument in container["args"]]


def expanded(argument):
    """What Kubernetes makes of an argument where no variable is defined: $$ is $, and $(NAME) stays."""
    assert not re.search(r"(?<!\$)(\$\$)*\$\(", argument)
    return argument.replace("$$", "$")


@pytest.mark.parametrize("name", ["skypilot_l4.yaml", "slurm_cpu.sh"])
def test_no_value_is_run_by_a_shell(capsys, tmp_path, name):
    text = printed(capsys, *CASES[name], f"--model_dir={HOSTILE}")
    script = yaml.safe_load(text)["run"] if name.endswith("yaml") else text
    [line] = [line for line in script.splitlines() if "main.py" in line and not line.startswith("#")]
    command = line.partition("main.py ")[2]
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {command}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"--model_dir={HOSTILE}" in done.stdout.splitlines()
    assert list(tmp_path.iterdir()) == []


def pod(content):
    [job] = content["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


def test_a_job_set_starts_anew_on_the_status_of_a_stop_alone():
    content = yaml.safe_load((GOLDEN / "gke_v5e_spot.yaml").read_text())
    [job] = content["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    disruption, status = spec["podFailurePolicy"]["rules"]
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert status["action"] == "FailJob"
    assert status["onExitCodes"]["operator"] == "NotIn"
    assert status["onExitCodes"]["values"] == [PREEMPTED]
    assert spec["backoffLimit"] == 0
    [rule] = content["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], "PodFailurePolicy" in rule["onJobFailureReasons"]) == ("FailJobSet", True)
    assert pod(content)["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "2x4"


@pytest.mark.parametrize(
    ("tpu_type", "topology", "hosts", "chips"),
    [
        ("v4-8", "2x2x1", 1, 4), ("v4-32", "2x2x4", 4, 4), ("v5e-4", "2x2", 1, 4), ("v5e-256", "16x16", 64, 4),
        ("v5p-16", "2x2x2", 2, 4), ("v6e-8", "2x4", 1, 8),
    ],
)  # fmt: skip
def test_the_pods_of_a_tpu(capsys, tpu_type, topology, hosts, chips):
    """Topologies and chips of a machine: GKE's page "Plan TPUs"."""
    flags = ("--on=gke", IMAGE, f"--tpu_type={tpu_type}", "--nomemory_check")
    content = yaml.safe_load(printed(capsys, *flags))
    [job] = content["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["parallelism"] == hosts
    assert pod(content)["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == topology
    assert pod(content)["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}


def test_the_hosts_of_a_slice_serve_and_the_first_trains():
    container = pod(yaml.safe_load((GOLDEN / "gke_v5e_slice.yaml").read_text()))["containers"][0]
    script = expanded(container["args"][0])
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    addresses = ",".join(f"efficientnet-worker-0-{index}.efficientnet:8470" for index in range(4))
    assert f"--tpu=grpc://{addresses} " in script
    assert script.count(addresses) == 2
    assert f"exit {PREEMPTED}" in script


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith(".sh")])
def test_a_batch_script_is_queued_again_on_the_status_of_a_stop_alone(tmp_path, name):
    for command, content in {"srun": "exit ${STATUS}", "scontrol": 'echo "$@"'}.items():
        (tmp_path / command).write_text(f"#!/bin/sh\n{content}\n")
        (tmp_path / command).chmod(0o755)
    for status, restarts, output in ((0, 0, ""), (2, 0, ""), (PREEMPTED, 0, "requeue 7\n"), (PREEMPTED, 100, "")):
        environment = {
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "STATUS": str(status),
            "SLURM_JOB_ID": "7",
            "SLURM_RESTART_COUNT": str(restarts),
        }
        done = subprocess.run(
            ["bash", GOLDEN / name], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (status, output, "")


def test_xpk_gets_the_same_training():
    head = (GOLDEN / "gke_v5e_spot.yaml").read_text().partition("\napiVersion")[0]
    [line] = [line for line in head.splitlines() if "xpk workload create" in line]
    words = shlex.split(line.partition(": ")[2])
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in words[3:])
    assert (flags["tpu-type"], flags["docker-image"]) == ("v5litepod-8", IMAGE.partition("=")[2])
    assert shlex.split(flags["command"])[:3] == ["python", "main.py", "--tpu=local"]
    assert "--data_dir=gs://photos/imagenet" in shlex.split(flags["command"])


def test_every_flag_of_the_section_has_an_engine():
    taken = {flag for engine in ENGINES.values() for flag in engine.flags}
    assert taken | {"print", "on", "tpu_name"} == set(LaunchConfig.__dataclass_fields__)


def test_gpus():
    assert parse_gpus("a100-80gb:8") == Gpus("A100-80GB", 8)
    assert parse_gpus("L4") == Gpus("L4", 1)
    assert all(names.machines for names in GPUS.values())


def test_a_dollar_sign_is_doubled_for_kubernetes():
    assert gke.literal(["a$b", "$(c)", "$$"]) == ["a$$b", "$$(c)", "$$$$"]


def test_manifests_keep_to_their_schemas():
    """That of the Job by kubernetes-validate, that of the JobSet by kubeflow-trainer-api; where they are installed."""
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="checks a JobSet by Kubernetes' schemas: pip install kubernetes-validate"
    )
    models = pytest.importorskip(
        "kubeflow_trainer_api.models", reason="has the JobSet: pip install kubeflow-trainer-api"
    )
    for path in GOLDEN.glob("gke_*.yaml"):
        content = yaml.safe_load(path.read_text())
        model = models.JobsetV1alpha2JobSet.from_dict(content)
        written = json.loads(model.to_json())
        assert written["spec"] == content["spec"]  # no field that a JobSet does not have
        [job] = content["spec"]["replicatedJobs"]
        batch_job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, **job["template"]}
        kubernetes_validate.validate(batch_job, "1.33", strict=True)


def test_a_task_keeps_to_the_schema_of_skypilot():
    schemas = pytest.importorskip("sky.utils.schemas", reason="checks a task: pip install skypilot")
    jsonschema = pytest.importorskip("jsonschema", reason="comes with skypilot")
    for path in GOLDEN.glob("skypilot_*.yaml"):
        content = yaml.safe_load(path.read_text())
        jsonschema.validate(content, schemas.get_task_schema())
        jsonschema.validate(content["resources"], schemas.get_resources_schema())


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for file, more in CASES.items():
        command = [sys.executable, "main.py", "launch", *DATA, *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        (GOLDEN / file).write_bytes(done.stdout)
