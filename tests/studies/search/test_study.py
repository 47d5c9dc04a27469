"""The study of a search: its trials, its workers, what is taken up again, with trainings that take no time."""

import dataclasses
import threading
from collections import Counter

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import DivergedError, UserError
from efficientnet_tpu.models.stage_table import read_stage_table, table_name
from efficientnet_tpu.studies import trial
from efficientnet_tpu.studies.search import cost, run_search
from efficientnet_tpu.studies.search.algorithms import Proposal, RandomSearch
from efficientnet_tpu.studies.search.search_files import load_search
from efficientnet_tpu.studies.search.space import SearchSpace, encode

optuna = pytest.importorskip("optuna", reason="search needs the extra `search`")


def config_of(directory, **options):
    directory.mkdir(exist_ok=True)
    given = {"model": "efficientnet-nano", "search_target": 1e6, "search_trials": 12, "search_algorithm": "evolution"}
    return with_options(Config(), given | {"output_dir": str(directory)} | options)


def trained(config, model_dir, stop, is_hopeless=None):
    """Stands in for a training: wide networks with squeeze-and-excitation are the best."""
    stages = read_stage_table(config.model.stage_table).baseline.stages
    accuracy = sum(stage.filters / 1000 + (stage.se_ratio or 0) / 10 for stage in stages) / len(stages)
    return trial.Outcome(accuracy, accuracy, 1.0, 3.0, accuracy)


@pytest.fixture
def training(monkeypatch):
    """Replaces the trainings by a function, `trained` at first."""
    replace = lambda function: monkeypatch.setattr(trial, "run", function)  # noqa: E731
    replace(trained)
    return replace


def open_search(config):
    return run_search.open_search(config, run_search.describe(config, 10))


def end_search(config, workers=1):
    """Runs a search to its end and returns its trials."""
    found = open_search(config)
    found.take_up_interrupted()
    for _ in trial.run_all([found.work] * workers, workers):
        pass
    return found.ended()


def networks(trials):
    return {one.number: encode(one.network) for one in trials}


def test_a_search_ends_and_goes_on_with_more_trials(training, tmp_path):
    trials = end_search(config_of(tmp_path))
    assert [one.number for one in trials] == list(range(12))
    assert all(one.cost == one.multiply_adds for one in trials)
    assert all(one.reward == pytest.approx(one.accuracy * (one.cost / 1e6) ** -0.07) for one in trials)
    assert end_search(config_of(tmp_path)) == trials
    more = end_search(config_of(tmp_path, search_trials=15))
    assert more[:12] == trials
    assert len(more) == 15
    facts, written = load_search(str(tmp_path))
    assert written == more
    assert facts.algorithm == "evolution"


@pytest.mark.parametrize(
    "algorithm",
    ["evolution", pytest.param("random", marks=pytest.mark.slow), pytest.param("ppo", marks=pytest.mark.slow)],
)
def test_what_was_interrupted_is_taken_up_again(training, tmp_path, algorithm):
    """The same networks come in the same order as without an interruption."""
    straight = end_search(config_of(tmp_path / "straight", search_algorithm=algorithm, search_trials=16))
    interrupted = config_of(tmp_path / "interrupted", search_algorithm=algorithm, search_trials=16)
    for after in (0, 3, 9):
        left = iter(range(after))

        def stop_after(config, model_dir, stop, left=left, **_):
            if next(left, None) is None:
                raise trial.InterruptedTrialError(model_dir)
            return trained(config, model_dir, stop)

        training(stop_after)
        found = open_search(interrupted)
        found.take_up_interrupted()
        with pytest.raises(trial.InterruptedTrialError):
            found.work(threading.Event())
    training(trained)
    again = end_search(interrupted)
    assert [encode(one.network) for one in again] == [encode(one.network) for one in straight]


def test_a_program_that_was_killed_left_trials_running(training, tmp_path):
    config = config_of(tmp_path)

    found = open_search(config)
    one = found.study.ask()  # asked for, and never told
    network = found.network_of(one)
    again = end_search(config)
    assert networks(again)[one.number] == encode(network)
    assert len(again) == 12


@pytest.mark.slow
def test_workers_never_take_one_trial(training, tmp_path):
    directories, at_once = Counter(), threading.Barrier(4, timeout=5)

    def wait_for_others(config, model_dir, stop, **_):
        directories[model_dir] += 1
        if len(directories) <= 4:
            at_once.wait()
        return trained(config, model_dir, stop)

    training(wait_for_others)
    trials = end_search(config_of(tmp_path, search_algorithm="random", search_trials=10), workers=4)
    assert len(trials) == 10
    assert set(directories.values()) == {1}


def test_a_network_is_trained_once(training, tmp_path, monkeypatch):
    asked = []
    training(lambda config, *_, **__: asked.append(1) or trained(config, *_))
    config = config_of(tmp_path, search_algorithm="random", search_trials=3)
    network = open_search(config).facts.space.skeleton_network()
    monkeypatch.setattr(RandomSearch, "ask", lambda self, number: Proposal(network))
    trials = end_search(config)
    assert len(asked) == 1
    assert {one.accuracy for one in trials} == {trials[0].accuracy}
    assert [one.cpu_seconds for one in trials] == [3.0, 0.0, 0.0]


def test_a_training_that_diverges_is_the_worst(training, tmp_path):
    def diverges(*_, **__):
        raise DivergedError("the loss became nan")

    training(diverges)
    assert {(one.accuracy, one.reward) for one in end_search(config_of(tmp_path, search_trials=2))} == {(0.0, 0.0)}


def test_trials_below_the_median_are_pruned(training, tmp_path):
    def asks(config, model_dir, stop, is_hopeless):
        outcome = trained(config, model_dir, stop)
        hopeless = is_hopeless([trial.Evaluation(0.5, outcome.top_1)])
        return dataclasses.replace(outcome, is_pruned=hopeless)

    training(asks)
    trials = end_search(config_of(tmp_path, search_pruning=True, search_trials=40, search_algorithm="random"))
    first, later = trials[:20], trials[20:]
    assert not any(one.is_pruned for one in first)
    assert 5 <= sum(one.is_pruned for one in later) < 20
    assert max(one.reward for one in later if one.is_pruned) < max(one.reward for one in later)


def test_another_search_is_refused(training, tmp_path):
    end_search(config_of(tmp_path, search_trials=1))
    for options in ({"search_algorithm": "random"}, {"search_target": 2e6}, {"train_epochs": 3.0}):
        with pytest.raises(UserError, match=r"has another (algorithm|target|recipe)"):
            open_search(config_of(tmp_path, **options))


def test_the_network_of_a_trial_has_its_name(training, tmp_path):
    seen = []
    training(lambda config, *_, **__: seen.append(config) or trained(config, *_))
    trials = end_search(config_of(tmp_path, search_trials=2))
    assert [table_name(config.model.stage_table) for config in seen] == list(networks(trials).values())


def test_costs(tmp_path):
    config = config_of(tmp_path, tpu_type="v5e-8", train_batch_size=256)
    space = SearchSpace()
    network = space.skeleton_network()
    larger = tuple(dataclasses.replace(choice, filters=1.25, layers=1) for choice in network)
    for kind in ("multiply_adds", "params", "tpu_step"):
        measure = cost.cost_function(kind, space, config, 1000)
        assert 0 < measure(network) < measure(larger)
    assert cost.cost_function("params", space, config, 1000)(network) == 5_288_548
    assert 1e-3 < cost.cost_function("tpu_step", space, config, 1000)(network) < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search_cost": "latency", "study_workers": 2}, "--search_cost=latency: what is measured beside"),
        ({"search_cost": "tpu_step"}, "--search_cost=tpu_step: needs --tpu_type"),
    ],
)
def test_costs_that_cannot_be_had(tmp_path, options, message):
    config = config_of(tmp_path, **options)
    with pytest.raises(UserError, match=message):
        cost.cost_function(config.search.search_cost, SearchSpace(), config, 1000)


def test_only_multiply_adds_have_a_usual_target():
    assert cost.default_target("multiply_adds") == 400e6
    with pytest.raises(UserError, match="--search_cost=latency: has no usual target"):
        cost.default_target("latency")
