"""The proof that users can run, and that it can fail."""

import re

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.errors import UserError

# Two evaluations an epoch, so that kills fall around them too.
FLAGS = ("--train_epochs=40", "--epochs_per_eval=2", "--early_stopping_patience=100")


def _verify(shapes, tiny_recipe, model_dir, *flags):
    cli.main(
        ["main.py", "verify-resume", f"--data_dir={shapes}", f"--model_dir={model_dir}", *tiny_recipe, *FLAGS, *flags]
    )


@pytest.mark.slow
def test_twenty_kills_change_nothing(tf, shapes, tiny_recipe, tmp_path, capsys):
    _verify(shapes, tiny_recipe, tmp_path / "proof", "--verify_steps=100", "--verify_kills=20")
    output = capsys.readouterr().out
    killed = re.findall(r"^killed: after step \d+", output, re.MULTILINE)
    assert len(killed) == 20, output
    assert "the same to the bit: " in output
    assert list((tmp_path / "proof").iterdir()) == []


@pytest.mark.slow
def test_a_difference_of_one_bit_is_found(tf, shapes, tiny_recipe, tmp_path, monkeypatch, capsys):
    from efficientnet_tpu.run import verify_resume

    tensors = verify_resume.checkpoint_tensors

    def one_bit_off(model_dir):
        found = tensors(model_dir)
        if model_dir.endswith("killed"):
            name = next(name for name in found if "average" in name and found[name].dtype == "float32")
            found[name].view("uint32").flat[0] ^= 1
        return found

    monkeypatch.setattr(verify_resume, "checkpoint_tensors", one_bit_off)
    with pytest.raises(SystemExit) as ended:
        _verify(shapes, tiny_recipe, tmp_path / "proof", "--verify_steps=4", "--verify_kills=1")
    assert ended.value.code == 1
    assert re.search(r"NOT THE SAME:\n  average/.*: up to .*\n1 differences; both runs stay", capsys.readouterr().out)
    assert {path.name for path in (tmp_path / "proof").iterdir()} == {"straight", "killed"}


def test_a_directory_with_something_in_it_is_refused(tf, trained, shapes, tiny_recipe):
    with pytest.raises(UserError, match="is not empty"):
        _verify(shapes, tiny_recipe, trained)
