"""Every option of the program, in frozen sections; each field is one command-line flag.

`cli` derives the flags from the sections, `run_record` stores those of a run, and everything below takes a section or
plain values.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.config.commands import (
    LaunchConfig,
    OutputConfig,
    PlanConfig,
    StudyConfig,
    VerifyConfig,
    WeightsConfig,
)
from efficientnet_tpu.config.option import check_limits, check_type
from efficientnet_tpu.config.run import DataConfig, EvalConfig, HardwareConfig, ModelConfig, RunConfig, TrainConfig
from efficientnet_tpu.errors import UserError, nearest


@dataclass(frozen=True)
class Config:
    """A whole run. Sections are grouped as `--help` prints them; their docstring is the heading."""

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
    plan: PlanConfig = dataclasses.field(default_factory=PlanConfig)
    study: StudyConfig = dataclasses.field(default_factory=StudyConfig)


def sections() -> dict[str, type]:
    """Name and class of every section, in the order of `--help`."""
    return typing.get_type_hints(Config)


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """`config` with the named options (flag names, in whatever section) replaced and checked.

    Raises UserError for an unknown name or a value outside its limits.
    """
    changes = {}
    known: set[str] = set()
    for section_name, section in sections().items():
        fields = {field.name: field for field in dataclasses.fields(section)}
        kinds = typing.get_type_hints(section)
        known |= fields.keys()
        values = {name: value for name, value in options.items() if name in fields}
        for name, value in values.items():
            check_type(name, value, kinds[name])
            check_limits(name, value, fields[name].metadata)
        changes[section_name] = dataclasses.replace(getattr(config, section_name), **values)
    unknown = sorted(options.keys() - known)
    if unknown:
        raise UserError(f"--{unknown[0]}: no such flag.{nearest(unknown[0], known)}")
    return dataclasses.replace(config, **changes)


def options_of(config: Config) -> dict[str, Any]:
    """Every option of a config by flag name: the inverse of `with_options`, ready for JSON."""
    return {name: value for section in sections() for name, value in vars(getattr(config, section)).items()}
