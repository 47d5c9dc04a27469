"""The networks of the paper in miniature, its hours, and what it says of results that are made up."""

from dataclasses import replace

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.compound_scaling import Coefficients
from efficientnet_tpu.models.stage_table import inline, read_stage_table
from efficientnet_tpu.studies import grid_search, scaling_study
from efficientnet_tpu.studies.miniature import networks
from efficientnet_tpu.studies.miniature.hours import Speed, Work, as_hours, fit_speed
from efficientnet_tpu.studies.miniature.progress import Progress
from efficientnet_tpu.studies.scaling_study import TrialResult, count_network

BASE = read_stage_table(inline("flags/paper-miniature.json"))
PAPERS = Coefficients(1.2, 1.1, 1.1, resolution_step=1)


def test_the_recipes_candidates_cost_twice_the_base_and_see_no_more_than_there_is():
    """The grid of flags/paper-miniature.flags, on CIFAR-10's 32 pixels."""
    grid = list(grid_search.counted_coefficients(BASE, 0.1, 0.1, 10, 1))
    found = grid_search.candidates(BASE, grid, 10)
    usable = networks.usable_candidates(found, BASE, 2, 32, 10)
    cost = count_network(BASE, 10).multiply_adds
    assert len(usable) >= 5
    assert all(1.9 <= one.cost.multiply_adds / cost <= 2.1 for one in usable)
    assert PAPERS in {coefficients for one in usable for coefficients in one.coefficients}
    assert networks.usable_candidates(found, BASE, 2, 24, 10) == [
        one for one in usable if one.coefficients[0].gamma == 1
    ]
    for one in usable:
        scaled = networks.scaled_networks(BASE, one.coefficients[0], 2, 10)
        assert max(variant.resolution for name, variant in scaled.items() if "compound" in name) <= 32
        assert [name for name in scaled if scaling_study.is_near(scaled[name], BASE, 4.0, 10)] == [
            f"{way}-phi2" for way in ("depth", "width", "resolution", "compound")
        ]


def test_a_base_that_cannot_be_scaled_so_far_is_refused():
    coarse = replace(BASE, baseline=replace(BASE.baseline, stages=BASE.baseline.stages[:1]))
    with pytest.raises(UserError, match=r"--study_phi=1: scaling the \w+ alone comes no nearer than"):
        networks.scaled_networks(coarse, PAPERS, 1, 10)


def rows(**accuracies):
    return [
        TrialResult(way.replace("_", "-"), seed, 1.0, 1.0, 24, 10**6 * (seed + 1), 10**5, top_1, 60.0, "", None)
        for way, values in accuracies.items()
        for seed, top_1 in enumerate(values)
    ]


RESULTS = rows(
    base=[0.60, 0.61], depth_phi1=[0.62, 0.63], width_phi1=[0.64, 0.65], resolution_phi1=[0.69, 0.70],
    compound_phi1=[0.68, 0.69], base_longer=[0.61, 0.62],
)  # fmt: skip


def test_the_verdict_names_what_is_better_worse_and_open():
    (sentence,) = networks.verdict(networks.compare_ways(RESULTS, 1))
    assert sentence == (
        "At 2 times the base's multiply-adds compound scaling is better than depth and width alone; not to be told "
        "from resolution alone. The paper's order is neither shown nor contradicted."
    )
    alike = [replace(row, top_1=0.5 + 0.1 * row.seed) for row in RESULTS]
    (sentence,) = networks.verdict(networks.compare_ways(alike, 1))
    assert "is not to be told from depth, width and resolution alone." in sentence
    table = networks.scaling_table(RESULTS, 1, "title")
    assert [row[0] for row in table.rows] == [
        "base",
        "depth-phi1",
        "width-phi1",
        "resolution-phi1",
        "compound-phi1",
        "base-longer",
    ]
    assert "base-longer minus base: +1.00 points" in table.notes[-1]
    assert "compound-phi1 minus depth-phi1: +6.00 points" in table.notes[0]
    figure = networks.scaling_figure(RESULTS, 1, "title")
    assert [series.name for series in figure.panels[0].series][-1] == "scale by compound"
    assert all(len(series.errors) == len(series.points) == 2 for series in figure.panels[0].series)


def test_coefficients_are_chosen_by_images_held_out():
    trained = [replace(row, chosen_by=1 - row.top_1) for row in rows(a=[0.5, 0.6], b=[0.4, 0.5])]
    assert networks.best_finalist(trained) == "b"
    assert networks.best_finalist(rows(a=[0.5, 0.6], b=[0.4, 0.5])) == "a"
    assert networks.finalist_table(trained, "title").rows[0][0] == "b"


def test_hours_are_those_of_the_trainings_that_have_ended(capsys):
    speed = fit_speed([(Work(1e6, 1000), 3.0), (Work(2e6, 500), 2.5)])  # 1 ms for every image, 2 ns a multiply-add
    assert (speed.fixed, speed.per_multiply_add) == pytest.approx((1e-3, 2e-9))
    assert speed.seconds([Work(3e6, 1000)] * 2) == pytest.approx(14)
    assert fit_speed([(Work(1e6, 1000), 3.0)]) == Speed(0, pytest.approx(3e-9))
    assert (as_hours(30), as_hours(600), as_hours(2 * 3600)) == ("1 minutes", "10 minutes", "2.0 hours")
    progress = Progress([(Work(1e6, 1000), 7200.0)], {"grid": [Work(1e6, 1000)] * 3}, 4, 2)
    assert progress.hours_left() == "3.0 hours, 6.0 hours of CPU time"
    progress.on_result("grid", replace(RESULTS[0], cpu_seconds=7200.0), 1000)
    assert "; grid; 5 of 7, about 2.0 hours, 4.0 hours of CPU time left" in capsys.readouterr().out
