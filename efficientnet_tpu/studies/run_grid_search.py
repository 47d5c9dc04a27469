"""`main.py grid-search`: trains the paper's candidates for alpha, beta and gamma by workers that share a study."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.compound_scaling import candidate_coefficients
from efficientnet_tpu.models.configured import configured_architecture, configured_variant, scaled_options
from efficientnet_tpu.paper import reproduce
from efficientnet_tpu.studies import grid_search, shared_study, trial
from efficientnet_tpu.studies.grid_search import Candidate
from efficientnet_tpu.studies.run_scaling_study import describe_recipe, find_num_classes
from efficientnet_tpu.studies.trial import Outcome

_CANDIDATE = "candidate"  # the attribute of a trial that names its network


def run(config: Config) -> None:
    """Trains the candidates that no worker has trained and prints their results; then prints and writes the ranking."""
    url = shared_study.require_usable(config, "grid-search")
    output_dir = config.output.output_dir
    with trial.study_directory(output_dir, shared=bool(url)), shared_study.explained_storage_errors(url):
        train_candidates(config, find_candidates(config), print_result)


def train_candidates(
    config: Config, found: Sequence[Candidate], report: Callable[[Candidate, Outcome], None]
) -> list[tuple[Candidate, float]]:
    """Trains the candidates that no worker has trained, in --output_dir, and prints and writes the ranking there.

    report: is called by the worker of each that has ended. Returns the trained candidates and their top-1 accuracies
    (0..1), best first.
    """
    workers = config.study.study_workers
    study = shared_study.open_study(config, "grid-search", {"recipe": describe_recipe(config)})
    search = Search(config, {candidate.name: candidate for candidate in found}, study, report)
    search.enqueue()
    num_missing = len(found) - len(search.ranked())
    name = configured_architecture(config.model, find_num_classes(config)).name
    alike = sum(len(candidate.coefficients) for candidate in found)
    print(
        f"{name}: {alike} candidates, which are {len(found)} networks, {num_missing} of them to "
        f"be trained; {workers} at a time",
        flush=True,
    )
    for _ in trial.run_all([search.work] * workers, workers):
        pass
    ranked = search.ranked()
    title = f"{name}: alpha, beta, gamma at phi = 1"
    reproduce.show(
        grid_search.make_table(ranked, len(found) - len(ranked), title),
        grid_search.make_figure(ranked, title),
        config.output.output_dir,
    )
    return ranked


def print_result(candidate: Candidate, outcome: Outcome) -> None:
    """Prints a line on a trained candidate, with the time of day."""
    print(
        f"{time.strftime('%H:%M')}  {candidate.name}: top-1 {outcome.top_1:.2%}, "
        f"{candidate.cost.multiply_adds / 1e9:.4g} G multiply-adds, {outcome.cpu_seconds / 60:.1f} CPU minutes",
        flush=True,
    )


def find_candidates(config: Config) -> list[Candidate]:
    """Returns the networks of the grid. Raises UserError if there are none."""
    study_options, num_classes = config.study, find_num_classes(config)
    step, tolerance, pixels = study_options.grid_step, study_options.grid_tolerance, study_options.resolution_step
    base = configured_variant(config.model)
    if study_options.grid_counted:
        grid = grid_search.counted_coefficients(base, step, tolerance, num_classes, pixels)
    else:
        grid = candidate_coefficients(step, tolerance, pixels)
    found = grid_search.candidates(base, grid, num_classes)
    if not found:
        raise UserError(
            f"--grid_step={study_options.grid_step:g} --grid_tolerance={study_options.grid_tolerance:g}: nothing of "
            "that grid is near enough to alpha * beta^2 * gamma^2 = 2. Take smaller steps or more tolerance."
        )
    return found


@dataclass(frozen=True)
class Search:
    """A search: the candidates by name, the study of their trials, and who is told of each that has ended."""

    config: Config
    candidates: dict[str, Candidate]
    study: Any
    report: Callable[[Candidate, Outcome], None]

    def enqueue(self) -> None:
        """Enqueues a trial for each candidate that has none that is waiting, running or complete."""
        from optuna.trial import TrialState

        taken = {
            one.user_attrs.get(_CANDIDATE)
            for one in self.study.get_trials(states=(TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE))
        }
        for name, candidate in self.candidates.items():
            if name not in taken:
                coefficients = candidate.coefficients[0]
                params = {key: getattr(coefficients, key) for key in ("alpha", "beta", "gamma")}
                self.study.enqueue_trial(params, user_attrs={_CANDIDATE: name})

    def work(self, stop: Event) -> None:
        """Runs one trial after another until none is left, and waits while other workers' trials may still fail."""
        import optuna
        from optuna.trial import TrialState

        while not stop.is_set():
            optuna.storages.fail_stale_trials(self.study)
            states = [one.state for one in self.study.get_trials(deepcopy=False)]
            if TrialState.WAITING in states:
                self.study.optimize(partial(self._train_trial, stop), n_trials=1)
            elif TrialState.RUNNING in states:
                stop.wait(shared_study.HEARTBEAT_SECONDS / 5)
            else:
                return

    def _train_trial(self, stop: Event, one: Any) -> float:
        """Trains the candidate of a trial and returns its top-1 accuracy, 0..1, on the images to choose by."""
        import optuna

        if _CANDIDATE not in one.user_attrs:  # another worker took the last trial, and Optuna made up one more
            raise optuna.TrialPruned
        candidate = self.candidates[one.user_attrs[_CANDIDATE]]
        for key in ("alpha", "beta", "gamma"):
            one.suggest_float(key, 1.0, 10.0)
        variant = candidate.variant
        scaled = with_options(self.config, scaled_options(variant) | {"dropout_rate": variant.dropout_rate})
        outcome = trial.run(scaled, os.path.join(self.config.output.output_dir, candidate.name), stop)
        self.report(candidate, outcome)
        return outcome.chosen_by

    def ranked(self) -> list[tuple[Candidate, float]]:
        """Returns the trained candidates and their top-1 accuracies (0..1), best first."""
        from optuna.trial import TrialState

        accuracy = {
            one.user_attrs[_CANDIDATE]: one.value for one in self.study.get_trials(states=(TrialState.COMPLETE,))
        }
        found = [(self.candidates[name], value) for name, value in accuracy.items() if name in self.candidates]
        return sorted(found, key=lambda pair: -pair[1])
