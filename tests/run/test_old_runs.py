"""Runs that an earlier program left are read, restored and continued; their story is in golden/old_runs/README.md."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu.config.config import OPTIONS, run_options, with_options

ROOT = Path(__file__).parents[2]
OLD_RUNS = ROOT / "tests" / "golden" / "old_runs"
NAMES = ("plain", "table", "fine_tuned")


def expected_of(name):
    return json.loads((OLD_RUNS / name / "expected.json").read_text())


def images_of(expected):
    """uint8 [4, resolution, resolution, 3]: those that expected.json names by the expression that drew them."""
    size = expected["resolution"]
    assert expected["images"] == (f"np.random.default_rng(0).integers(0, 256, (4, {size}, {size}, 3)).astype('uint8')")
    return np.random.default_rng(0).integers(0, 256, (4, size, size, 3)).astype("uint8")


def averaged_logits(model_dir, checkpoint):
    """Logits float32 [4, num_classes] and step of a run's averaged model, on the images of its expected.json."""
    from efficientnet_tpu.exporting import classifier
    from efficientnet_tpu.run import run_record

    config = with_options(run_record.load(str(model_dir)).config, {"checkpoint": checkpoint})
    serving = classifier.load_serving(config)
    expected = json.loads((Path(model_dir) / "expected.json").read_text())
    return serving.model(images_of(expected), training=False).numpy(), serving.step


@pytest.mark.parametrize("name", NAMES)
def test_the_record_is_read_whole(tf, name, capsys):
    from efficientnet_tpu.run import run_record

    model_dir = OLD_RUNS / name
    record = run_record.load(str(model_dir))
    stored = json.loads((model_dir / "run.json").read_text())["config"]
    now = run_options(record.config)
    # Of the options of all commands, which it stored, those of a run are kept; two are told anew below.
    assert len(stored) > len(now)
    renamed = {option.alias: option.name for option in OPTIONS.values() if option.alias}
    read = {renamed.get(option, option): value for option, value in stored.items() if option != "model_dir"}
    missing = now.keys() - read.keys() - {"model_dir"}
    # What came later is off, or as this program does it; where that differs, as the program of the run did it.
    assert {option: now[option] for option in missing} == {
        option: (*OPTIONS[option].before, OPTIONS[option].default)[0] for option in missing
    }
    assert {option: now[option] for option in read if option in now} == {
        option: value for option, value in read.items() if option in now
    }
    assert record.config.model.stage_table.startswith('{"name": ')
    assert record.label_names == tuple(expected_of(name)["label_names"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("checkpoint", ["last", "best"])
@pytest.mark.parametrize("name", NAMES)
def test_the_checkpoint_gives_the_logits_that_it_gave(tf, name, checkpoint):
    expected = expected_of(name)[checkpoint]
    logits, step = averaged_logits(OLD_RUNS / name, checkpoint)
    assert step == expected["step"]
    np.testing.assert_allclose(logits, np.array(expected["logits"], "float32"), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_run_continues_as_it_would_have(tf, tmp_path, name):
    model_dir, resumed = tmp_path / name, expected_of(name)["resumed"]
    shutil.copytree(OLD_RUNS / name, model_dir)
    # The record of fine_tuned names a directory of another machine; that of its weights, `plain`, is beside it.
    data = [f"--data_dir={OLD_RUNS}/shapes"] if name == "fine_tuned" else []
    done = subprocess.run(
        [sys.executable, ROOT / "main.py", f"--model_dir={model_dir}", *resumed["flags"], *data],
        cwd=OLD_RUNS,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    logits, step = averaged_logits(model_dir, "last")
    assert step == resumed["step"]
    np.testing.assert_allclose(logits, np.array(resumed["logits"], "float32"), rtol=1e-4, atol=1e-5)
    # It is stored in the form of today.
    stored = json.loads((model_dir / "run.json").read_text())["config"]
    assert "stage_table" in stored
    assert not {"baseline", "grid_step"} & stored.keys()
