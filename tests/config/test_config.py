"""Options are checked when they are given, and survive being stored."""

import dataclasses
import json
import re

import pytest

from efficientnet_tpu.config.config import Config, options_of, sections, with_options
from efficientnet_tpu.errors import UserError, nearest

FIELDS = [field for section in sections().values() for field in dataclasses.fields(section)]
LIMITS = {"minimum", "above", "maximum", "below"}


def each(fields):
    """A test for every one of the fields, named after it."""
    return pytest.mark.parametrize("field", list(fields), ids=lambda field: field.name)


def outside(limits):
    """A value just past every numeric limit of a field, with the words that must refuse it."""
    past = {
        "minimum": (lambda limit: limit - 1, "at least"),
        "above": (lambda limit: limit, "greater than"),
        "maximum": (lambda limit: limit + 1, "at most"),
        "below": (lambda limit: limit, "less than"),
    }
    return [(past[kind][0](limit), f"{past[kind][1]} {limit}") for kind, limit in limits.items() if kind in past]


def inside(limits):
    """The limits themselves, where they belong to what is allowed."""
    return [limit for kind, limit in limits.items() if kind in ("minimum", "maximum")]


def test_every_option_has_help():
    for field in FIELDS:
        assert field.metadata["help"], field.name
        assert set(field.metadata) <= LIMITS | {"help", "choices", "parts"}, field.name


def test_every_section_has_a_heading_and_is_frozen():
    for section in sections().values():
        assert section.__doc__
        assert "\n" not in section.__doc__
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section(), dataclasses.fields(section)[0].name, None)


def test_no_flag_belongs_to_two_sections():
    names = [field.name for field in FIELDS]
    assert len(names) == len(set(names))
    # absl owns these.
    assert not set(names) & {"help", "flagfile", "undefok"}


def test_a_flag_does_not_shadow_the_negation_of_another():
    names = {field.name for field in FIELDS}
    assert not {f"no{name}" for name in names} & names


@each(FIELDS)
def test_defaults_keep_the_limits(field):
    with_options(Config(), {field.name: field.default})


@each(field for field in FIELDS if set(field.metadata) & LIMITS)
def test_limits(field):
    for value, words in outside(field.metadata):
        with pytest.raises(UserError, match=re.escape(f"--{field.name}={value}: must be {words}.")):
            with_options(Config(), {field.name: value})
    for value in inside(field.metadata):
        assert options_of(with_options(Config(), {field.name: value}))[field.name] == value


@each(field for field in FIELDS if "float" in str(field.type))
def test_nan_is_refused(field):
    with pytest.raises(UserError, match=rf"^--{field.name}=nan: must be "):
        with_options(Config(), {field.name: float("nan")})


@each(field for field in FIELDS if "choices" in field.metadata)
def test_choices(field):
    choices = field.metadata["choices"]
    assert field.default in choices
    for choice in choices:
        assert options_of(with_options(Config(), {field.name: choice}))[field.name] == choice
    with pytest.raises(UserError) as error:
        with_options(Config(), {field.name: choices[0] + "x"})
    assert str(error.value) == (
        f"--{field.name}={choices[0]}x: must be one of {', '.join(choices)}. Did you mean {choices[0]}?"
    )


def test_unknown_option():
    with pytest.raises(UserError, match=r"^--train_batchsize: no such flag\. Did you mean train_batch_size\?$"):
        with_options(Config(), {"train_batchsize": 8})


def test_options_go_to_their_section_and_leave_the_rest():
    config = with_options(Config(), {"model": "efficientnet-b3", "train_batch_size": 8})
    assert config.model.model == "efficientnet-b3"
    assert config.train.train_batch_size == 8
    assert config.data == Config().data
    assert dataclasses.replace(config.train, train_batch_size=256) == Config().train
    # The next call starts from what it is given.
    assert with_options(config, {"seed": 3}).model.model == "efficientnet-b3"


def test_options_survive_json():
    given = {
        "model": "efficientnet-phi2.5",
        "width_coefficient": 1.05,
        "horizontal_flip": False,
        "train_epochs": 0.5,
        "model_dir": "gs://bucket/run",
        "precision": "bfloat16",
    }
    config = with_options(Config(), given)
    stored = json.loads(json.dumps(options_of(config)))
    assert set(stored) == {field.name for field in FIELDS}
    assert with_options(Config(), stored) == config


def test_none_keeps_the_models_own_value():
    assert with_options(Config(), {"resolution": None}) == Config()


def test_nearest_is_silent_when_nothing_is_near():
    assert nearest("evalute", ["train", "evaluate"]) == " Did you mean evaluate?"
    assert nearest("zebra", ["train", "evaluate"]) == ""


def test_user_errors_are_value_errors():
    assert issubclass(UserError, ValueError)
