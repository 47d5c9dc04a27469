"""What the script of `launch --print` does, run by bash with a made-up gcloud."""

import json
import os
import subprocess
import sys

import pytest

from tests.launch.test_launch import printed

pytestmark = pytest.mark.slow

GCLOUD = r'''#!/usr/bin/env python3
"""A gcloud whose TPU VM is a directory of this machine: state and calls are kept in $FAKE."""
import json, os, subprocess, sys
from pathlib import Path

fake = Path(os.environ["FAKE"])
arguments = [argument for argument in sys.argv[1:] if argument != "alpha"]
with open(fake / "calls", "a") as file:
    file.write(" ".join(arguments[:4]).replace("compute tpus ", "") + "\n")
with open(fake / "arguments", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\n")
plan = json.loads((fake / "plan").read_text())
vm = fake / "vm"
state = (fake / "state").read_text() if (fake / "state").exists() else ""
option = {part.partition("=")[0]: part.partition("=")[2] for part in arguments if part.startswith("--")}

def set_state(new):
    (fake / "state").write_text(new)

match arguments[2:4]:
    case ["tpu-vm" | "queued-resources" as kind, "list"]:
        if plan["lists"] and plan["lists"].pop(0) == "fail":
            (fake / "plan").write_text(json.dumps(plan))
            sys.exit(1)
        (fake / "plan").write_text(json.dumps(plan))
        print("another\tREADY")
        if state:
            queued = {"READY": "ACTIVE", "PREEMPTED": "SUSPENDED"}
            print(f"efficientnet\t{state if kind == 'tpu-vm' else queued[state]}")
    case ["tpu-vm" | "queued-resources", "create"]:
        answer = plan["creations"].pop(0)
        if answer != "ok":
            (fake / "plan").write_text(json.dumps(plan))
            sys.exit("no capacity" if answer == "fail" else answer)
        (fake / "plan").write_text(json.dumps(plan))
        vm.mkdir()
        set_state("READY")
    case ["tpu-vm" | "queued-resources", "delete"]:
        subprocess.run(["rm", "-rf", vm], check=True)
        (fake / "state").unlink()
    case ["tpu-vm", "scp"]:
        subprocess.run(["cp", arguments[4], vm / "clone.tgz"], check=True)
    case ["tpu-vm", "ssh"]:
        done = subprocess.run(["bash", "-c", option["--command"]], cwd=vm, env={**os.environ, "HOME": str(vm)})
        if (vm / "preempted").exists():
            set_state("PREEMPTED")
        sys.exit(done.returncode)
    case ["accelerator-types", "describe"]:
        sys.exit(0 if arguments[4] in plan["types"] else "NOT_FOUND: no such type")
    case ["describe", bucket]:
        print(plan["places"])
    case _:
        assert arguments[:2] == ["storage", "cp"], arguments
'''
# In place of the Python that installs, and of the one installed: train.py's part is to leave its arguments, to say
# something and to end as the plan says.
PYTHON = r"""#!/usr/bin/env bash
case "$*" in
  "-m uv venv "*) mkdir -p clone/.venv/bin && cp "$0" clone/.venv/bin/python ;;
  "-m "*) ;;
  main.py*)
    printf '%s\n' "$@" | tee ~/arguments > "$FAKE/vm_arguments"
    echo "step 1/2  loss 6.9"
    status=$(head -n 1 "$FAKE/trainings") && sed -i 1d "$FAKE/trainings"
    [ "$status" != preempted ] || { touch ~/preempted; sleep_really 30; }
    [ "$status" != long ] || { trap 'echo saved; exit 42' TERM; for i in $(seq 600); do sleep_really 0.1; done; }
    exit "$status"
    ;;
esac
"""


def run_script(tmp_path, script, trainings, arguments=(), **plan):
    """Runs a script; returns its exit status, output, and the calls of gcloud that change something."""
    fake, bin_directory = tmp_path / "fake", tmp_path / "bin"
    fake.mkdir()
    bin_directory.mkdir()
    plan = {"creations": ["ok"], "lists": [], "types": ["v5litepod-8"], "places": "US-WEST4"} | plan
    (fake / "plan").write_text(json.dumps(plan))
    (fake / "calls").write_text("")
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
    command = ["bash", "-c", script, "train.sh", *arguments]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=120, check=False)
    looks = ("list", "ssh", "describe", "buckets")
    calls = [call for call in (fake / "calls").read_text().splitlines() if call.split()[1] not in looks]
    return done.returncode, done.stdout + done.stderr, calls


MAKE = ["queued-resources create", "tpu-vm scp"]
END = ["queued-resources delete", "storage cp --recursive gs://photos/runs/b0/run.json"]


def test_the_script_creates_trains_shows_deletes_and_fetches(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), trainings=[0])
    assert status == 0, output
    assert calls == MAKE + END
    assert output.count("step 1/2  loss 6.9") == 1
    assert (tmp_path / "clone" / "efficientnet" / "train.log").read_text() == "step 1/2  loss 6.9\n"


def test_a_tpu_vm_that_is_made_at_once(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys, "--noqueued"), trainings=[0])
    assert status == 0, output
    assert calls == ["tpu-vm create", "tpu-vm scp", "tpu-vm delete", END[1]]


def test_it_waits_for_capacity_and_for_gcloud(capsys, tmp_path):
    plan = {"creations": ["fail", "ok"], "lists": ["ok", "ok", "fail", "ok", "ok", "fail"]}
    status, output, calls = run_script(tmp_path, printed(capsys), [0], **plan)
    assert status == 0, output
    assert calls == ["queued-resources create", *MAKE, *END]


QUOTA = (
    "Quota limit 'TPUV5sPreemptibleLitepodPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 0 in zone us-west4-a."
)
CAPACITY = 'There is no more capacity in the zone "us-west4-a"; you can try in another zone'


def test_an_error_of_gcloud_that_stays_ends_the_script_with_its_cause(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), [0], creations=[QUOTA, "ok"])
    assert (status, calls) == (2, ["queued-resources create"])
    assert f"{QUOTA}\nthe quota is used up: " in output
    assert "\n  try: raise it: console.cloud.google.com/iam-admin/quotas" in output
    assert "nothing was made, and nothing costs money" in output


def test_an_error_of_gcloud_that_passes_is_explained_and_waited_for(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), [0], creations=[CAPACITY, "ok"])
    assert status == 0, output
    assert calls == ["queued-resources create", *MAKE, *END]
    assert f"{CAPACITY}\nno TPU is free in the zone: " in output


def test_a_run_that_was_told_to_stop_goes_on(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), trainings=[42, 42, 0])
    assert status == 0, output
    assert calls == MAKE + END


def test_a_preempted_tpu_is_replaced(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys, "--spot"), ["preempted", 0], creations=["ok", "ok"])
    assert status == 0, output
    assert calls == [*MAKE, "queued-resources delete", *MAKE, *END]
    assert (tmp_path / "clone" / "efficientnet" / "train.log").read_text().endswith("step 1/2  loss 6.9\n")


def test_a_training_that_fails_stops_the_script_and_leaves_the_tpu_to_look_at(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), trainings=[2])
    assert status == 1
    assert calls == MAKE
    assert "training ended with status 2" in output
    assert "still costs money" in output


def test_the_hours_that_are_allowed_end_the_machine(capsys, tmp_path):
    script = printed(capsys, "--max_hours=0.003")
    status, output, calls = run_script(tmp_path, script, trainings=["long"])
    assert status == 42, output
    assert calls == MAKE + END
    assert "the hours of --max_hours are over: all is saved" in output
    assert "saved\n" in (tmp_path / "clone" / "efficientnet" / "train.log").read_text()


def test_a_type_that_gcloud_does_not_have_is_said_before_anything_is_made(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), [0], types=["v6e-8"])
    assert (status, calls) == (2, [])
    assert "v5litepod-8: gcloud finds no such TPU type in us-west4-a; nothing was made." in output


@pytest.mark.parametrize(("place", "status"), [("EUROPE-WEST4", 2), ("US-CENTRAL1", 2), ("US", 0), ("NAM4", 0)])
def test_data_in_another_region_is_said_before_anything_is_made(capsys, tmp_path, place, status):
    ended, output, calls = run_script(tmp_path, printed(capsys), [0], places=place)
    assert ended == status, output
    assert (calls == []) == (status == 2)
    assert ("across regions" in output) == (status == 2)
    assert place.lower() in output


def test_a_dry_run_prints_its_commands_and_runs_none(capsys, tmp_path):
    status, output, calls = run_script(tmp_path, printed(capsys), [0], arguments=["--dry-run"])
    assert (status, calls) == (0, []), output
    lines = [line for line in output.splitlines() if line.startswith("gcloud ")]
    assert lines[0] == (
        "gcloud compute tpus queued-resources create efficientnet --node-id=efficientnet --zone=us-west4-a "
        "--project=photos --accelerator-type=v5litepod-8 --runtime-version=v2-alpha-tpuv5-lite"
    )
    assert [line.split()[3:5] for line in lines[1:3]] == [["tpu-vm", "scp"], ["tpu-vm", "ssh"]]
    assert " delete efficientnet " in lines[-2]
    assert "gs://photos/runs/b0/run.json" in lines[-1]


# Of these none may be run, here or there.
HOSTILE = {
    "data_dir": "gs://photos/$(touch PWNED)/`touch PWNED`/'; touch PWNED; '",
    "model_dir": 'gs://photos/runs/b0;touch PWNED;"$(touch PWNED)"',
    "init_from": "gs://photos/&& touch PWNED # \\ a b",
}
OF_GCLOUD = {
    "vm_network": "a b$(touch PWNED)",
    "vm_subnetwork": "'; touch PWNED; '",
    "service_account": "`touch PWNED`",
    "vm_labels": 'a="$(touch PWNED)",b=* ? ~',
    "data_disk": "disks/$HOME && touch PWNED",
    "reservation": '"; touch PWNED; echo "',
}


def test_no_value_is_run_as_a_command(capsys, tmp_path):
    (tmp_path / "net'$(touch PWNED).csv").write_text("repeats,kernel_size,strides,expand_ratio,filters\n1,3,2,4,16\n")
    flags = [f"--{name}={value}" for name, value in HOSTILE.items()]
    of_gcloud = [f"--{name}={value}" for name, value in OF_GCLOUD.items()]
    of_gcloud.remove(f"--data_disk={OF_GCLOUD['data_disk']}")  # it would be mounted: in the next test
    script = printed(capsys, *flags, *of_gcloud, f"--baseline={tmp_path}/net'$(touch PWNED).csv", "--max_hours=9")
    status, output, _ = run_script(tmp_path, script, trainings=[0])
    assert status == 0, output
    assert not list(tmp_path.rglob("PWNED"))
    arguments = (tmp_path / "fake" / "vm_arguments").read_text().split("\n")
    assert set(flags) <= set(arguments)
    calls = [json.loads(line) for line in (tmp_path / "fake" / "arguments").read_text().splitlines()]
    created = next(call for call in calls if "create" in call)
    assert {flag.replace("service_account", "service-account").replace("--vm_", "--") for flag in of_gcloud} <= set(
        created
    )


def test_a_disk_is_named_as_it_was_given(capsys, tmp_path):
    flags = [f"--{name}={value}" for name, value in OF_GCLOUD.items()]
    status, output, _ = run_script(tmp_path, printed(capsys, *flags), [0], arguments=["--dry-run"])
    assert status == 0, output
    assert "mode=read-only" in output
    assert "/dev/disk/by-id/google-persistent-disk-1" in output
    assert not list(tmp_path.rglob("PWNED"))


def test_arguments_arrive_as_they_were_given(capsys, tmp_path):
    directory = 'gs://photos/it\'s "here" $HOME'
    run_script(tmp_path, printed(capsys, f"--data_dir={directory}"), trainings=[2])
    arguments = (tmp_path / "fake" / "vm" / "arguments").read_text().splitlines()
    assert arguments == ["main.py", "--tpu=local", "--model_dir=gs://photos/runs/b0", f"--data_dir={directory}"]
