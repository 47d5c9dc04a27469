"""The policies are the published ones, and a level means what it means in the reference."""

import json
from pathlib import Path

import pytest

from efficientnet_tpu.config.data import AUGMENTATIONS
from efficientnet_tpu.data.augment.operations import MAX_LEVEL, OPERATIONS, Operation, argument
from efficientnet_tpu.data.augment.policies import (
    AUTOAUGMENT_FLAGS,
    AUTOAUGMENT_PIXELS,
    POLICIES,
    RANDAUGMENT_OPERATIONS,
    RANDAUGMENT_PIXELS,
    autoaugment_pixels,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "augment_policies.json").read_text())
MAGNITUDES = GOLDEN["randaugment"]["magnitudes"]
STEPS = [(name, step) for name in POLICIES for sub_policy in POLICIES[name] for step in sub_policy]


@pytest.mark.parametrize("name", ["imagenet", "cifar10", "svhn"])
def test_policy_is_the_published_one(name):
    rows = [[[step.name, step.probability, step.level] for step in row] for row in POLICIES[name]]
    assert rows == [[operation[:3] for operation in row] for row in GOLDEN[name]]
    assert len(rows) == 25


def test_each_policy_has_a_value_of_the_flag():
    assert list(AUGMENTATIONS) == ["none", *AUTOAUGMENT_FLAGS, "randaugment"]
    assert list(AUTOAUGMENT_FLAGS.values()) == list(POLICIES)


def test_policies_hold_nothing_else():
    assert set(POLICIES) == {"imagenet", "cifar10", "svhn"}
    for name, step in STEPS:
        assert step.name in OPERATIONS, name
        assert 0 <= step.probability <= 1, name
        assert 0 <= step.level <= MAX_LEVEL, name


@pytest.mark.parametrize("row", range(25))
def test_arguments_of_the_imagenet_policy(row):
    for step, (_, _, _, expected) in zip(POLICIES["imagenet"][row], GOLDEN["imagenet"][row], strict=True):
        assert argument(step.name, step.level, *AUTOAUGMENT_PIXELS) == pytest.approx(expected or 0, abs=1e-12)


def test_randaugment_operations_are_the_references_in_its_order():
    assert list(RANDAUGMENT_OPERATIONS) == list(GOLDEN["randaugment"]["arguments"])
    assert len(RANDAUGMENT_OPERATIONS) == 16
    assert set(RANDAUGMENT_OPERATIONS) <= OPERATIONS.keys()


def test_an_operation_may_exist_outside_of_randaugment(monkeypatch):
    monkeypatch.setitem(OPERATIONS, "Blur", Operation(2.0))
    assert argument("Blur", 5, *RANDAUGMENT_PIXELS) == 1.0
    assert "Blur" not in RANDAUGMENT_OPERATIONS


@pytest.mark.parametrize("name", GOLDEN["randaugment"]["arguments"])
def test_arguments_of_randaugment(name):
    arguments = [argument(name, magnitude, *RANDAUGMENT_PIXELS) for magnitude in MAGNITUDES]
    expected = [value or 0 for value in GOLDEN["randaugment"]["arguments"][name]]
    assert arguments == pytest.approx(expected, abs=1e-12)


def test_geometry_is_signed():
    signed = {name for name, operation in OPERATIONS.items() if operation.is_signed}
    assert signed == {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}


def test_levels_may_be_fractions_and_lie_beyond_the_tables():
    assert argument("Rotate", 7.5, *RANDAUGMENT_PIXELS) == 22.5
    assert argument("Color", 0.5, *RANDAUGMENT_PIXELS) == pytest.approx(0.19)
    assert argument("TranslateX", 100, *RANDAUGMENT_PIXELS) == 1000
    assert argument("Solarize", 100, *RANDAUGMENT_PIXELS) == 2560


@pytest.mark.parametrize(
    ("name", "level", "whole"),
    [("Posterize", 7.4, 2), ("Solarize", 0.1, 2), ("SolarizeAdd", 0.1, 1), ("Cutout", 0.7, 2), ("Cutout", 0.2, 0)],
)
def test_whole_arguments_are_cut_off_not_rounded(name, level, whole):
    value = argument(name, level, *RANDAUGMENT_PIXELS)
    assert value == whole
    assert isinstance(value, float)


@pytest.mark.parametrize("size", [32, 64, 224])
def test_pixels_of_the_small_image_policies_follow_the_size(size):
    for policy in ("cifar10", "svhn"):
        translate_pixels, cutout_pixels = autoaugment_pixels(policy, size)
        # 10 pixels of 32, as published with the paper; level 9 leaves most of the image in the picture.
        assert argument("TranslateY", 10, translate_pixels, cutout_pixels) == size * 10 / 32
        assert argument("Cutout", 10, translate_pixels, cutout_pixels) == size * 10 / 32
    assert autoaugment_pixels("imagenet", size) == AUTOAUGMENT_PIXELS


def test_unknown_names_are_refused():
    with pytest.raises(KeyError):
        argument("Blur", 5, *AUTOAUGMENT_PIXELS)
