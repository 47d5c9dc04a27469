"""`main.py scaling-study`: trains a base network and it scaled in every way, several seeds of each, and compares them.

Every finished trial is a line of trials.jsonl in --output_dir. The same command goes on where it was stopped.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from efficientnet_tpu import startup
from efficientnet_tpu.config import Config, UserError, options_of, with_options
from efficientnet_tpu.models.architecture import Variant
from efficientnet_tpu.models.compound_scaling import Coefficients, name_of, variant_of
from efficientnet_tpu.studies import reproduce, scaling_study, trial
from efficientnet_tpu.studies.scaling_study import Row

TRIALS = "trials.jsonl"
# Flags that say where and how a study runs, not what a trial is.
_NOT_OF_THE_RECIPE = {"model_dir", "data_dir", "output_dir", "seed", "width_coefficient", "depth_coefficient"} | {
    *("resolution", "intra_op_threads", "study_seeds", "study_workers", "study_flops_factor", "alpha", "beta", "gamma")
}


def run(config: Config) -> None:
    """Trains what is missing, printing each result; then prints and writes the table and the plot."""
    study, output_dir = config.study, config.output.output_dir
    if "://" in output_dir:
        raise UserError(f"--output_dir={output_dir}: must be a local directory; trials run on this machine.")
    reproduce.require_matplotlib(output_dir)
    num_classes = _num_classes(config)
    networks = scaling_study.ways(
        variant_of(config.model),
        study.study_flops_factor,
        Coefficients(study.alpha, study.beta, study.gamma),
        num_classes,
    )
    os.makedirs(output_dir, exist_ok=True)
    path, recipe = os.path.join(output_dir, TRIALS), _recipe(config)
    rows = load(path)
    if other := next((row for row in rows if row.recipe != recipe), None):
        raise UserError(f"{path}: holds trials of another recipe, {other.recipe}. Choose another --output_dir.")
    done = {(row.way, row.seed) for row in rows}
    # One seed of every way before the next: what there is can be compared at any time.
    wanted = [(way, seed) for seed in range(study.study_seeds) for way in networks]
    missing = [one for one in wanted if one not in done]
    print(f"{name_of(config.model)}: {len(wanted)} trials, {len(missing)} of them to be trained", flush=True)
    _train(config, networks, missing, num_classes, path)
    rows = [row for row in load(path) if row.seed < study.study_seeds]
    title = f"{name_of(config.model)} scaled to {study.study_flops_factor:g} times its multiply-adds"
    reproduce.show(scaling_study.table(rows, title), scaling_study.figure(rows, title), output_dir)


def load(path: str) -> list[Row]:
    """The trials that a file holds; a half-written last line counts as none."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [scaling_study.from_json(line) for line in file if line.endswith("\n")]


def _train(
    config: Config, networks: dict[str, Variant], missing: list[tuple[str, int]], num_classes: int, path: str
) -> None:
    """--study_workers trainings at a time; the first failure ends the study, after those that are running."""
    with ThreadPoolExecutor(config.study.study_workers) as pool:
        trials = [pool.submit(_trial, config, networks[way], way, seed, num_classes) for way, seed in missing]
        try:
            for number, finished in enumerate(as_completed(trials), start=1):
                row = finished.result()
                with open(path, "a", encoding="utf-8") as file:
                    file.write(scaling_study.to_json(row) + "\n")
                print(
                    f"{time.strftime('%H:%M')}  {row.way}, seed {row.seed}: top-1 {row.top_1:.2%}, "
                    f"{row.multiply_adds / 1e6:.2f} M multiply-adds, {row.cpu_seconds / 60:.1f} CPU minutes; "
                    f"{number} of {len(missing)}",
                    flush=True,
                )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _trial(config: Config, variant: Variant, way: str, seed: int, num_classes: int) -> Row:
    model_dir = os.path.join(config.output.output_dir, f"{way}-{seed}")
    scaled = with_options(
        config,
        {
            "width_coefficient": variant.width_coefficient,
            "depth_coefficient": variant.depth_coefficient,
            "resolution": variant.resolution,
            "seed": seed,
        },
    )
    outcome = trial.run(scaled, model_dir)
    cost = scaling_study.cost_of(variant, num_classes)
    return Row(
        way,
        seed,
        variant.width_coefficient,
        variant.depth_coefficient,
        variant.resolution,
        cost.multiply_adds,
        cost.trainable_params,
        outcome.top_1,
        round(outcome.cpu_seconds, 1),
        _recipe(config),
    )


def _recipe(config: Config) -> str:
    """The flags that all trials share, but for those at their default."""
    defaults = options_of(Config())
    return " ".join(
        f"--{name}={value}"
        for name, value in options_of(config).items()
        if value != defaults[name] and name not in _NOT_OF_THE_RECIPE
    )


def _num_classes(config: Config) -> int:
    startup.import_tensorflow()
    from efficientnet_tpu.data import datasets

    return len(datasets.open_data(config.data).label_names)
