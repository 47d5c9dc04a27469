"""The run around the step: when it evaluates, and when it gives up."""

import json
import shutil

import pytest

from efficientnet_tpu.config import UserError


@pytest.fixture(scope="module")
def train(tf):
    from efficientnet_tpu import train

    return train


@pytest.mark.parametrize(
    ("total_steps", "interval", "after", "expected"),
    [
        (10, 4.0, 0, [4, 8, 10]),
        (10, 5.0, 0, [5, 10]),
        (10, 2.5, 0, [3, 5, 8, 10]),  # epochs need not be whole steps: the first step past each
        (10, 2.5, 5, [8, 10]),
        (10, 100.0, 0, [10]),
        (3, 0.5, 0, [1, 2, 3]),
        (10, 4.0, 10, []),
    ],
)
def test_evaluation_steps(train, total_steps, interval, after, expected):
    assert train.evaluation_steps(total_steps, interval, after) == expected


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tf, shapes, tiny_recipe, tmp_path):
    from efficientnet_tpu import cli

    arguments = ["main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}", *tiny_recipe, "--epochs_per_eval=1"]
    cli.main([*arguments, "--train_epochs=1"])
    kept = tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))
    with pytest.raises(UserError, match=r"the loss became .* the last checkpoint is from before.*--base_learning_rate"):
        cli.main([*arguments, "--train_epochs=3", "--base_learning_rate=1e30", "--lr_warmup_epochs=0"])
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")) == kept


def test_time_is_accounted_for(tf, capsys, shapes, tiny_recipe, tmp_path):
    from efficientnet_tpu import cli

    arguments = [f"--data_dir={shapes}", f"--model_dir={tmp_path}", *tiny_recipe, "--train_epochs=2"]
    cli.main(["main.py", *arguments])
    *_, finished, spent = capsys.readouterr().out.splitlines()
    last = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()][-1]
    assert finished.startswith(f"finished: top-1 {last['top_1_accuracy']:.2%}")
    assert [part.split(" ", 2)[2] for part in spent.removeprefix("time: ").split(", ")] == [
        "starting", "training", "waiting for data", "evaluating and saving",
    ]  # fmt: skip


def test_an_unreadable_image_among_many_is_said_without_a_traceback(tf, shapes, tiny_recipe, tmp_path):
    from efficientnet_tpu import cli

    shutil.copytree(shapes, tmp_path / "images")
    (tmp_path / "images" / "train" / "circle" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0broken")
    with pytest.raises(
        UserError, match=rf"(?s)^--data_dir={tmp_path}/images: an image .* cannot be read: .*make-tfrecords"
    ):
        cli.main(["main.py", f"--data_dir={tmp_path}/images", f"--model_dir={tmp_path}/run", *tiny_recipe])
