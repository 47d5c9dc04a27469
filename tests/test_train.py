"""The loop: its end by divergence, its clock, and images that cannot be read."""

import json
import re
import shutil

import pytest

from efficientnet_tpu.errors import UserError


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tf, shapes, tiny_recipe, tmp_path):
    from efficientnet_tpu import cli

    arguments = ["main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}", *tiny_recipe, "--epochs_per_eval=1"]
    cli.main([*arguments, "--train_epochs=1"])
    kept = tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))
    with pytest.raises(
        UserError, match=r"(?s)the loss became .* in step 5\. .*is from before.*--base_learning_rate=5e\+29"
    ):
        cli.main([*arguments, "--train_epochs=3", "--base_learning_rate=1e30", "--lr_warmup_epochs=0"])
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")) == kept


@pytest.mark.slow
def test_time_is_accounted_for(tf, capsys, shapes, tiny_recipe, tmp_path):
    from efficientnet_tpu import cli

    arguments = [f"--data_dir={shapes}", f"--model_dir={tmp_path}", *tiny_recipe, "--train_epochs=2"]
    cli.main(["main.py", *arguments])
    lines = capsys.readouterr().out.splitlines()
    [finished], [spent] = ([line for line in lines if line.startswith(word)] for word in ("finished: ", "time: "))
    last = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()][-1]
    assert finished.startswith(f"finished: top-1 {last['top_1_accuracy']:.2%}")
    parts = spent.removeprefix("time: ").partition("; goodput ")[0].split(", ")
    assert [re.sub(r"^(\d+ \w+ )+", "", part) for part in parts] == [
        "starting", "training", "waiting for data", "evaluating and saving",
    ]  # fmt: skip


@pytest.fixture
def broken_images(shapes, tmp_path):
    """The shapes with an image in each split that cannot be decoded: (root, path of the training image)."""
    shutil.copytree(shapes, tmp_path / "images")
    broken = tmp_path / "images" / "train" / "circle" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0broken")
    return tmp_path / "images", broken


@pytest.mark.slow
def test_training_goes_on_without_an_unreadable_image_and_names_it(tf, broken_images, tiny_recipe, tmp_path, capsys):
    from efficientnet_tpu import cli

    images, broken = broken_images
    cli.main(["main.py", f"--data_dir={images}", f"--model_dir={tmp_path}/run", *tiny_recipe, "--train_epochs=3"])
    (line,) = (tmp_path / "run" / "unreadable_images.jsonl").read_text().splitlines()
    assert json.loads(line)["where"] == str(broken)
    output = capsys.readouterr().out
    assert output.count(f"skipped {broken}: truncated JPEG; 1 so far") == 1
    assert "finished: " in output


@pytest.mark.slow
def test_too_many_unreadable_images_end_training(tf, broken_images, tiny_recipe, tmp_path):
    from efficientnet_tpu import cli

    images, broken = broken_images
    flags = [f"--data_dir={images}", f"--model_dir={tmp_path}/run", *tiny_recipe, "--max_unreadable_percent=0"]
    with pytest.raises(UserError, match=rf"(?s)1 of 43 images cannot be read.*{broken}.*--max_unreadable_percent"):
        cli.main(["main.py", *flags])


@pytest.mark.slow
def test_evaluation_does_not_go_on_without_an_unreadable_image(tf, trained, shapes, tmp_path):
    from efficientnet_tpu import cli

    shutil.copytree(shapes, tmp_path / "images")
    broken = tmp_path / "images" / "validation" / "square" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(UserError, match=rf"(?s)cannot be read: {broken}: .*check-data"):
        cli.main(["main.py", "evaluate", f"--model_dir={trained}", f"--data_dir={tmp_path}/images"])
