"""Every option of the program, in frozen sections; each field is one command-line flag.

`cli` derives the flags from the sections, `run_record` stores those of a run, and everything below takes a section or
plain values.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.config.cloud import LaunchConfig, PlanConfig
from efficientnet_tpu.config.commands import BenchmarkConfig, DoctorConfig, OutputConfig, VerifyConfig, WeightsConfig
from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.config.flag_suggestions import suggested_flag
from efficientnet_tpu.config.option import Option
from efficientnet_tpu.config.run import EvalConfig, HardwareConfig, ModelConfig, RunConfig
from efficientnet_tpu.config.studies import SearchConfig, StudyConfig
from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.errors import UserError


@dataclass(frozen=True)
class Config:
    """A run and what a command is asked. Each section's docstring is its heading in `COMMAND --help`."""

    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    hardware: HardwareConfig = dataclasses.field(default_factory=HardwareConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)
    verify: VerifyConfig = dataclasses.field(default_factory=VerifyConfig)
    weights: WeightsConfig = dataclasses.field(default_factory=WeightsConfig)
    launch: LaunchConfig = dataclasses.field(default_factory=LaunchConfig)
    doctor: DoctorConfig = dataclasses.field(default_factory=DoctorConfig)
    benchmark: BenchmarkConfig = dataclasses.field(default_factory=BenchmarkConfig)
    plan: PlanConfig = dataclasses.field(default_factory=PlanConfig)
    study: StudyConfig = dataclasses.field(default_factory=StudyConfig)
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)


# What a run is, and run.json stores. The other sections are what one command is asked.
RUN_SECTIONS = ("run", "model", "data", "hardware", "train", "eval")


def sections() -> dict[str, type]:
    """Returns name and class of every section, in the order of `--helpfull`."""
    return typing.get_type_hints(Config)


def _named_options() -> dict[str, Option]:
    options = {}
    for section_name, section in sections().items():
        annotations = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            annotation = annotations[field.name]
            # float | None has two types, float is its own.
            kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
            options[field.name] = dataclasses.replace(
                field.metadata["option"], name=field.name, section=section_name, kinds=kinds
            )
    return options


# Every option by flag name, in the order of `--helpfull`.
OPTIONS = _named_options()


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """Returns `config` with the named options (flag names, in whatever section) replaced and checked.

    Raises UserError for an unknown name or a value outside its limits.
    """
    unknown = sorted(options.keys() - OPTIONS.keys())
    if unknown:
        raise UserError(f"--{unknown[0]}: no such flag.{suggested_flag(unknown[0], OPTIONS)}")
    changes: dict[str, dict[str, Any]] = {}
    for name, option in OPTIONS.items():
        if name in options:
            option.check(options[name])
            changes.setdefault(option.section, {})[name] = options[name]
    changed = {section: dataclasses.replace(getattr(config, section), **new) for section, new in changes.items()}
    return dataclasses.replace(config, **changed)


def options_of(config: Config) -> dict[str, Any]:
    """Returns every option of a config by flag name: the inverse of `with_options`, ready for JSON."""
    return {name: getattr(getattr(config, option.section), name) for name, option in OPTIONS.items()}


def run_options(config: Config) -> dict[str, Any]:
    """Returns the options that define the run, by flag name: those that run.json stores."""
    return {name: value for name, value in options_of(config).items() if OPTIONS[name].section in RUN_SECTIONS}


def training_options(config: Config) -> dict[str, Any]:
    """Returns the options that the command `train_and_eval` takes, by flag name."""
    return run_options(config) | {
        name: value for name, value in options_of(config).items() if "train_and_eval" in OPTIONS[name].commands
    }


def with_current_names(flags: str) -> str:
    """Returns a text of flags that an earlier version wrote, with those renamed since under their names of today."""
    for name, option in OPTIONS.items():
        if option.alias:
            flags = re.sub(rf"(?<!\S)--{option.alias}=", f"--{name}=", flags)
    return flags


def command_line(options: Mapping[str, Any]) -> list[str]:
    """Returns the flags that say `options`; those at their default are left out."""
    given = {name: value for name, value in options.items() if value != OPTIONS[name].default}
    return [
        f"--{'' if value else 'no'}{name}" if isinstance(value, bool) else f"--{name}={value}"
        for name, value in given.items()
    ]
