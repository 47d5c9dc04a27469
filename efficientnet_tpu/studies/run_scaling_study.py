"""`main.py scaling-study`: trains a base network and its scaled versions, several seeds of each, and compares them.

Every finished trial is a line of trials.jsonl in --output_dir. The same command continues a study that was stopped.
"""

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from threading import Event
from typing import Any

from efficientnet_tpu.config.config import OPTIONS, Config, options_of, with_current_names, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.models.architecture import Variant
from efficientnet_tpu.models.compound_scaling import Coefficients
from efficientnet_tpu.models.configured import configured_architecture, configured_variant, scaled_options
from efficientnet_tpu.paper import reproduce
from efficientnet_tpu.storage import json_lines
from efficientnet_tpu.storage.text_file import read_bytes
from efficientnet_tpu.storage.write_errors import explained_write_errors
from efficientnet_tpu.studies import scaling_study, trial
from efficientnet_tpu.studies.scaling_study import TrialResult

TRIALS = "trials.jsonl"
_RECIPE_SECTIONS = ("model", "data", "train", "eval")


def run(config: Config) -> None:
    """Trains the missing trials and prints their results, then prints and writes the table and the plot."""
    study, output_dir = config.study, config.output.output_dir
    with trial.study_directory(output_dir):
        num_classes = find_num_classes(config)
        networks = scaling_study.scale_ways(
            configured_variant(config.model),
            study.study_flops_factor,
            Coefficients(study.alpha, study.beta, study.gamma),
            num_classes,
        )
        name = configured_architecture(config.model, num_classes).name
        path, recipe = os.path.join(output_dir, TRIALS), describe_recipe(config)
        rows = load(path)
        _require_same(rows, recipe, networks, path)
        done = {(row.way, row.seed) for row in rows}
        # One seed of every way before the next, so that an unfinished study can be compared at any time.
        wanted = [(way, seed) for seed in range(study.study_seeds) for way in networks]
        missing = [one for one in wanted if one not in done]
        print(f"{name}: {len(wanted)} trials, {len(missing)} of them to be trained", flush=True)
        _train(config, networks, missing, num_classes, path)
        rows = [row for row in load(path) if row.seed < study.study_seeds]
        title = f"{name} scaled to {study.study_flops_factor:g} times its multiply-adds"
        reproduce.show(scaling_study.make_table(rows, title), scaling_study.make_figure(rows, title), output_dir)


def _require_same(rows: Sequence[TrialResult], recipe: str, networks: Mapping[str, Variant], path: str) -> None:
    """Raises UserError if the file holds trials of another study."""
    for row in rows:
        if with_current_names(row.recipe) != recipe:
            raise UserError(f"{path}: holds trials of another recipe, {row.recipe}. Choose another --output_dir.")
        network = networks[row.way]
        before = (row.width_coefficient, row.depth_coefficient, row.resolution)
        if before != (network.width_coefficient, network.depth_coefficient, network.resolution):
            raise UserError(
                f"{path}: holds trials of {row.way} with width, depth and resolution {before}, other than now. "
                "Choose another --output_dir."
            )


def load(path: str) -> list[TrialResult]:
    """Returns the trials in a file, none if there is no file."""
    if not os.path.exists(path):
        return []
    found = json_lines.parse(read_bytes(path, path), scaling_study.from_json)
    if found.damaged:  # trials that have ended are read from their directories
        print(found.damage(path), flush=True)
    return found.entries


def _train(
    config: Config, networks: dict[str, Variant], missing: list[tuple[str, int]], num_classes: int, path: str
) -> None:
    """Runs the trials, --study_workers at a time, and stores and prints each result."""
    from efficientnet_tpu.storage import directory_lock
    from efficientnet_tpu.storage.atomic_write import write_atomically

    tasks = [partial(_run_trial, config, networks[way], way, seed, num_classes) for way, seed in missing]
    for number, row in enumerate(trial.run_all(tasks, config.study.study_workers), start=1):
        with explained_write_errors(f"--output_dir={config.output.output_dir}"):
            directory_lock.require_ours(config.output.output_dir)
            write_atomically(path, "".join(f"{scaling_study.to_json(one)}\n" for one in [*load(path), row]))
        print(
            f"{time.strftime('%H:%M')}  {row.way}, seed {row.seed}: top-1 {row.top_1:.2%}, "
            f"{row.multiply_adds / 1e6:.2f} M multiply-adds, {row.cpu_seconds / 60:.1f} CPU minutes; "
            f"{number} of {len(missing)}",
            flush=True,
        )


def _run_trial(config: Config, variant: Variant, way: str, seed: int, num_classes: int, stop: Event) -> TrialResult:
    model_dir = os.path.join(config.output.output_dir, f"{way}-{seed}")
    scaled = with_options(config, scaled_options(variant) | {"seed": seed})
    outcome = trial.run(scaled, model_dir, stop)
    cost = scaling_study.count_network(variant, num_classes)
    return TrialResult(
        way,
        seed,
        variant.width_coefficient,
        variant.depth_coefficient,
        variant.resolution,
        cost.multiply_adds,
        cost.trainable_params,
        outcome.top_1,
        round(outcome.cpu_seconds, 1),
        describe_recipe(config),
    )


def describe_recipe(config: Config) -> str:
    """Returns the flags that all trials share, without those at their default.

    What scaling computes differs between trials.
    """
    return " ".join(
        f"--{name}={value}"
        for name, value in recipe_options(config).items()
        if not OPTIONS[name].scaled and value != OPTIONS[name].default
    )


def recipe_options(config: Config) -> dict[str, Any]:
    """Returns the options that say how a network is trained on which data, by flag name.

    The directory of the images may differ between hosts.
    """
    return {
        name: value
        for name, value in options_of(config).items()
        if OPTIONS[name].section in _RECIPE_SECTIONS and not OPTIONS[name].per_host
    }


def find_num_classes(config: Config) -> int:
    """Returns the number of classes of the data set, without reading an image."""
    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.data import datasets

    return len(datasets.open_data(config.data).label_names)
