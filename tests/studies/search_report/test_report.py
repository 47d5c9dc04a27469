"""The report of searches: its tables, pictures and files, and what it refuses."""

import csv
import re
from dataclasses import replace

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.configured import configured_architecture, configured_variant
from efficientnet_tpu.models.stage_table import inline, read_stage_table
from efficientnet_tpu.studies.search_report import algorithms_compared, networks, searches, winner
from efficientnet_tpu.studies.search_report.searches import Search, describe_changes
from tests.support.synthetic_search import make_facts, make_trials, write


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two searches of 40 trials."""
    root = tmp_path_factory.mktemp("searches")
    facts = [make_facts("random", 0), make_facts("evolution", 1)]
    return [write(root / one.algorithm, one, make_trials(one, 40)) for one in facts]


def test_words_for_what_a_network_changes():
    facts = make_facts()
    skeleton = facts.space.skeleton_network()
    assert describe_changes(facts, skeleton) == ""
    changed = list(skeleton)
    changed[1] = replace(skeleton[1], operation="conv", kernel_size=5, filters=1.25, layers=1)
    changed[3] = replace(skeleton[3], se_ratio=0.0, skip="none", layers=-1)
    changed[6] = replace(skeleton[6], skip="pool", layers=-1)  # a stage of one layer cannot lose it
    assert describe_changes(facts, tuple(changed)) == (
        "stage 2: conv, 5 x 5, 24 -> 32 filters, 2 -> 3 layers; stage 4: no SE, no skip, 3 -> 2 layers; "
        "stage 7: skip pool"
    )


def test_best_networks_begin_with_every_winner(two):
    found = searches.load(two)
    best = searches.best_trials(found, 6)
    rewards = [trial.reward for _, trial in best]
    assert rewards == sorted(rewards, reverse=True)
    assert len({trial.network for _, trial in best}) == 6
    assert {id(search.winner) for search in found} <= {id(trial) for _, trial in best}
    assert not any(trial.is_pruned for _, trial in best)
    # No trial that was pruned counts, however good it looked.
    shining = replace(found[0].trials[19], accuracy=1.0, reward=9.0)
    assert shining.is_pruned
    assert Search("", found[0].facts, (*found[0].trials, shining)).winner is found[0].winner


def test_the_front_and_the_skeleton_are_drawn(two):
    found = searches.load(two)
    facts = found[0].facts
    base = facts.space.skeleton_network()
    cost = facts.space.cost(base)
    trial = replace(
        found[0].trials[0], network=base, params=cost.params, multiply_adds=cost.multiply_adds,
        cost=float(cost.multiply_adds), accuracy=0.99,
    )  # fmt: skip
    found[0] = Search("", facts, (*found[0].trials, trial))
    skeleton = searches.find_skeleton(found)
    (panel,) = networks.make_figure(found, skeleton, "title").panels
    series = {one.name: one.points for one in panel.series}
    assert series["skeleton"] == ((cost.multiply_adds / 1e6, 99.0, "efficientnet-b0"),)
    assert len(series["random"]) == 39
    accuracies = [y for _, y, _ in series["Pareto front"]]
    assert accuracies == sorted(accuracies)
    assert [x for x, _, _ in series["target"]] == [30, 30]
    note = networks.make_table(found, skeleton, "title").notes[-1]
    assert note.startswith("The changes are those of efficientnet-b0, with accuracy 99.00%")
    assert "trial 0 of random-0" in note


def test_several_seeds_of_an_algorithm_are_a_band():
    found = [
        Search("", facts, tuple(make_trials(facts, 30))) for facts in [make_facts("random", seed) for seed in range(3)]
    ]
    found.append(Search("", make_facts("evolution"), tuple(make_trials(make_facts("evolution"), 45))))
    table = algorithms_compared.make_table(found, "title")
    assert [row[:4] for row in table.rows] == [("random", "3", "90", "3"), ("evolution", "1", "45", "2")]
    assert table.columns[5][0] == "best of 29"
    best = [max(trial.reward for trial in search.trained[:29]) for search in found]
    assert [row[5].value for row in table.rows] == pytest.approx([sum(best[:3]) / 3, best[3]])
    (panel,) = algorithms_compared.make_figure(found, "title").panels
    (band,) = [one for one in panel.series if one.style == "band"]
    ends = [y for x, y, _ in band.points if x == 29]
    assert ends == [min(best[:3]), max(best[:3])]
    (line, _) = [one for one in panel.series if one.style == "line"]
    assert line.points[-1][1] == pytest.approx(sum(best[:3]) / 3)


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-lite0", "efficientnet-b2"])
def test_the_winner_is_the_network_that_its_files_describe(tmp_path, name):
    facts = make_facts(model=name, num_classes=7)
    search = Search("", facts, tuple(make_trials(facts, 5)))
    made = winner.make_files(search, str(tmp_path / "best"))
    (tmp_path / "best.json").write_text(made.table)
    (tmp_path / "best.flags").write_text(made.flags)
    table = inline(str(tmp_path / "best.json"))
    assert read_stage_table(table).baseline.stages == facts.space.stages(search.winner.network)
    lines = [line for line in made.flags.splitlines() if not line.startswith("#")]
    options = {line[2:].partition("=")[0]: line.partition("=")[2] for line in lines}
    assert float(options["train_epochs"]) == 3
    typed = {flag: options[flag] for flag in ("normalization", "interpolation", "stage_table") if flag in options}
    numbers = {
        flag: float(options[flag])
        for flag in ("width_coefficient", "depth_coefficient", "survival_prob")
        if flag in options
    }
    config = with_options(Config(), typed | numbers | {"resolution": int(options["resolution"])})
    wanted = facts.space.variant(search.winner.network)
    assert replace(wanted, fix_head_stem=False) == configured_variant(config.model)
    counted = count(configured_architecture(config.model, 7))
    assert (counted.trainable_params, counted.multiply_adds) == (search.winner.params, search.winner.multiply_adds)


def run(*flags):
    cli.main(["main.py", "search-report", *flags])


@pytest.mark.slow
def test_a_report_and_what_follows_from_it(tf, two, tmp_path, capsys):
    output_dir = tmp_path / "report"
    run(f"--searches={two[0]},{two[1]}/", f"--output_dir={output_dir}", "--surrogate_seeds=2")
    printed = capsys.readouterr().out
    names = ("search_networks", "search_rewards", "search_surrogate", "search_comparison")
    for name in names:
        assert (output_dir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (output_dir / f"{name}.csv").read_text()
        assert "data:image/png" in (output_dir / f"{name}.html").read_text()
    rows = list(csv.DictReader((output_dir / "trials.csv").read_text().splitlines()))
    assert len(rows) == 80
    commands = re.findall(r"main\.py (.*winner-evolution-1.*)", printed)
    assert [line.split()[0] for line in commands][1:] == ["scale", "plan"]
    for line in commands[1:]:
        cli.main(["main.py", *line.split()])
    answers = capsys.readouterr().out
    assert "winner-evolution-1 at phi = " in answers
    assert "v5e-8" in answers
    train = commands[0].replace("--data_dir=...", "--dataset=fake:10:64:16").replace("...", str(tmp_path / "run"))
    cli.main(["main.py", *train.split(), "--train_epochs=1", "--train_batch_size=32"])
    assert (tmp_path / "run" / "run.json").exists()
    with pytest.raises((UserError, SystemExit)) as caught:  # the winner is not the skeleton
        run(f"--searches={two[0]}", f"--output_dir={output_dir}", f"--model_dir={tmp_path}/run")
    assert "another network than efficientnet-b0" in f"{caught.value} {capsys.readouterr().err}"
    flags = ["--dataset=fake:10:64:16", "--resolution=64", "--survival_prob=0.9", "--train_batch_size=64"]
    cli.main(["main.py", *flags, "--train_epochs=1", f"--model_dir={tmp_path}/base"])
    run(f"--searches={two[0]}", f"--output_dir={output_dir}", f"--model_dir={tmp_path}/base")
    assert "trained otherwise than the trials" in capsys.readouterr().out.replace("\n  ", " ")


def test_what_cannot_be_reported(two, tmp_path, capsys):
    facts = make_facts("ppo", 2)
    trials = make_trials(facts, 21)
    none = write(tmp_path / "none", facts, [])
    pruned = write(tmp_path / "pruned", facts, trials[19:20])
    others = {
        "target": replace(facts, target=1e6),
        "num_classes": make_facts("ppo", 2, num_classes=5),
        "resolution": make_facts("ppo", 2, resolution=96),
        "train_epochs": make_facts("ppo", 2, train_epochs=9.0),
    }
    refused = {
        ",": "name the --output_dir of a search",
        f"{tmp_path}/nowhere": "search.json",
        none: "none of its 0 trials",
        f"{two[0]},{pruned}": "none of its 1 trials",
        f"{two[0]},{two[0]}": "both are random with seed 0",
    }
    for name, other in others.items():
        refused[f"{two[0]},{write(tmp_path / name, other, make_trials(other, 3))}"] = f"{name} is .* in the one and"
    for named, message in refused.items():
        with pytest.raises((UserError, SystemExit)) as caught:
            run(f"--searches={named}", f"--output_dir={tmp_path}/out")
        assert re.search(message, f"{caught.value} {capsys.readouterr().err}"), named
    few = write(tmp_path / "few", facts, trials[:5])
    timed = write(tmp_path / "timed", replace(facts, cost_kind="latency", target=0.01), trials)
    for directory, message in ((few, "too few to fit"), (timed, "count latency")):
        with pytest.raises((UserError, SystemExit)) as caught:
            run(f"--searches={directory}", f"--output_dir={tmp_path}/out", "--surrogate_seeds=2")
        assert re.search(message, f"{caught.value} {capsys.readouterr().err}")
    assert not (tmp_path / "out").exists()
