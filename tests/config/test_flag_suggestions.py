"""Flags of other programs lead to ours."""

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config import flag_suggestions
from efficientnet_tpu.config.config import OPTIONS
from efficientnet_tpu.errors import UserError


@pytest.mark.parametrize(
    ("typed", "flag"),
    [
        ("--epochs=3", "train_epochs"),
        ("--batch_size=3", "train_batch_size"),
        ("--batch-size=3", "train_batch_size"),
        ("--lr=0.1", "base_learning_rate"),
        ("--learning_rate=0.1", "base_learning_rate"),
        ("--image_size=64", "resolution"),
        ("--imgsz=64", "resolution"),
        ("--pretrained", "init_from"),
        ("--resume", "model_dir"),
        ("--train_epoch=3", "train_epochs"),  # a typing error
    ],
)
def test_it_is_suggested(typed, flag):
    with pytest.raises(UserError) as refused:
        cli.main(["main.py", "--model_dir=x", typed])
    assert f"no such flag. Did you mean --{flag}?" in str(refused.value)


def test_the_number_of_classes_is_that_of_the_images():
    with pytest.raises(UserError, match=r"^--num_classes: not a flag of train_and_eval; .*The classes are"):
        cli.main(["main.py", "--model_dir=x", "--num_classes=5"])


def test_every_name_leads_to_a_flag_and_is_none():
    names = [name for names in flag_suggestions._ELSEWHERE.values() for name in names.split()]
    assert len(set(names)) == len(names)
    assert set(flag_suggestions._ELSEWHERE) <= OPTIONS.keys()
    assert not set(names) & {*OPTIONS, *(option.alias for option in OPTIONS.values())}
