"""The paper in miniature end to end: killed once, resumed, and its page."""

import json
import re
import subprocess
import sys
import time

import pytest
from PIL import Image

from efficientnet_tpu import cli
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run import subprocess_training
from efficientnet_tpu.studies import trial


def test_bad_input_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="--output_dir is missing"):
        cli.main(["main.py", "paper-miniature", "--dataset=sample"])
    flags = ["--dataset=sample", f"--output_dir={tmp_path / 'study'}", f"--transfer_data_dir={tmp_path / 'nowhere'}"]
    with pytest.raises(UserError, match=r"--transfer_data_dir=.*nowhere"):
        cli.main(["main.py", "paper-miniature", *flags])
    assert not (tmp_path / "study").exists()


@pytest.fixture
def trainings(monkeypatch):
    """Trainings that only note what they were asked; the one numbered `fail` fails. Maps are not drawn."""
    pytest.importorskip("optuna", reason="the grid needs the extra `search`")
    from efficientnet_tpu.studies.miniature import miniature_report

    seen = []

    def train(config, model_dir, stop):
        seen.append(("/".join(model_dir.split("/")[-2:]), config))
        if len(seen) == train.fail:
            raise UserError("the training failed")
        accuracy = 0.5 + 0.001 * (config.model.resolution or 0) + 0.01 * config.run.seed % 0.03
        return trial.Outcome(accuracy, 0.9, 10.0, 600.0, accuracy - 0.1)

    train.fail = 0
    monkeypatch.setattr(trial, "run", train)
    monkeypatch.setattr(miniature_report, "draw_maps", lambda runs, files, side: (Image.new("RGB", (9, 9)), ["1: one"]))
    return seen, train


@pytest.mark.slow
def test_the_whole_recipe_goes_on_where_it_failed(tf, shapes, tmp_path, capsys, trainings):
    """The trainings of flags/paper-miniature.flags, by their names, and what each is asked."""
    seen, train = trainings
    flags = ["--flagfile=paper-miniature", "--dataset=sample", f"--transfer_data_dir={shapes}"]
    flags += [f"--output_dir={tmp_path / 'study'}"]
    train.fail = 20
    with pytest.raises(UserError, match="the training failed"):
        cli.main(["main.py", "paper-miniature", *flags])
    cli.main(["main.py", "paper-miniature", *flags])
    asked = dict(seen)
    grid = {name for name in asked if name.startswith("grid/") and name.count("-") == 2}
    assert len(grid) == 7
    assert {config.run.seed for name, config in asked.items() if name in grid} == {1000}
    again = [name for name in asked if name.startswith("grid/") and name not in grid]
    assert sorted(name.rpartition("-")[2] for name in again) == ["1001"] * 5 + ["1002"] * 5
    scaling = [name for name in asked if name.startswith("scaling/")]
    assert len(scaling) == 3 * (1 + 2 * 4 + 1)
    assert asked["scaling/base-longer-0"].train.train_epochs == 2 * asked["scaling/base-0"].train.train_epochs
    assert asked["scaling/resolution-phi2-0"].model.resolution == 48
    tuned, scratch = asked["transfer/compound-fine-tuned-2"], asked["transfer/compound-from-scratch-2"]
    assert tuned.train.init_from == str(tmp_path / "study/scaling/compound-phi2-2")
    assert scratch.train.init_from == ""
    assert tuned.model.resolution == 2 * asked["scaling/compound-phi2-2"].model.resolution
    assert tuned.data.data_dir == str(shapes)
    assert len(seen) == len(asked) + 1  # what failed was asked again, and nothing else
    text = capsys.readouterr().out
    assert "59 trainings, 0 of them done; about unknown hours" in text
    assert "59 of 59, the last" in text
    page = (tmp_path / "study" / "index.html").read_text()
    assert "At 4 times the base&#x27;s multiply-adds" in page or "At 4 times the base's multiply-adds" in page


@pytest.mark.slow
def test_two_minutes_of_the_paper(tf, shapes, tmp_path, capsys):
    """Every step trains; kill -9 loses no training that has ended."""
    pytest.importorskip("optuna", reason="the grid needs the extra `search`")
    study = tmp_path / "study"
    flags = [
        *("--flagfile=paper-miniature", f"--data_dir={shapes}", f"--transfer_data_dir={shapes}"),
        *(f"--output_dir={study}", "--train_batch_size=8", "--train_epochs=2", "--transfer_epochs=2"),
        *("--lr_warmup_epochs=0", "--epochs_per_eval=2", "--moving_average_decay=0.9", "--study_workers=2"),
        *("--nogrid_counted", "--grid_step=0.4", "--grid_tolerance=0.1", "--largest_resolution=64"),
        *("--study_seeds=1", "--study_phi=1", "--transfer_resolution_factor=1", "--minival_percent=20"),
    ]
    command = [sys.executable, "-m", "efficientnet_tpu", "paper-miniature", *flags]
    first = subprocess.Popen(
        command, env=subprocess_training.environment(), stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    lines = []
    for line in first.stdout:
        lines.append(line)
        if "; scaling; " in line:
            first.kill()
            break
    first.wait()
    first.stdout.close()
    assert any(re.match(r"miniature: 12 trainings, 0 of them done; about .*minutes", line) for line in lines)
    kept = [json.loads(line) for line in (study / "scaling" / "trials.jsonl").read_text().splitlines()]
    written = {row["way"]: (study / "scaling" / f"{row['way']}-0" / "output.txt").stat().st_mtime for row in kept}
    time.sleep(1)
    cli.main(["main.py", "paper-miniature", *flags])
    text = capsys.readouterr().out
    for way, before in written.items():  # not trained again
        assert (study / "scaling" / f"{way}-0" / "output.txt").stat().st_mtime == before
    names = {"grid": 2, "scaling": 6, "transfer": 4}
    for step, number in names.items():
        rows = [json.loads(line) for line in (study / step / "trials.jsonl").read_text().splitlines()]
        assert len(rows) == len({row["way"] for row in rows}) == number
    assert "12 of 12, the last" in text
    assert "At 2 times the base's multiply-adds compound scaling is" in text
    page = (study / "index.html").read_text()
    for wanted in ("Figure 8", "Figure 7", "compound-phi1", "base-fine-tuned", "alpha beta gamma"):
        assert wanted in page
    assert "http" not in page.replace("http-equiv", "")
    started = json.loads((study / "transfer" / "compound-fine-tuned-0" / "run.json").read_text())
    assert started["config"]["init_from"].endswith("scaling/compound-phi1-0")
    cli.main(["main.py", "paper-miniature", *flags])  # everything has ended: the page alone is made
    assert "12 trainings, 12 of them done; about 0 minutes" in capsys.readouterr().out
