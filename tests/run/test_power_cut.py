"""What was reported as saved outlives a power cut: a copy of the file system has it, whole, and the run goes on."""

import json
import re
import shutil
import signal
import subprocess
from collections import Counter

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.run import subprocess_training
from tests.support import power_cut

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(power_cut.why_not()), reason=f"power cuts: {power_cut.why_not()}"),
]
NUM_CUTS, NUM_CONTINUED = 20, 3
STEPS, STEPS_PER_EVALUATION = 36, 6
_SAVED = re.compile(r"saved at step (\d+) ")
_EVALUATED = re.compile(r"-- validation  epoch ([\d.]+) ")


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """An image of 256 MB and the directory to mount it on."""
    folder = tmp_path_factory.mktemp("disk")
    (folder / "there").mkdir()
    return power_cut.make_image(folder / "image", megabytes=256), folder / "there"


@pytest.fixture(scope="module")
def command(shapes, tiny_recipe, disk):
    """A training in the mounted directory that saves at every step, evaluates at every sixth, and keeps them all."""
    flags = ["--train_epochs=12", "--epochs_per_eval=2", "--minutes_per_save=1e-9", "--steps_per_loop=1"]
    kept = ["--keep_checkpoints=100", f"--model_dir={disk[1]}/runs/new/b0", f"--data_dir={shapes}"]
    return [*subprocess_training.command({}), *tiny_recipe, *flags, *kept]


@pytest.fixture(scope="module")
def cuts(command, disk, tmp_path_factory):
    """(copies of the disk with the steps that were reported as saved before, the run that was not cut off)."""
    image, there = disk
    folder = tmp_path_factory.mktemp("cuts")
    copies = []
    with power_cut.mounted(image, there):
        saved, evaluated = [], []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=subprocess_training.environment(), cwd=folder
        ) as process:
            for line in process.stdout:
                saved += [int(step) for step in _SAVED.findall(line)]
                evaluated += [round(float(epoch) * STEPS / 12) for epoch in _EVALUATED.findall(line)]
                is_report = _SAVED.match(line) or _EVALUATED.match(line)
                if is_report and (len(saved) + len(evaluated)) % 2 == 0 and len(copies) < NUM_CUTS - 1:
                    process.send_signal(signal.SIGSTOP)  # the moment of the report; the system writes on
                    copy = power_cut.cut_power(image, folder / f"cut-{len(copies)}")
                    process.send_signal(signal.SIGCONT)
                    copies.append((copy, tuple(saved), tuple(evaluated)))
        assert process.returncode == 0
        copies.append((power_cut.cut_power(image, folder / "ended"), tuple(saved), tuple(evaluated)))
        shutil.copytree(there / "runs" / "new" / "b0", folder / "straight")
    return copies, folder / "straight"


def _assert_holds(model_dir, saved, evaluated):
    from efficientnet_tpu.run.checkpoint import find_damage
    from efficientnet_tpu.run.checkpoint_names import checkpoint_version

    for directory, reported in (("checkpoints", [*saved, *evaluated]), ("best", [])):
        paths = [str(path.with_suffix("")) for path in (model_dir / directory).glob("*.index")]
        # An evaluation is saved by itself, after the step that it follows.
        assert Counter(reported) <= Counter(checkpoint_version(path)[0] for path in paths)
        assert {path: find_damage(path) for path in paths} == dict.fromkeys(paths)  # none is half, reported or not
    assert json.loads((model_dir / "run.json").read_text())["label_names"] == ["circle", "square", "triangle"]
    assert (model_dir / "labels.txt").read_text().split() == ["circle", "square", "triangle"]
    if evaluated:
        entries = [json.loads(line) for line in (model_dir / "log.jsonl").read_text().splitlines()]
        assert set(evaluated) <= {entry["step"] for entry in entries if entry["kind"] == "validation"}
        best = json.loads((model_dir / "best" / "best.json").read_text())
        assert (model_dir / "best" / f"ckpt-{best['step']}.index").exists()


def test_what_was_reported_is_on_the_disk(tf, cuts, disk):
    copies, _ = cuts
    assert len(copies) == NUM_CUTS
    assert copies[-1][1] == tuple(range(1, STEPS + 1))
    assert copies[-1][2] == tuple(range(STEPS_PER_EVALUATION, STEPS + 1, STEPS_PER_EVALUATION))
    for copy, saved, evaluated in copies:
        with power_cut.mounted(shutil.copy(copy, f"{copy}-looked-at"), disk[1]) as there:
            _assert_holds(there / "runs" / "new" / "b0", saved, evaluated)


@pytest.mark.parametrize("number", range(NUM_CONTINUED))
def test_the_same_command_goes_on_to_the_bit(tf, cuts, disk, command, number):
    from efficientnet_tpu.run.verify_resume import compare_runs

    copies, straight = cuts
    copy, saved, evaluated = copies[(2 * number + 1) * (NUM_CUTS - 1) // (2 * NUM_CONTINUED)]
    with power_cut.mounted(copy, disk[1]) as there:
        output = subprocess.run(
            command, env=subprocess_training.environment(), capture_output=True, text=True, check=True
        ).stdout
        step = int(re.search(r"continuing from step (\d+)", output)[1])
        assert max(*saved, *evaluated) <= step < STEPS
        assert list(compare_runs(str(straight), str(there / "runs" / "new" / "b0"))) == []


def test_an_export_that_was_reported_is_whole(tf, trained, disk, tmp_path, capsys):
    image, there = power_cut.make_image(tmp_path / "image", megabytes=128), disk[1]
    with power_cut.mounted(image, there):
        formats = "--export_format=savedmodel,keras,tflite"
        cli.main(["main.py", "export", f"--model_dir={trained}", f"--output_dir={there}/new/b0", formats])
        copy = power_cut.cut_power(image, tmp_path / "copy")
        expected = {path.name: path.read_bytes() for path in (there / "new" / "b0").rglob("*") if path.is_file()}
    with power_cut.mounted(copy, there):
        found = {path.name: path.read_bytes() for path in (there / "new" / "b0").rglob("*") if path.is_file()}
    assert {"saved_model.pb", "model.keras", "model.tflite", "labels.txt"} <= expected.keys()
    assert found == expected
