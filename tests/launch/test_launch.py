"""The script that `launch --print` prints: what it says for every TPU; and that it does it, with a made-up gcloud."""

import json
import os
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
    ],
)
def test_what_would_fail_over_there_is_refused_here(capsys, flags, message):
    with pytest.raises(UserError) as error:
        printed(capsys, *flags)
    assert str(error.value).startswith(message)


def test_made_up_images_need_no_directory(capsys):
    assert "--dataset=fake" in printed(capsys, "--data_dir=", "--dataset=fake")


SCRIPTS = {
    "launch_v5e.sh": (),
    "launch_v3_queued_spot.sh": (
        "--tpu_type=v3-8",
        "--queued",
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


GCLOUD = r'''#!/usr/bin/env python3
"""A gcloud whose TPU VM is a directory of this machine: state and calls are kept in $FAKE."""
import json, os, subprocess, sys
from pathlib import Path

fake = Path(os.environ["FAKE"])
arguments = sys.argv[1:]
with open(fake / "calls", "a") as file:
    file.write(" ".join(arguments[:4]).replace("compute tpus ", "") + "\n")
plan = json.loads((fake / "plan").read_text())
vm = fake / "vm"
state = (fake / "state").read_text() if (fake / "state").exists() else ""
option = {part.partition("=")[0]: part.partition("=")[2] for part in arguments if part.startswith("--")}

def set_state(new):
    (fake / "state").write_text(new)

match arguments[2:4]:
    case ["tpu-vm", "list"]:
        if plan["lists"] and plan["lists"].pop(0) == "fail":
            (fake / "plan").write_text(json.dumps(plan))
            sys.exit(1)
        (fake / "plan").write_text(json.dumps(plan))
        print("another\tREADY")
        if state:
            print(f"efficientnet\t{state}")
    case ["tpu-vm", "create"]:
        if plan["creations"].pop(0) == "fail":
            (fake / "plan").write_text(json.dumps(plan))
            sys.exit("no capacity")
        (fake / "plan").write_text(json.dumps(plan))
        vm.mkdir()
        set_state("READY")
    case ["tpu-vm", "delete"]:
        subprocess.run(["rm", "-rf", vm], check=True)
        (fake / "state").unlink()
    case ["tpu-vm", "scp"]:
        subprocess.run(["cp", arguments[4], vm / "clone.tgz"], check=True)
    case ["tpu-vm", "ssh"]:
        done = subprocess.run(["bash", "-c", option["--command"]], cwd=vm, env={**os.environ, "HOME": str(vm)})
        if (vm / "preempted").exists():
            set_state("PREEMPTED")
        sys.exit(done.returncode)
    case _:
        assert arguments[:2] == ["storage", "cp"], arguments
'''
# In place of the Python that installs, and of the one installed: train.py's part is to leave its arguments and to end
# as the plan says.
PYTHON = r"""#!/usr/bin/env bash
case "$*" in
  "-m uv venv "*) mkdir -p clone/.venv/bin && cp "$0" clone/.venv/bin/python ;;
  "-m "*) ;;
  main.py*)
    printf '%s\n' "$@" | tee ~/arguments > "$FAKE/vm_arguments"
    status=$(head -n 1 "$FAKE/trainings") && sed -i 1d "$FAKE/trainings"
    [ "$status" != preempted ] || { touch ~/preempted; sleep_really 30; }
    exit "$status"
    ;;
esac
"""


def run_script(tmp_path, script, trainings, creations=("ok",), lists=()):
    """Runs a script; returns its exit status, output, and the calls of gcloud."""
    fake, bin_directory = tmp_path / "fake", tmp_path / "bin"
    fake.mkdir()
    bin_directory.mkdir()
    (fake / "plan").write_text(json.dumps({"creations": creations, "lists": lists}))
    (fake / "trainings").write_text("".join(f"{status}\n" for status in trainings))
    sleep = "#!/usr/bin/env bash\nexec sleep_really 0.2\n"
    gcloud = GCLOUD.replace("/usr/bin/env python3", sys.executable)
    for name, content in (("gcloud", gcloud), ("python3", PYTHON), ("sleep", sleep)):
        (bin_directory / name).write_text(content)
        (bin_directory / name).chmod(0o755)
    (bin_directory / "sleep_really").symlink_to("/usr/bin/sleep")
    clone = tmp_path / "clone"
    for name in ("main.py", "efficientnet_tpu", "flags", "requirements-tpu.txt"):
        (clone / name).mkdir(parents=True)
    environment = {**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}", "FAKE": str(fake)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    calls = [call for call in (fake / "calls").read_text().splitlines() if call.split()[1] not in ("list", "ssh")]
    return done.returncode, done.stdout + done.stderr, calls


MAKE = ["tpu-vm create", "tpu-vm scp"]
END = ["storage cp --recursive gs://photos/runs/b0/run.json", "tpu-vm delete"]


def test_the_script_creates_trains_fetches_and_deletes(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), trainings=[0])
    assert status == 0, output
    assert calls == MAKE + END


def test_it_waits_for_capacity_and_for_gcloud(capsys, tmp_path):
    creations, lists = ["fail", "ok"], ["ok", "fail", "ok", "fail"]
    status, output, calls = run_script(tmp_path, printed(capsys), [0], creations, lists)
    assert status == 0, output
    assert calls == ["tpu-vm create", *MAKE, *END]


def test_a_run_that_was_told_to_stop_goes_on(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), trainings=[42, 42, 0])
    assert status == 0, output
    assert calls == MAKE + END


def test_a_preempted_tpu_is_replaced(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys, "--spot"), ["preempted", 0], ["ok", "ok"])
    assert status == 0, output
    assert calls == [*MAKE, "tpu-vm delete", *MAKE, *END]


def test_a_training_that_fails_stops_the_script_and_leaves_the_tpu_to_look_at(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), trainings=[2])
    assert status == 1
    assert calls == MAKE
    assert "training ended with status 2" in output
    assert "still costs money" in output


def test_arguments_arrive_as_they_were_given(capsys, tmp_path):
    directory = 'gs://photos/it\'s "here" $HOME'
    run_script(tmp_path, printed(capsys, f"--data_dir={directory}"), trainings=[2])
    arguments = (tmp_path / "fake" / "vm" / "arguments").read_text().splitlines()
    assert arguments == ["main.py", "--tpu=local", "--model_dir=gs://photos/runs/b0", f"--data_dir={directory}"]


HOSTILE = {  # of which none may be run, here or there
    "data_dir": "gs://photos/$(touch PWNED)/`touch PWNED`/'; touch PWNED; '",
    "model_dir": 'gs://photos/runs/b0;touch PWNED;"$(touch PWNED)"',
    "init_from": "gs://photos/&& touch PWNED # \\",
}


def test_no_value_is_run_as_a_command(capsys, tmp_path):
    (tmp_path / "net'$(touch PWNED).csv").write_text("repeats,kernel_size,strides,expand_ratio,filters\n1,3,2,4,16\n")
    flags = [f"--{name}={value}" for name, value in HOSTILE.items()]
    script = printed(capsys, *flags, f"--baseline={tmp_path}/net'$(touch PWNED).csv")
    status, output, _ = run_script(tmp_path, script, trainings=[0])
    assert status == 0, output
    assert not list(tmp_path.rglob("PWNED"))
    arguments = (tmp_path / "fake" / "vm_arguments").read_text().split("\n")
    assert set(flags) <= set(arguments)


@pytest.mark.parametrize("sign", ["\n", "\r", "\x1b", "\u2028"])
@pytest.mark.parametrize("flag", ["data_dir", "model_dir", "init_from", "tpu_name", "tpu_zone", "gcp_project"])
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
