"""`main.py grid-search`: trains the paper's candidates for alpha, beta and gamma by workers that share a study.

The workers are threads of this program, with a journal in --output_dir as their study, or this program on many hosts,
with a database as --study_storage. With a database the other workers take over the trial of a worker that has died,
once its heartbeat has been missing for a while. A trial continues from its last checkpoint.
"""

import contextlib
import importlib.util
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

from efficientnet_tpu.config.config import Config, with_current_names, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import install_command
from efficientnet_tpu.models.compound_scaling import candidate_coefficients
from efficientnet_tpu.models.configured import configured_architecture, configured_variant, scaled_options
from efficientnet_tpu.paper import reproduce
from efficientnet_tpu.studies import grid_search, trial
from efficientnet_tpu.studies.grid_search import Candidate
from efficientnet_tpu.studies.run_scaling_study import describe_recipe, find_num_classes
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.secrets import masked, revealed, without_secret

JOURNAL = "study.journal"
HEARTBEAT_SECONDS = 30  # in a database: a trial without one for twice as long is taken over
_CANDIDATE, _RECIPE = "candidate", "recipe"  # attributes that trials and the study keep


def run(config: Config) -> None:
    """Trains the candidates that no worker has trained and prints their results; then prints and writes the ranking."""
    url = _require_usable(config)
    study_options, output_dir = config.study, config.output.output_dir
    with trial.study_directory(output_dir, shared=bool(url)), _explained_storage_errors(url):
        found = _find_candidates(config)
        search = Search(config, {candidate.name: candidate for candidate in found}, open_study(config))
        search.enqueue()
        num_missing = len(found) - len(search.ranked())
        name = configured_architecture(config.model, find_num_classes(config)).name
        alike = sum(len(candidate.coefficients) for candidate in found)
        print(
            f"{name}: {alike} candidates, which are {len(found)} networks, {num_missing} of them to "
            f"be trained; {study_options.study_workers} at a time",
            flush=True,
        )
        for _ in trial.run_all([search.work] * study_options.study_workers, study_options.study_workers):
            pass
        ranked = search.ranked()
        title = f"{name}: alpha, beta, gamma at phi = 1"
        reproduce.show(
            grid_search.make_table(ranked, len(found) - len(ranked), title),
            grid_search.make_figure(ranked, title),
            output_dir,
        )


def _find_candidates(config: Config) -> list[Candidate]:
    """Returns the networks of the grid. Raises UserError if there are none."""
    study_options = config.study
    grid = candidate_coefficients(study_options.grid_step, study_options.grid_tolerance)
    found = grid_search.candidates(configured_variant(config.model), grid, find_num_classes(config))
    if not found:
        raise UserError(
            f"--grid_step={study_options.grid_step:g} --grid_tolerance={study_options.grid_tolerance:g}: nothing of "
            "that grid is near enough to alpha * beta^2 * gamma^2 = 2. Take smaller steps or more tolerance."
        )
    return found


def _require_usable(config: Config) -> str:
    """Returns the address of the database, empty without one. Raises UserError without Optuna, or for a storage that
    cannot be shared.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError(
            f"grid-search: Optuna, which shares the study among workers, is missing: {install_command('search')}"
        )
    url = revealed(config.study.study_storage, "study_storage")
    if url.startswith("sqlite"):
        raise UserError(
            f"--study_storage={shown(masked(url))}: SQLite gives one trial to two workers at times. Leave the "
            "flag out on one machine; among hosts take PostgreSQL or MySQL: postgresql://USER@HOST/DATABASE."
        )
    if url == config.study.study_storage != masked(url):
        print(
            "note: everybody on this machine sees --study_storage, and its password, in the list of processes; "
            "--study_storage=env:NAME takes it from an environment variable",
            flush=True,
        )
    return url


def open_study(config: Config) -> Any:
    """Opens or creates the Optuna study. Raises UserError for a study of another recipe."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter(
        "ignore", optuna.exceptions.ExperimentalWarning
    )  # Optuna has marked heartbeats experimental since 2021
    url, name = revealed(config.study.study_storage, "study_storage"), config.study.study_name
    storage = open_database(url) if url else open_journal(os.path.join(config.output.output_dir, JOURNAL))
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    recipe = describe_recipe(config)
    if with_current_names(study.user_attrs.get(_RECIPE, recipe)) != recipe:
        raise UserError(
            f"--study_name={name}: the study in {masked(url) or config.output.output_dir} has another recipe, "
            f"{study.user_attrs[_RECIPE]}. Choose another name or --output_dir."
        )
    study.set_user_attr(_RECIPE, recipe)
    if not url:
        for one in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(one.number, state=optuna.trial.TrialState.FAIL)  # its program held the directory and has ended
    return study


def open_journal(path: str) -> Any:
    """Opens the journal of a study in a directory of one machine."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(path))


def open_database(url: str) -> Any:
    """Opens a database. Raises UserError if it cannot be opened."""
    import sqlalchemy.exc
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    try:
        return RDBStorage(
            url,
            heartbeat_interval=HEARTBEAT_SECONDS,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        )
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        raise _storage_error("cannot be opened", error, url) from None


@contextlib.contextmanager
def _explained_storage_errors(url: str) -> Iterator[None]:
    """Raises UserError where a database fails in this context."""
    if not url:
        yield
        return
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        raise _storage_error("failed", error, url) from None


def _storage_error(what: str, error: Exception, url: str) -> UserError:
    """Makes the error for a database. SQLAlchemy's own, which quote addresses, are not left in its chain."""
    reason = shown(without_secret(str(error.__cause__ or error).strip(), url))
    return UserError(f"--study_storage={shown(masked(url))}: {what}: {reason}")


@dataclass(frozen=True)
class Search:
    """A search: the candidates by name, and the study of their trials."""

    config: Config
    candidates: dict[str, Candidate]
    study: Any

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
                stop.wait(HEARTBEAT_SECONDS / 5)
            else:
                return

    def _train_trial(self, stop: Event, one: Any) -> float:
        """Trains the candidate of a trial and returns its top-1 accuracy, 0..1."""
        import optuna

        if _CANDIDATE not in one.user_attrs:  # another worker took the last trial, and Optuna made up one more
            raise optuna.TrialPruned
        candidate = self.candidates[one.user_attrs[_CANDIDATE]]
        for key in ("alpha", "beta", "gamma"):
            one.suggest_float(key, 1.0, 10.0)
        variant = candidate.variant
        scaled = with_options(self.config, scaled_options(variant) | {"dropout_rate": variant.dropout_rate})
        outcome = trial.run(scaled, os.path.join(self.config.output.output_dir, candidate.name), stop)
        print(
            f"{time.strftime('%H:%M')}  {candidate.name}: top-1 {outcome.top_1:.2%}, "
            f"{candidate.cost.multiply_adds / 1e9:.4g} G multiply-adds, {outcome.cpu_seconds / 60:.1f} CPU minutes",
            flush=True,
        )
        return outcome.top_1

    def ranked(self) -> list[tuple[Candidate, float]]:
        """Returns the trained candidates and their top-1 accuracies (0..1), best first."""
        from optuna.trial import TrialState

        accuracy = {
            one.user_attrs[_CANDIDATE]: one.value for one in self.study.get_trials(states=(TrialState.COMPLETE,))
        }
        found = [(self.candidates[name], value) for name, value in accuracy.items() if name in self.candidates]
        return sorted(found, key=lambda pair: -pair[1])
