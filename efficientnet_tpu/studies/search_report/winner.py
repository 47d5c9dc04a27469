"""The best network of a search as files that the other commands take: a table of stages, and flags that train it."""

import json
from dataclasses import dataclass

from efficientnet_tpu.config.config import Config, command_line, with_options
from efficientnet_tpu.installation import program
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Variant
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.configured import network_options
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.studies.run_scaling_study import recipe_options
from efficientnet_tpu.studies.search.space import encode
from efficientnet_tpu.studies.search_report.searches import Search


@dataclass(frozen=True)
class WinnerFiles:
    """The files of a winner, and the commands that take them. name: of both files, without their endings."""

    name: str
    table: str
    flags: str
    commands: tuple[str, ...]


def make_files(search: Search, path: str) -> WinnerFiles:
    """Returns the files of a search's winner, which will be at `path` with .json and .flags at its end."""
    trial, facts = search.winner, search.facts
    name = f"winner-{search.label}"
    variant = facts.space.variant(trial.network)
    options = network_options(name, variant)
    table = json.loads(options.pop("stage_table"))
    stages = ",\n".join(f"  {json.dumps(stage)}" for stage in table.pop("stages"))
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in table.items())
    # What a table cannot say.
    others = command_line(options)
    commands = tuple(
        " ".join([program(), *words])
        for words in (
            [f"--flagfile={path}.flags", "--data_dir=...", "--model_dir=..."],
            ["scale", f"--stage_table={path}.json", *others, f"--budget_flops={_twice(variant):.4g}"],
            ["plan", f"--stage_table={path}.json", *others, f"--num_classes={facts.num_classes}", "--tpu_type=v5e-8"],
        )
    )
    flags = [
        f"# The best network of {search.label}: trial {trial.number}, {encode(trial.network)}, accuracy "
        f"{trial.accuracy:.2%}, reward {trial.reward:.4f},",
        f"# {trial.multiply_adds:,} multiply-adds, {trial.params:,} parameters with {facts.num_classes} classes.",
        "# Trained as the trials were; for more epochs give --train_epochs behind --flagfile. Its table of stages by",
        f"# itself is in {name}.json.",
        "#",
        f"#   {commands[0]}",
        *command_line(_training_options(facts.config, name, variant)),
    ]
    return WinnerFiles(
        name, f'{{\n{head} "stages": [\n{stages}\n ]\n}}\n', "".join(f"{line}\n" for line in flags), commands
    )


def _training_options(config: Config, name: str, variant: Variant) -> dict[str, object]:
    """Returns the options that train a network as the trials of a search were trained, by flag name."""
    options = recipe_options(with_options(config, network_options(name, variant)))
    return {flag: value for flag, value in options.items() if flag != "model"}  # the table is in its place


def _twice(variant: Variant) -> float:
    """Returns twice the multiply-adds that `scale` counts: the paper's phi = 1."""
    return 2.0 * count(scale("", variant, NUM_IMAGENET_CLASSES)).multiply_adds
