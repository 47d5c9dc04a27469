"""The files of a search: what is written is read, and what is damaged or another search's is refused or left out."""

import json
import random
from dataclasses import replace

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.studies.search import search_files
from efficientnet_tpu.studies.search.search_files import SearchFacts, SearchTrial

CONFIG = with_options(
    Config(),
    {"model": "efficientnet-b0", "resolution": 32, "survival_prob": 0.9, "train_epochs": 3.0, "data_dir": "mine"},
)
FACTS = SearchFacts("efficientnet-b0", "evolution", 3, "soft", "multiply_adds", 8e6, 10, CONFIG)


def make_trials(facts, number):
    """Random networks with accuracies that are no model's."""
    generator, trials = random.Random(facts.seed), []
    for order in range(number):
        network = facts.space.sample(generator)
        cost, accuracy = facts.space.cost(network), generator.random()
        reward = facts.objective.reward(accuracy, cost.multiply_adds)
        trials.append(
            SearchTrial(
                # Trials that run at a time end in another order than they were asked for.
                order ^ 1, network, accuracy, cost.params, cost.multiply_adds, float(cost.multiply_adds), reward,
                12.5, order % 10 == 9, order,
            )
        )  # fmt: skip
    return trials


def write(directory, facts, trials):
    directory.mkdir(parents=True, exist_ok=True)
    search_files.save_facts(str(directory / search_files.SEARCH_JSON), facts)
    lines = "".join(map(search_files.to_line, trials))
    write_atomically(str(directory / search_files.TRIALS_JSONL), lines)


@pytest.fixture
def search(tmp_path):
    trials = make_trials(FACTS, 20)
    write(tmp_path, FACTS, trials)
    return tmp_path, trials


def test_what_is_written_is_read(search):
    directory, trials = search
    facts, found = search_files.load_search(str(directory))
    assert found == trials
    assert facts.recipe == FACTS.recipe
    assert facts.skeleton == FACTS.skeleton
    assert (facts.skeleton.resolution, facts.skeleton.survival_prob) == (32, 0.9)
    assert replace(facts, config=CONFIG) == FACTS
    assert "mine" not in (directory / search_files.SEARCH_JSON).read_text()  # where the images are is the host's
    assert len(set(map(search_files.to_line, found))) == 20


def test_what_is_damaged_is_left_out_and_said(search, capsys):
    directory, trials = search
    path = directory / search_files.TRIALS_JSONL
    lines = path.read_text().splitlines()
    values = [json.loads(line) for line in lines]
    for value in values:  # as an earlier version wrote them
        del value["crc32"]
    lines = [json.dumps(value) for value in values]
    lines[1] = lines[1][:40]
    lines[3] = json.dumps(values[3] | {"params": values[3]["params"] + 1})
    lines[5] = json.dumps(values[5] | {"network": "1"})
    lines[7] = json.dumps(values[7] | {"accuracy": float("nan")})
    lines[8] = json.dumps(values[8] | {"is_pruned": 0})
    lines[9] = "[]"
    del values[10]["order"]
    lines[10] = json.dumps(values[10])
    lines.append(json.dumps(values[0] | {"accuracy": 0.5}))  # a second line about a trial
    path.write_text("\n".join(lines))
    _, found = search_files.load_search(str(directory))
    assert found == [trial for index, trial in enumerate(trials) if index not in (1, 3, 5, 7, 8, 9, 10)]
    assert f"{path}: 7 lines are damaged, and left out: 2, 4, 6, 8, 9, ..." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": "annealing"}, "algorithm is 'annealing'"),
        ({"target": 0}, "target is 0"),
        ({"seed": "3"}, "seed is '3'"),
        ({"config": {"model": "efficientnet-b99"}}, "no such model"),
        ({"config": []}, "search.json"),
        ({"more": 1}, "more"),
    ],
)
def test_facts_that_are_none(search, change, message):
    directory, _ = search
    path = directory / search_files.SEARCH_JSON
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        search_files.load_search(str(directory))


def test_a_directory_without_a_search(tmp_path):
    with pytest.raises(UserError, match=r"search\.json"):
        search_files.load_search(str(tmp_path))
