"""The script that `launch --print` prints: what it says for every TPU, and what is refused. test_script.py runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup, tpu_specs
from efficientnet_tpu.launch import launch

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parents[1] / "golden"
FLAGS = (
    "--print", "--tpu_type=v5e-8", "--tpu_zone=us-west4-a", "--gcp_project=photos",
    "--data_dir=gs://photos/imagenet", "--model_dir=gs://photos/runs/b0",
)  # fmt: skip


def printed(capsys, *flags):
    cli.main(["main.py", "launch", *FLAGS, *flags])
    return capsys.readouterr().out


# In ascending order of accelerator_type. Sizes, hosts and images as of docs.cloud.google.com/tpu/docs.
@pytest.mark.parametrize(
    ("tpu_type", "accelerator_type", "image", "num_hosts"),
    [
        ("v2-8", "v2-8", "tpu-ubuntu2204-base", 1),
        ("v3-8", "v3-8", "tpu-ubuntu2204-base", 1),
        ("v3-32", "v3-32", "tpu-ubuntu2204-base", 4),
        ("v4-8", "v4-8", "tpu-ubuntu2204-base", 1),
        ("v4-32", "v4-32", "tpu-ubuntu2204-base", 4),
        ("v5e-1", "v5litepod-1", "v2-alpha-tpuv5-lite", 1),
        ("v5e-8", "v5litepod-8", "v2-alpha-tpuv5-lite", 1),
        ("V5LITEPOD-8", "v5litepod-8", "v2-alpha-tpuv5-lite", 1),
        ("v5litepod-16", "v5litepod-16", "v2-alpha-tpuv5-lite", 4),
        ("v5p-8", "v5p-8", "v2-alpha-tpuv5", 1),
        ("v5p-16", "v5p-16", "v2-alpha-tpuv5", 2),
        ("v6e-8", "v6e-8", "v2-alpha-tpuv6e", 1),
        ("v6e-256", "v6e-256", "v2-alpha-tpuv6e", 64),
    ],
)
def test_tpus(tpu_type, accelerator_type, image, num_hosts):
    assert tpu_specs.parse_tpu_type(tpu_type) == tpu_specs.Tpu(accelerator_type, image, num_hosts)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--tpu_type=v7-8"],
            "--tpu_type=v7-8: no such TPU. There are v2, v3, v4, v5e, v5p, v6e, with",
        ),
        (
            ["--tpu_type=tpu7x-8"],
            "--tpu_type=tpu7x-8: TensorFlow cannot drive a TPU7x: Google supports JAX and PyTorch",
        ),
        (["--tpu_type=v5e"], "--tpu_type=v5e: no such size. There are v5e-1, v5e-4, v5e-8, v5e-16, "),
        (["--tpu_type=v2-16"], "--tpu_type=v2-16: no such size. There are v2-8, v2-32, "),
        (["--tpu_type=v4-8x"], "--tpu_type=v4-8x: no such size."),
        (["--noprint"], "launch: add --print."),
        (["--tpu=local"], "--tpu=local: launch makes a TPU and says --tpu itself."),
        (["--tpu_name=B0"], "--tpu_name=B0: is no such name as efficientnet-b0."),
        (["--tpu_zone=us-west4"], "--tpu_zone=us-west4: is no such name as us-west4-a."),
        (["--gcp_project=my photos"], "--gcp_project=my photos: is no such name as my-project."),
        (["--model_dir=runs/b0"], "--model_dir=runs/b0: must be gs://BUCKET/..."),
        (["--data_dir=/data"], "--data_dir=/data: must be gs://BUCKET/...: the TPU VM does not see this machine."),
        (["--data_dir="], "--data_dir is missing: gs://BUCKET/..."),
        (["--init_from=/runs/b0"], "--init_from=/runs/b0: must be gs://BUCKET/..."),
        (["--data_dir=", "--dataset=tfds:imagenet2012"], "--data_dir is missing: gs://BUCKET/..."),
        (["--tpu_zone="], "--tpu_zone is missing."),
        (["--train_batch_size=0"], "--train_batch_size=0: must be at least 1."),
        (["--flagfile=efficientnet-b4", FLAGS[4], FLAGS[5]], "--train_batch_size=4096: does not fit: a core of v5e-8 "),
        (["--spot", "--flex_start"], "--spot --flex_start: exclude each other"),
        (["--flex_start", "--noqueued"], "--flex_start: gcloud has it for queued resources alone."),
        (["--flex_start"], "--flex_start: needs --max_hours, at most 168"),
        (["--reservation=mine", "--noqueued"], "--reservation: gcloud has it for queued resources alone."),
        (["--max_cost=50"], "--max_cost=50: needs --price_per_chip_hour"),
        (["--max_cost=50", "--price_per_chip_hour=v6e=2"], "--max_cost=50: needs --price_per_chip_hour"),
        (
            ["--data_dir=gs://b/train.tar,gs://b/val.tar"],
            "--data_dir=gs://b/train.tar,gs://b/val.tar: archives are read",
        ),
        (["--max_cost=50", "--price_per_chip_hour=cheap"], "--price_per_chip_hour=cheap: must be a price"),
    ],
)
def test_what_would_fail_over_there_is_refused_here(capsys, flags, message):
    with pytest.raises(UserError) as error:
        printed(capsys, *flags)
    assert str(error.value).startswith(message)


def test_every_bucket_is_looked_at(capsys):
    text = printed(capsys, "--data_dir=gs://one/a,gs://two/b", "--init_from=gs://three/b0")
    assert "\nBUCKETS=(gs://one gs://two gs://photos gs://three)\n" in text


def test_made_up_images_need_no_directory(capsys):
    assert "--dataset=fake" in printed(capsys, "--data_dir=", "--dataset=fake")


SCRIPTS = {
    "launch_v5e.sh": (),
    "launch_v3_spot.sh": (
        "--tpu_type=v3-8",
        "--noqueued",
        "--spot",
        "--tpu_name=b0",
        "--seed=7",
        "--tpu_zone=europe-west4-a",
    ),
    "launch_v4_slice.sh": ("--tpu_type=v4-32", "--spot", "--tpu_zone=us-central2-b"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_what_was_read_and_found_right(capsys, name):
    """After a change: `PYTHONPATH=. python tests/launch/test_launch.py`, and read the difference."""
    assert printed(capsys, *SCRIPTS[name]) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_understands_them(name):
    done = subprocess.run(["bash", "-n", GOLDEN / name], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_machine_that_gcloud_has(capsys):
    """Spelled as in gcloud's reference of `compute tpus queued-resources create`."""
    text = printed(
        capsys,
        "--reservation=ours",
        "--vm_network=photos",
        "--vm_subnetwork=west",
        "--service_account=trainer@photos.iam.gserviceaccount.com",
        "--internal_ips",
        "--vm_labels=team=vision",
        "--data_disk=projects/photos/zones/us-west4-a/disks/imagenet",
        "--data_dir=/mnt/data/imagenet",
        "--max_cost=100",
        "--price_per_chip_hour=v5e=1.25",
        "--max_hours=12",
    )
    lines = {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}
    assert lines["WHAT"] == (
        "(--accelerator-type=v5litepod-8 --runtime-version=v2-alpha-tpuv5-lite --reserved --reservation=ours "
        "--network=photos --subnetwork=west --service-account=trainer@photos.iam.gserviceaccount.com "
        "--labels=team=vision --internal-ips "
        "--data-disk=source=projects/photos/zones/us-west4-a/disks/imagenet,mode=read-only)"
    )
    assert lines["MAKE"] == "(gcloud alpha compute tpus queued-resources)"
    assert lines["QUEUE"] == "(gcloud compute tpus queued-resources)"
    assert lines["CONNECT"].endswith(" --tunnel-through-iap)")
    assert lines["MAX_SECONDS"] == "36000"  # 100 / (8 * 1.25) hours
    assert "at most 10.00 hours from when it is there" in text
    flex = printed(capsys, "--flex_start", "--max_hours=0.5")
    assert "--provisioning-model=flex-start --max-run-duration=1800s" in flex
    assert "--reserved" in printed(capsys, "--reservation=any")


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        ("--max_hours=1", "The limit of 1 h is less than is expected"),
        ("--max_hours=10", "The limit of 10 h may not suffice"),
        ("--max_cost=8.8", "The limit of 1.1 h is less than is expected"),
        ("--max_hours=16", ""),
        ("", ""),
    ],
)
def test_hours_that_do_not_suffice_are_said(capsys, limit, verdict):
    """A training of 8.7 hours, by the plan, with a band from 5.1 to 15.1."""
    script = printed(capsys, *([limit] if limit else []), "--price_per_chip_hour=1")
    note = " ".join(line.removeprefix("# ") for line in script.splitlines() if line.startswith("# "))
    assert "8.7 (5.1 to 15.1) hours of steps" in note
    assert verdict in note
    assert ("The limit of" in note) == bool(verdict)


def test_the_program_answers_without_tensorflow(capsys, monkeypatch):
    monkeypatch.setattr(tensorflow_startup, "import_tensorflow", lambda: pytest.fail("started TensorFlow"))
    assert printed(capsys).startswith("#!/usr/bin/env bash\n")


def test_the_training_there_is_the_training_asked_for_here():
    options = {
        "model": "efficientnet-b4", "train_batch_size": 1024, "horizontal_flip": False, "minival_percent": 2.0,
        "resolution": 300, "model_dir": "gs://photos/it's here",
        "tpu_zone": "us-west4-a", "tpu_type": "v3-8", "print": True,
    }  # fmt: skip
    config = with_options(Config(), options)
    given = cli.parse(launch.training_flags(config)).options
    assert given == {name: value for name, value in options.items() if name not in ("tpu_zone", "tpu_type", "print")}


@pytest.mark.parametrize("sign", ["\n", "\r", "\x1b", "\u2028"])
@pytest.mark.parametrize("flag", ["data_dir", "model_dir", "tpu_name", "vm_network", "vm_labels", "data_disk"])
def test_ends_of_lines_and_control_characters_are_refused(capsys, flag, sign):
    with pytest.raises(UserError, match=f"--{flag}=.*(takes no line's end|is no such name)") as error:
        printed(capsys, f"--{flag}=gs://photos/a{sign}END_OF_TRAIN{sign}touch PWNED")
    assert sign not in str(error.value)


def test_a_table_of_stages_may_be_called_anything_that_is_a_line(capsys, tmp_path):
    stage = {"repeats": 1, "kernel_size": 3, "strides": 2, "expand_ratio": 4, "filters": 16}
    (tmp_path / "a.json").write_text(json.dumps({"name": "a\ntouch PWNED\n", "stages": [stage]}))
    with pytest.raises(UserError, match=r"--stage_table=.*: name is a\\ntouch PWNED\\n; it must be text of one line"):
        printed(capsys, f"--baseline={tmp_path}/a.json")


if __name__ == "__main__":
    for file, more in SCRIPTS.items():
        done = subprocess.run(
            [sys.executable, "main.py", "launch", *FLAGS, *more], cwd=ROOT, capture_output=True, check=True
        )
        (GOLDEN / file).write_bytes(done.stdout)
