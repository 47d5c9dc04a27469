"""`main.py scaling-study`: trains a base network and its scaled versions, several seeds of each, and compares them.

Every finished trial is a line of trials.jsonl in --output_dir. The same command continues a study that was stopped.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from efficientnet_tpu.studies.trial import Outcome

TRIALS = "trials.jsonl"
_RECIPE_SECTIONS = ("model", "data", "train", "eval")


@dataclass(frozen=True)
class Training:
    """A training of a study: a network, named by the way it was scaled, and a seed.

    config: how it is trained, with another network and seed. recipe: what it has in common with the study's others.
    """

    way: str
    seed: int
    variant: Variant
    config: Config
    recipe: str

    def run(self, directory: str, num_classes: int, stop: Event) -> TrialResult:
        """Trains in a folder of `directory`, as `trial.run` does, and returns the result."""
        scaled = with_options(self.config, scaled_options(self.variant) | {"seed": self.seed})
        outcome = trial.run(scaled, os.path.join(directory, f"{self.way}-{self.seed}"), stop)
        return self.result(outcome, num_classes)

    def result(self, outcome: Outcome, num_classes: int) -> TrialResult:
        """Returns the line of trials.jsonl for an outcome."""
        cost = scaling_study.count_network(self.variant, num_classes)
        return TrialResult(
            self.way,
            self.seed,
            self.variant.width_coefficient,
            self.variant.depth_coefficient,
            self.variant.resolution,
            cost.multiply_adds,
            cost.trainable_params,
            outcome.top_1,
            round(outcome.cpu_seconds, 1),
            self.recipe,
            outcome.chosen_by,
        )


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
        wanted = list_trainings(config, networks, study.study_seeds)
        missing = find_missing(wanted, output_dir)
        print(f"{name}: {len(wanted)} trials, {len(missing)} of them to be trained", flush=True)
        for number, row in enumerate(train(config, missing, output_dir, num_classes), start=1):
            print(f"{describe(row)}; {number} of {len(missing)}", flush=True)
        rows = [row for row in load(output_dir) if row.seed < study.study_seeds]
        title = f"{name} scaled to {study.study_flops_factor:g} times its multiply-adds"
        reproduce.show(scaling_study.make_table(rows, title), scaling_study.make_figure(rows, title), output_dir)


def list_trainings(config: Config, networks: Mapping[str, Variant], num_seeds: int) -> list[Training]:
    """Returns the trainings of networks by the flags of `config`, with seeds 0, 1, ...

    One seed of every network comes before the next, so that an unfinished study can be compared at any time.
    """
    recipe = describe_recipe(config)
    return [Training(way, seed, networks[way], config, recipe) for seed in range(num_seeds) for way in networks]


def find_missing(wanted: Sequence[Training], directory: str) -> list[Training]:
    """Returns the trainings that have no result in a directory. Raises UserError if it has those of another study."""
    path = os.path.join(directory, TRIALS)
    done = {(row.way, row.seed): row for row in load(directory)}
    for training in wanted:
        row, network = done.get((training.way, training.seed)), training.variant
        if row is None:
            continue
        if with_current_names(row.recipe) != training.recipe:
            raise UserError(f"{path}: holds trials of another recipe, {row.recipe}. Choose another --output_dir.")
        before = (row.width_coefficient, row.depth_coefficient, row.resolution)
        if before != (network.width_coefficient, network.depth_coefficient, network.resolution):
            raise UserError(
                f"{path}: holds trials of {row.way} with width, depth and resolution {before}, other than now. "
                "Choose another --output_dir."
            )
    return [training for training in wanted if (training.way, training.seed) not in done]


def load(directory: str) -> list[TrialResult]:
    """Returns the results in a directory, none where there is no file of them."""
    path = os.path.join(directory, TRIALS)
    if not os.path.exists(path):
        return []
    found = json_lines.parse(read_bytes(path, path), scaling_study.from_json)
    if found.damaged:  # trials that have ended are read from their directories
        print(found.damage(path), flush=True)
    return found.entries


def train(config: Config, trainings: Sequence[Training], directory: str, num_classes: int) -> Iterator[TrialResult]:
    """Runs trainings in a directory, --study_workers at a time; yields each result when it is stored there."""
    tasks = [partial(training.run, directory, num_classes) for training in trainings]
    for row in trial.run_all(tasks, config.study.study_workers):
        store(config, row, directory)
        yield row


def store(config: Config, row: TrialResult, directory: str) -> None:
    """Adds a result to those of a directory, in place of one of the same training. `config` names what is locked."""
    from efficientnet_tpu.storage import directory_lock
    from efficientnet_tpu.storage.atomic_write import write_atomically

    others = [one for one in load(directory) if (one.way, one.seed) != (row.way, row.seed)]
    with explained_write_errors(f"--output_dir={config.output.output_dir}"):
        directory_lock.require_ours(config.output.output_dir)
        lines = "".join(map(scaling_study.to_line, [*others, row]))
        write_atomically(os.path.join(directory, TRIALS), lines)


def describe(row: TrialResult) -> str:
    """Returns a line of progress on a result, with the time of day."""
    return (
        f"{time.strftime('%H:%M')}  {row.way}, seed {row.seed}: top-1 {row.top_1:.2%}, "
        f"{row.multiply_adds / 1e6:.2f} M multiply-adds, {row.cpu_seconds / 60:.1f} CPU minutes"
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
