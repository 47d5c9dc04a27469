"""Options are checked when they are given, and survive being stored."""

import dataclasses
import json
import re

import pytest

from efficientnet_tpu.commands.table import COMMANDS, takes
from efficientnet_tpu.config.config import (
    OPTIONS,
    RUN_SECTIONS,
    Config,
    command_line,
    options_of,
    run_options,
    sections,
    training_options,
    with_current_names,
    with_options,
)
from efficientnet_tpu.config.option import LIMITS
from efficientnet_tpu.errors import UserError, nearest


def each(options):
    """A test for every one of the options, named after it."""
    return pytest.mark.parametrize("option", list(options), ids=lambda option: option.name)


def limits_of(option):
    return {kind: getattr(option, kind) for kind in LIMITS if getattr(option, kind) is not None}


def outside(option):
    """A value just past every numeric limit of an option, with the words that must refuse it."""
    past = {
        "minimum": (lambda limit: limit - 1, "at least"),
        "above": (lambda limit: limit, "greater than"),
        "maximum": (lambda limit: limit + 1, "at most"),
        "below": (lambda limit: limit, "less than"),
    }
    return [(past[kind][0](limit), f"{past[kind][1]} {limit}") for kind, limit in limits_of(option).items()]


def inside(option):
    """The limits themselves, where they belong to what is allowed."""
    return [limit for kind, limit in limits_of(option).items() if kind in ("minimum", "maximum")]


def test_every_option_has_help():
    assert [name for name, option in OPTIONS.items() if not option.help] == []


def test_every_option_is_the_field_of_its_section():
    fields = [(name, field) for name, section in sections().items() for field in dataclasses.fields(section)]
    assert [(section, field.name, field.default) for section, field in fields] == [
        (option.section, option.name, option.default) for option in OPTIONS.values()
    ]
    assert [name for name, option in OPTIONS.items() if option.name != name] == []


def test_every_section_has_a_heading_and_is_frozen():
    for section in sections().values():
        assert section.__doc__
        assert "\n" not in section.__doc__
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section(), dataclasses.fields(section)[0].name, None)


def test_no_flag_belongs_to_two_sections():
    names = [field.name for section in sections().values() for field in dataclasses.fields(section)]
    names += [option.alias for option in OPTIONS.values() if option.alias]
    assert len(names) == len(set(names))
    # absl and the command line own these.
    assert not set(names) & {"help", "helpfull", "version", "flagfile", "undefok"}


def test_a_flag_does_not_shadow_the_negation_of_another():
    assert not {f"no{name}" for name in OPTIONS} & OPTIONS.keys()


def test_defaults_keep_the_limits():
    for option in OPTIONS.values():
        option.check(option.default)


@each(option for option in OPTIONS.values() if limits_of(option))
def test_limits(option):
    for value, words in outside(option):
        with pytest.raises(UserError, match=re.escape(f"--{option.name}={value}: must be {words}.")):
            with_options(Config(), {option.name: value})
    for value in inside(option):
        assert options_of(with_options(Config(), {option.name: value}))[option.name] == value


@each(option for option in OPTIONS.values() if float in option.kinds)
def test_nan_is_refused(option):
    with pytest.raises(UserError, match=rf"^--{option.name}=nan: must be "):
        with_options(Config(), {option.name: float("nan")})


@each(option for option in OPTIONS.values() if option.choices)
def test_choices(option):
    choices = option.choices
    assert option.default in choices
    for choice in choices:
        assert options_of(with_options(Config(), {option.name: choice}))[option.name] == choice
    with pytest.raises(UserError) as error:
        with_options(Config(), {option.name: choices[0] + "x"})
    message = str(error.value)
    assert message.startswith(f"--{option.name}={choices[0]}x: ")
    assert all(choice in message for choice in choices)
    assert message.endswith(f"Did you mean {choices[0]}?")


@each(option for option in OPTIONS.values() if option.before)
def test_what_earlier_versions_did_is_a_value_of_today(option):
    option.check(option.before[0])
    assert option.before[0] != option.default


@pytest.mark.parametrize("text", ["white", "BLACK", "#fc0", "#ffcc00", "none"])
def test_colors(text):
    assert with_options(Config(), {"background": text}).data.background == text


@pytest.mark.parametrize("text", ["", "whit", "#ff", "ffcc00", "rgb(1,2,3)"])
def test_other_words_are_no_colors(text):
    with pytest.raises(UserError, match=rf"^--background={re.escape(text)}: must be a color's name"):
        with_options(Config(), {"background": text})


def test_unknown_option():
    with pytest.raises(UserError, match=r"^--train_batchsize: no such flag\. Did you mean --train_batch_size\?$"):
        with_options(Config(), {"train_batchsize": 8})


def test_options_go_to_their_section_and_leave_the_rest():
    config = with_options(Config(), {"model": "efficientnet-b3", "train_batch_size": 8})
    assert config.model.model == "efficientnet-b3"
    assert config.train.train_batch_size == 8
    assert config.data == Config().data
    assert dataclasses.replace(config.train, train_batch_size=None) == Config().train
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
    assert set(stored) == OPTIONS.keys()
    assert with_options(Config(), stored) == config


def test_a_command_line_says_what_is_not_at_its_default():
    options = {"seed": 3, "horizontal_flip": False, "print": True, "train_epochs": 350.0, "resolution": None}
    assert command_line(options) == ["--seed=3", "--nohorizontal_flip", "--print"]


def test_a_run_is_defined_by_its_own_sections():
    stored = run_options(Config())
    assert {"model_dir", "seed", "model", "data_dir", "tpu", "optimizer", "checkpoint"} <= stored.keys()
    assert not {"grid_step", "top_k", "print", "table", "output_dir", "tf1_weights"} & stored.keys()
    assert len(stored) == sum(len(dataclasses.fields(sections()[name])) for name in RUN_SECTIONS)


def test_a_training_takes_its_options():
    assert training_options(Config()).keys() == {name for name in OPTIONS if takes("train_and_eval", OPTIONS[name])}


def test_every_option_belongs_to_commands_that_exist():
    for option in OPTIONS.values():
        assert set(option.commands) <= COMMANDS.keys(), option.name
        # One home each: a command's own options name their commands, a run's are taken with their section.
        assert bool(option.commands) or option.section in RUN_SECTIONS, option.name
        redundant = [name for name in option.commands if option.section in COMMANDS[name].sections]
        assert not redundant, f"{option.name}: {redundant} take its section"


def test_none_keeps_the_models_own_value():
    assert with_options(Config(), {"resolution": None}) == Config()


def test_nearest_is_silent_when_nothing_is_near():
    assert nearest("evalute", ["train", "evaluate"]) == " Did you mean evaluate?"
    assert nearest("zebra", ["train", "evaluate"]) == ""


def test_user_errors_are_value_errors():
    assert issubclass(UserError, ValueError)


def test_renamed_flags_are_understood_in_what_earlier_versions_wrote():
    assert (
        with_current_names('--baseline={"name": "--baseline"} --seed=1')
        == '--stage_table={"name": "--baseline"} --seed=1'
    )


def test_what_may_hold_a_password_is_never_stored():
    secret = [option for option in OPTIONS.values() if option.secret]
    assert [option.name for option in secret] == ["study_storage"]
    assert not {option.section for option in secret} & set(RUN_SECTIONS)


@pytest.mark.parametrize("value", [2**63, -(2**63), 10**400])
def test_integers_that_no_program_takes_are_refused(value):
    for name in ("keep_checkpoints", "base_learning_rate"):
        with pytest.raises(UserError, match=f"--{name}=.*: must be below 9,223,372,036,854,775,808"):
            with_options(Config(), {name: value})


@pytest.mark.parametrize("value", ["a\0b", "caf\udce9"])
def test_what_no_file_system_of_tensorflow_takes_is_refused(value):
    with pytest.raises(UserError, match=r"--model_dir=.*\\x(00b|e9): must be UTF-8"):
        with_options(Config(), {"model_dir": value})


def test_messages_hold_values_on_one_line_without_their_passwords():
    with pytest.raises(UserError) as error:
        with_options(Config(), {"augment": "a\n\x1b[2J x://me:word@host" + "x" * 10**6})
    message = str(error.value)
    assert message.startswith(r"--augment=a\n\x1b[2J x://me:***@host")
    assert len(message) < 500
