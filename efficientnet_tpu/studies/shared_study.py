"""Studies of Optuna, which workers share.

The workers are threads of this program, with a journal in --output_dir as their study, or this program on many hosts,
with a database as --study_storage. With a database the other workers take over the trial of a worker that has died,
once its heartbeat has been missing for a while. A trial continues from its last checkpoint.
"""

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from efficientnet_tpu.config.config import Config, with_current_names
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import install_command
from efficientnet_tpu.storage.regular_file import require_regular
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.secrets import masked, revealed, without_secret

JOURNAL = "study.journal"
HEARTBEAT_SECONDS = 30  # in a database: a trial without one for twice as long is taken over


def require_usable(config: Config, command: str) -> str:
    """Returns the address of the database, empty without one. Raises UserError without Optuna, or for a storage that
    cannot be shared.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError(
            f"{command}: Optuna, which shares the study among workers, is missing: {install_command('search')}"
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


def open_study(config: Config, command: str, facts: Mapping[str, str]) -> Any:
    """Opens or creates the Optuna study of a command.

    facts: what all trials of a study share, by name; flags are read by their current names. Raises UserError for a
    study with others.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warning of a failed trial holds the traceback
    warnings.simplefilter(
        "ignore", optuna.exceptions.ExperimentalWarning
    )  # Optuna has marked heartbeats experimental since 2021
    url, name = revealed(config.study.study_storage, "study_storage"), config.study.study_name or command
    storage = open_database(url) if url else open_journal(os.path.join(config.output.output_dir, JOURNAL))
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    for fact, value in facts.items():
        before = study.user_attrs.get(fact, value)
        if with_current_names(before) != value:
            raise UserError(
                f"--study_name={name}: the study in {masked(url) or config.output.output_dir} has another {fact}, "
                f"{before}. Choose another name or --output_dir."
            )
        study.set_user_attr(fact, value)
    if not url:
        for one in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(one.number, state=optuna.trial.TrialState.FAIL)  # its program held the directory and has ended
    return study


def open_journal(path: str) -> Any:
    """Opens the journal of a study in a directory of one machine."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    require_regular(path, path)
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
def explained_storage_errors(url: str) -> Iterator[None]:
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
