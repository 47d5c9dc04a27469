"""The grid of the paper's STEP 1 as networks, and the study that workers share, with trainings that are made up."""

import traceback
import warnings

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import VARIANTS
from efficientnet_tpu.models.compound_scaling import Coefficients, candidate_coefficients, compound_variant
from efficientnet_tpu.studies import grid_search, trial
from efficientnet_tpu.studies.grid_search import candidates

B0 = VARIANTS["efficientnet-b0"]


def test_the_papers_coefficients_are_a_candidate_of_b0():
    grid = list(candidate_coefficients())
    found = candidates(B0, grid, 1000)
    paper = next(one for one in found if Coefficients(1.2, 1.1, 1.15) in one.coefficients)
    assert paper.variant.resolution == compound_variant(1.0).resolution == 256
    assert sorted(map(grid_search.format_coefficients, grid)) == sorted(
        grid_search.format_coefficients(coefficients) for one in found for coefficients in one.coefficients
    )
    assert len({one.name for one in found}) == len(found)


def test_equal_networks_are_one_candidate():
    # 224 x 1.15 and 224 x 1.16 both round to 256 or 257 -> 256; widths 1.1 and 1.11 give the same filters.
    one, other = Coefficients(1.2, 1.1, 1.15), Coefficients(1.2, 1.1, 1.16)
    (found,) = candidates(B0, [one, other], 1000)
    assert found.coefficients == (one, other)
    assert found.name == "1.2-1.1-1.15"


def test_ranking_best_first():
    found = candidates(B0, [Coefficients(2, 1, 1), Coefficients(1, 1.4, 1), Coefficients(1, 1, 1.4)], 1000)
    ranked = sorted(zip(found, (0.5, 0.7, 0.6), strict=True), key=lambda pair: -pair[1])
    table = grid_search.make_table(ranked, 2, "title")
    assert [row[0] for row in table.rows] == ["1 1.4 1", "1 1 1.4", "2 1 1"]
    assert "2 more are not trained to their end." in table.notes
    assert "the best: python main.py scale --alpha=1 --beta=1.4 --gamma=1" in table.notes
    assert [y for _, y, _ in grid_search.make_figure(ranked, "title").panels[0].series[0].points] == [70, 60, 50]


def search(tmp_path, *flags):
    arguments = ["--flagfile=scaling-study", "--dataset=sample", "--grid_step=0.4"]
    cli.main(["main.py", "grid-search", *arguments, f"--output_dir={tmp_path / 'grid'}", *flags])


@pytest.fixture
def trainings(monkeypatch):
    """Trainings that only note their name; the one numbered `fail` fails."""
    pytest.importorskip("optuna", reason="grid-search needs the extra `search`")
    seen = []

    def train(config, model_dir, stop):
        seen.append(model_dir.rpartition("/")[2])
        if len(seen) == train.fail:
            raise UserError("the training failed")
        accuracy = 0.5 if seen[-1] == "1-1-1.4" else 0.6
        return trial.Outcome(accuracy, 0.9, 4.0, 60.0, accuracy)

    train.fail = 0
    monkeypatch.setattr(trial, "run", train)
    return seen, train


def test_a_search_goes_on_where_it_failed(tf, tmp_path, capsys, trainings):
    seen, train = trainings
    train.fail = 2
    with pytest.raises(UserError, match="the training failed"):
        search(tmp_path)
    train.fail = 0
    search(tmp_path)
    search(tmp_path)
    assert sorted(seen) == sorted(["1-1-1.4", "1-1.4-1", seen[1]])  # what failed, once more, and nothing else
    text = capsys.readouterr().out
    assert "2 of them to be trained" in text
    assert "1 of them to be trained" in text
    assert "0 of them to be trained" in text
    ranking = (tmp_path / "grid" / "grid_search.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in ranking[1:]] == ["1 1.4 1", "1 1 1.4"]
    with pytest.raises(UserError, match="has another recipe"):
        search(tmp_path, "--train_epochs=7")


@pytest.mark.slow
def test_workers_share_the_trials(tf, tmp_path, capsys, trainings):
    search(tmp_path, "--grid_step=0.2", "--study_workers=3")
    seen = trainings[0]
    assert len(seen) == len(set(seen)) > 4


@pytest.mark.slow
@pytest.mark.parametrize("is_database", [False, True])
def test_a_dead_workers_trial_is_taken_over(tf, tmp_path, capsys, trainings, monkeypatch, is_database):
    from efficientnet_tpu.studies import run_grid_search, shared_study

    monkeypatch.setattr(shared_study, "HEARTBEAT_SECONDS", 1)
    if is_database:  # one worker can do with SQLite
        monkeypatch.setattr(shared_study, "open_journal", lambda path: shared_study.open_database(f"sqlite:///{path}"))
    open_study = shared_study.open_study
    monkeypatch.setattr(run_grid_search, "describe_recipe", lambda config: "")
    config = with_options(Config(), {"output_dir": str(tmp_path / "grid")})
    (tmp_path / "grid").mkdir()
    study = open_study(config, "grid-search", {"recipe": ""})
    study.enqueue_trial({"alpha": 1.0, "beta": 1.4, "gamma": 1.0}, user_attrs={"candidate": "1-1.4-1"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heartbeats outside of optimize: a worker that lives gives them within
        dead = study.ask()
    dead.suggest_float("alpha", 1.0, 10.0)
    if is_database:
        study._storage.record_heartbeat(dead._trial_id)
        # Not failed at the start, as in a journal, but when its heartbeat has been missing for long enough.
        monkeypatch.setattr(shared_study, "open_study", lambda *_: study)
    search(tmp_path)
    assert sorted(trainings[0]) == ["1-1-1.4", "1-1.4-1"]


def test_hosts_share_a_directory_through_a_database_only(tf, tmp_path, capsys, trainings, monkeypatch):
    from efficientnet_tpu.storage import directory_lock
    from efficientnet_tpu.studies import shared_study

    url = f"sqlite:///{tmp_path}/shared.db"  # one worker can do with SQLite
    monkeypatch.setattr(shared_study, "open_database", lambda name, database=shared_study.open_database: database(url))
    with directory_lock.held(str(tmp_path / "grid"), "output_dir"):  # as another program does
        with pytest.raises(UserError, match=r"--output_dir=.*grid: another training is at work there"):
            search(tmp_path)
        assert trainings[0] == []
        search(tmp_path, "--study_storage=postgresql://host/database")
    assert len(trainings[0]) == 2


def test_bad_input(tf, tmp_path, trainings, capsys, monkeypatch):
    with pytest.raises(UserError, match=r"--grid_step=0.7 --grid_tolerance=0: nothing of that grid"):
        search(tmp_path, "--grid_step=0.7", "--grid_tolerance=0")
    with pytest.raises(UserError, match="SQLite gives one trial to two workers"):
        search(tmp_path, "--study_storage=sqlite:///study.db")
    with pytest.raises(UserError, match="--study_storage=nonsense: cannot be opened"):
        search(tmp_path, "--study_storage=nonsense")
    # A password is in no message, whatever the library quotes.
    for address in ("postgresql://me:pass-word@host:no-port/db", "nonsense://me:pass-word@host/db"):
        monkeypatch.setenv("STORE", address)
        for given in (address, "env:STORE"):
            with pytest.raises(UserError, match=r"--study_storage=\w+://me:\*\*\*@host") as error:
                search(tmp_path, f"--study_storage={given}")
            assert "pass-word" not in "".join(traceback.format_exception(error.value))
    assert capsys.readouterr().out.count("--study_storage=env:NAME") == 2
    with pytest.raises(UserError, match="the environment variable NONE is not set"):
        search(tmp_path, "--study_storage=env:NONE")
    with pytest.raises(UserError, match="must be a local directory"):
        search(tmp_path, "--output_dir=gs://bucket/grid")
    assert trainings[0] == []
