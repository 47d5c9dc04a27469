"""`main.py paper-miniature`: the paper's chain on a small base and real images, from the grid to transfer.

STEP 1, the grid of alpha, beta and gamma, and the best of it by several seeds; STEP 2, the base scaled by them and in
each dimension alone at equal cost; transfer of the base and the largest compound network; one page. Every training has
a folder in --output_dir and, when it has ended, a line in trials.jsonl: the same command continues what was stopped.
"""

import dataclasses
import functools
import os
import threading
from collections.abc import Mapping, Sequence

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.models.architecture import Variant
from efficientnet_tpu.models.configured import scaled_options
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, read_log
from efficientnet_tpu.storage.durable import make_directories
from efficientnet_tpu.storage.write_errors import explained_write_errors
from efficientnet_tpu.studies import run_grid_search, run_scaling_study, shared_study, trial
from efficientnet_tpu.studies.grid_search import Candidate
from efficientnet_tpu.studies.miniature import networks
from efficientnet_tpu.studies.miniature.chain import GRID, LONGER_FACTOR, SCALING, TRANSFER, Chain, open_chain
from efficientnet_tpu.studies.miniature.hours import Work
from efficientnet_tpu.studies.miniature.networks import FINE_TUNED, FROM_SCRATCH, LONGER, SINGLE, scaled_name
from efficientnet_tpu.studies.miniature.progress import Progress
from efficientnet_tpu.studies.run_scaling_study import Training, describe_recipe, find_missing
from efficientnet_tpu.studies.scaling_study import BASE, COMPOUND, count_network
from efficientnet_tpu.studies.trial import Outcome

TIMING = "timing"  # a folder of --output_dir, as those of the steps are
TIMED_STEPS = 40


def run(config: Config) -> None:
    """Trains what is missing, step by step, and writes the page."""
    shared_study.require_usable(config, "paper-miniature")
    output_dir = config.output.output_dir
    with trial.study_directory(output_dir):
        chain = open_chain(config)
        with explained_write_errors(f"--output_dir={output_dir}"):
            for step in (GRID, SCALING, TRANSFER, TIMING):
                make_directories(chain.folder(step))
        progress = make_progress(chain)
        print(f"{chain.name}: {progress.describe()}", flush=True)
        step_1(chain, progress)
        best = networks.best_finalist(chain.finalist_rows())
        coefficients = next(one.coefficients[0] for one in chain.candidates if one.name == best)
        study = config.study
        found = networks.scaled_networks(chain.base, coefficients, study.study_phi, chain.num_classes)
        train(chain, progress, SCALING, scaling_trainings(chain, found))
        if chain.transfer_config:
            compound = found[scaled_name(COMPOUND, study.study_phi)]
            train(chain, progress, TRANSFER, transfer_trainings(chain, compound))
        from efficientnet_tpu.studies.miniature import miniature_report

        miniature_report.write(chain)


def make_progress(chain: Chain) -> Progress:
    """Returns what is left, by the files of --output_dir; speeds are measured where no training has ended."""
    study, base_cost = chain.config.study, count_network(chain.base, chain.num_classes).multiply_adds
    rows = {step: chain.rows(step) for step in (GRID, SCALING, TRANSFER)}
    done = {step: {(row.way, row.seed) for row in found} for step, found in rows.items()}
    first = chain.seeds(GRID)[0]

    def works(step: str, costs: dict[str, float]) -> list[Work]:
        """Returns the work of the trainings of networks, by name, that have no result."""
        names = [name for name in costs for seed in chain.seeds(step) if (name, seed) not in done[step]]
        return [Work(costs[name], chain.images(step, name)) for name in names]

    grid = {one.name: one.cost.multiply_adds for one in chain.candidates}
    ranked_by = [Work(cost, chain.images(GRID)) for name, cost in grid.items() if (name, first) not in done[GRID]]
    num_finalists = min(study.grid_finalists, len(grid)) * (study.study_seeds - 1)
    num_finalists -= sum(seed != first for _, seed in done[GRID])
    ranked_by += [Work(2.0 * base_cost, chain.images(GRID))] * max(0, num_finalists)
    phis = range(1, study.study_phi + 1)
    costs = {BASE: 1.0, LONGER: 1.0} | {scaled_name(way, phi): 2.0**phi for phi in phis for way in (*SINGLE, COMPOUND)}
    left = {GRID: ranked_by, SCALING: works(SCALING, {name: factor * base_cost for name, factor in costs.items()})}
    if chain.transfer_config:
        larger = base_cost * study.transfer_resolution_factor**2
        by_name = {BASE: larger, COMPOUND: 2.0**study.study_phi * larger}
        left[TRANSFER] = works(
            TRANSFER, {f"{name}-{how}": cost for name, cost in by_name.items() for how in (FINE_TUNED, FROM_SCRATCH)}
        )
    # Those of transfer are short, and most of their time is the start.
    measured = [
        (Work(row.multiply_adds, chain.images(step, row.way)), row.cpu_seconds)
        for step in (GRID, SCALING)
        for row in rows[step]
    ]
    num_done = sum(map(len, rows.values()))
    if any(left.values()) and not measured:
        measured = list(_time_steps(chain))
    return Progress(measured, left, num_done, study.study_workers)


def _time_steps(chain: Chain) -> Sequence[tuple[Work, float]]:
    """Trains the base and the deepest network for a few steps. Returns images and the seconds that these took."""
    study, batch = chain.config.study, chain.config.train.batch_size
    deepest = dataclasses.replace(chain.base, depth_coefficient=chain.base.depth_coefficient * 2.0**study.study_phi)
    print(f"measuring {TIMED_STEPS} steps of two networks", flush=True)
    epochs = TIMED_STEPS * batch / chain.num_images
    short = with_options(chain.config, {"train_epochs": epochs, "lr_warmup_epochs": 0.0, "epochs_per_eval": epochs})
    named = {"base": chain.base, "deepest": deepest}
    folders = {name: os.path.join(chain.folder(TIMING), name) for name in named}
    tasks = [
        functools.partial(trial.run, with_options(short, scaled_options(variant)), folders[name])
        for name, variant in named.items()
    ]
    # As many at a time as later: they share the memory and the cores.
    for _ in trial.run_all(tasks, study.study_workers):
        pass
    found = []
    for name, variant in named.items():
        entries = read_log(os.path.join(folders[name], LOG_JSONL)).entries
        speeds = [entry["images_per_second"] for entry in entries if "images_per_second" in entry]
        if speeds:
            work = Work(count_network(variant, chain.num_classes).multiply_adds, TIMED_STEPS * batch)
            found.append((work, work.images / speeds[-1]))
    return found


def step_1(chain: Chain, progress: Progress) -> None:
    """Trains the grid, each candidate by one seed, and the best of it by --study_seeds."""
    config, seeds = chain.config, chain.seeds(GRID)
    directory, lock, recipe = chain.folder(GRID), threading.Lock(), describe_recipe(config)

    def training(candidate: Candidate, seed: int) -> Training:
        rate = candidate.variant.dropout_rate  # as the grid search trains it
        trained = with_options(config, {"dropout_rate": rate})
        return Training(candidate.name, seed, candidate.variant, trained, recipe)

    def report(candidate: Candidate, outcome: Outcome) -> None:
        row = training(candidate, seeds[0]).result(outcome, chain.num_classes)
        with lock:  # called by several workers
            run_scaling_study.store(config, row, directory)
        progress.on_result(GRID, row, chain.images(GRID))

    grid_config = with_options(config, {"output_dir": directory, "seed": seeds[0]})
    ranked = run_grid_search.train_candidates(grid_config, chain.candidates, report)
    best = [candidate for candidate, _ in ranked[: config.study.grid_finalists]]
    train(chain, progress, GRID, [training(candidate, seed) for seed in seeds for candidate in best])


def train(chain: Chain, progress: Progress, step: str, wanted: Sequence[Training]) -> None:
    """Trains what has no result in a step's folder."""
    missing = find_missing(wanted, chain.folder(step))
    classes = chain.classes(step)
    progress.begin(
        step, [Work(count_network(one.variant, classes).multiply_adds, chain.images(step, one.way)) for one in missing]
    )
    for row in run_scaling_study.train(chain.config, missing, chain.folder(step), classes):
        progress.on_result(step, row, chain.images(step, row.way))


def scaling_trainings(chain: Chain, found: Mapping[str, Variant]) -> list[Training]:
    """Returns STEP 2's trainings, one seed of all networks after the other, and those of the base for longer."""
    config, num_seeds = chain.config, chain.config.study.study_seeds
    epochs = config.train.train_epochs * LONGER_FACTOR
    longer = with_options(config, {"train_epochs": epochs, "epochs_per_eval": epochs})
    trainings = run_scaling_study.list_trainings(config, found, num_seeds)
    return trainings + run_scaling_study.list_trainings(longer, {LONGER: chain.base}, num_seeds)


def transfer_trainings(chain: Chain, compound: Variant) -> list[Training]:
    """Returns the trainings on other images, of the base and the compound network, each from the weights of STEP 2's
    training by the same seed and, for comparison, from scratch.
    """
    assert chain.transfer_config
    config, study = chain.transfer_config, chain.config.study
    recipe, found = describe_recipe(config), []
    for seed in range(study.study_seeds):
        for name, trained, variant in (
            (BASE, BASE, chain.base),
            (COMPOUND, scaled_name(COMPOUND, study.study_phi), compound),
        ):
            resolution = round(variant.resolution * study.transfer_resolution_factor)
            larger = dataclasses.replace(variant, resolution=resolution)
            weights = os.path.join(chain.folder(SCALING), f"{trained}-{seed}")
            tuned = with_options(config, {"init_from": weights, "base_learning_rate": study.transfer_learning_rate})
            # The place of the weights is no part of the recipe: --output_dir may be moved.
            tuned_recipe = describe_recipe(with_options(tuned, {"init_from": ""}))
            found.append(Training(f"{name}-{FINE_TUNED}", seed, larger, tuned, tuned_recipe))
            found.append(Training(f"{name}-{FROM_SCRATCH}", seed, larger, config, recipe))
    return found
