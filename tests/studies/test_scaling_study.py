"""Ways of scaling at equal cost, and the study that compares them, with trainings that are made up."""

import json
import math
import statistics

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import VARIANTS
from efficientnet_tpu.models.compound_scaling import ALPHA, BETA, GAMMA, Coefficients
from efficientnet_tpu.models.stage_table import inline, read_stage_table
from efficientnet_tpu.paper.paper_table import as_text
from efficientnet_tpu.storage import json_lines
from efficientnet_tpu.studies import run_scaling_study, trial
from efficientnet_tpu.studies.scaling_study import (
    TrialResult,
    count_network,
    from_json,
    make_figure,
    make_table,
    scale_ways,
    to_line,
)

TINY = inline("flags/scaling-study.json")
WAYS = ["base", "depth", "width", "resolution", "compound"]


@pytest.mark.parametrize("base", [VARIANTS["efficientnet-b0"], read_stage_table(TINY)])
def test_every_way_costs_the_same_and_changes_only_its_own(base):
    found = scale_ways(base, 4.0, Coefficients(), 10)
    assert list(found) == WAYS
    assert found["base"] == base
    wanted = 4 * count_network(base, 10).multiply_adds
    for way in WAYS[1:]:
        assert count_network(found[way], 10).multiply_adds == pytest.approx(wanted, rel=0.05)
    unlike = {
        way: {
            name
            for name in ("depth_coefficient", "width_coefficient", "resolution", "dropout_rate")
            if getattr(found[way], name) != getattr(base, name)
        }
        for way in WAYS
    }
    single = {"depth": {"depth_coefficient"}, "width": {"width_coefficient"}, "resolution": {"resolution"}}
    assert unlike == {"base": set(), **single, "compound": set.union(*single.values())}
    # Equation 3, up to the rounding of pixels and of four digits: one phi for all three.
    compound = found["compound"]
    phi = math.log(compound.depth_coefficient, ALPHA)
    assert math.log(compound.width_coefficient, BETA) == pytest.approx(phi, abs=0.01)
    assert abs(compound.resolution - base.resolution * GAMMA**phi) <= 0.5 + 1e-6


def test_the_studys_networks():
    """What scaling-study trains, in thousands of multiply-adds."""
    found = scale_ways(read_stage_table(TINY), 4.0, Coefficients(), 10)
    assert {way: round(count_network(variant, 10).multiply_adds / 1e3) for way, variant in found.items()} == {
        "base": 1348, "depth": 5530, "width": 5311, "resolution": 5338, "compound": 5471,
    }  # fmt: skip
    assert found["depth"].depth_coefficient == 4
    assert found["resolution"].resolution == 32


def test_a_base_too_coarse_to_scale():
    coarse = read_stage_table(json.dumps({"stages": [{**json.loads(TINY)["stages"][0]}], "resolution": 16}))
    with pytest.raises(UserError, match=r"--study_flops_factor=1.2: scaling the \w+ alone comes no nearer than"):
        scale_ways(coarse, 1.2, Coefficients(), 10)


def rows(**accuracies):
    return [
        TrialResult(way, seed, 1.0, 1.0, 16, 4_000_000, 100_000, top_1, 60.0, "--train_epochs=4")
        for way, values in accuracies.items()
        for seed, top_1 in enumerate(values)
    ]


def test_means_spread_and_differences():
    trials = rows(base=[0.60, 0.62], depth=[0.65, 0.63, 0.67], compound=[0.70, 0.66, 0.71])
    content = "".join(map(to_line, trials)).encode()
    assert json_lines.parse(content, from_json) == json_lines.JsonLines(trials, [])
    text = as_text(make_table(trials, "title"))
    base, depth, compound = (
        next(line for line in text.splitlines() if line.startswith(way)) for way in ("base", "depth", "compound")
    )
    assert "61.00" in base
    assert "+" not in base
    assert "65.00  2.00  65.00 63.00 67.00      +4.00" in depth
    assert "69.00  2.65" in compound
    differences = [5.0, 3.0, 4.0]
    error = statistics.stdev(differences) / 3**0.5
    assert f"compound minus depth: +4.00 points, standard error {error:.2f}, over 3 seeds" in text


def test_the_plot_joins_the_base_with_every_way():
    drawn = make_figure(rows(base=[0.6], depth=[0.65, 0.67], compound=[0.7]), "title").panels[0].series
    assert [(series.name, series.points[0][1], series.points[1][1]) for series in drawn[:2]] == [
        ("scale by depth", 60.0, pytest.approx(66.0)),
        ("scale by compound", 60.0, pytest.approx(70.0)),
    ]
    assert [y for _, y, _ in drawn[2].points] == pytest.approx([60, 65, 67, 70])


def study(tmp_path, *flags):
    arguments = ["--flagfile=scaling-study", "--dataset=sample", f"--output_dir={tmp_path / 'study'}"]
    cli.main(["main.py", "scaling-study", *arguments, *flags])


@pytest.fixture
def trainings(monkeypatch):
    """Trainings that only note what they were asked; the one numbered `fail` fails."""
    seen = []

    def train(config, model_dir, stop):
        model = config.model
        seen.append((model_dir.rpartition("/")[2], model.depth_coefficient, model.resolution, config.run.seed))
        if len(seen) == train.fail:
            raise UserError("the training failed")
        return trial.Outcome(0.5 + 0.01 * len(seen), 0.9, 4.0, 60.0, 0.5)

    train.fail = 0
    monkeypatch.setattr(trial, "run", train)
    return seen, train


def test_a_study_goes_on_where_it_failed(tf, tmp_path, capsys, trainings):
    seen, train = trainings
    train.fail = 4
    with pytest.raises(UserError, match="the training failed"):
        study(tmp_path, "--study_seeds=2")
    assert len(run_scaling_study.load(str(tmp_path / "study"))) == 3
    study(tmp_path, "--study_seeds=2")
    assert [name for name, *_ in seen] == [
        *("base-0", "depth-0", "width-0", "resolution-0"),
        *("resolution-0", "compound-0", "base-1", "depth-1", "width-1", "resolution-1", "compound-1"),
    ]
    assert seen[1] == ("depth-0", 4.0, 16, 0)
    assert seen[-2] == ("resolution-1", 1.0, 32, 1)
    text = capsys.readouterr().out
    assert "10 trials, 7 of them to be trained" in text
    assert "compound minus depth: " in text
    assert {path.name for path in (tmp_path / "study").iterdir()} == {
        "trials.jsonl", "scaling_study.csv", "scaling_study.html", "scaling_study.png",
    }  # fmt: skip
    with pytest.raises(UserError, match="holds trials of another recipe"):
        study(tmp_path, "--train_epochs=5")
    with pytest.raises(UserError, match=r"holds trials of compound with width, depth and resolution \(1.14"):
        study(tmp_path, "--beta=1.15")


def test_bad_input(tmp_path, trainings):
    with pytest.raises(UserError, match="--output_dir is missing"):
        cli.main(["main.py", "scaling-study", "--dataset=sample"])
    with pytest.raises(UserError, match="must be a local directory"):
        cli.main(["main.py", "scaling-study", "--dataset=sample", "--output_dir=gs://bucket/study"])
    assert trainings[0] == []
