"""What is said under the tables is so: every number of table_notes.py, counted again."""

import math

import pytest

from efficientnet_tpu.models import scaling
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.paper import figures, published, tables
from efficientnet_tpu.paper.paper_table import Counted
from efficientnet_tpu.paper.table_notes import TABLE_NOTES


def billions(model, depth=1.0, width=1.0, resolution=224):
    architecture = build_architecture(model, depth_coefficient=depth, width_coefficient=width, resolution=resolution)
    return count(architecture).multiply_adds / 1e9


def says(name, *texts):
    """Whether the remarks on a table contain all these."""
    return all(text in " ".join(TABLE_NOTES[name]) for text in texts)


def test_mobilenet_v1():
    assert says("table3", "four times the baseline's 0.569B is 2.27B")
    assert billions("mobilenet-v1") == pytest.approx(0.569, abs=5e-4)
    assert billions("mobilenet-v1", resolution=448) == pytest.approx(2.27, abs=5e-3)
    assert says("table3", "r=1.3 is 291 pixels; 288 pixels count 2.24B, 292 pixels 2.47B")
    assert billions("mobilenet-v1", 1.4, 1.2, 288) == pytest.approx(2.24, abs=5e-3)
    assert billions("mobilenet-v1", 1.4, 1.2, 292) == pytest.approx(2.47, abs=5e-3)


def test_resnet_depth_and_width_are_exchanged():
    assert says("table3", "16.2B and 14.7B stand in each other's place", "depth counts 14.6B", "width 16.1B")
    assert billions("resnet-50", depth=4.0) == pytest.approx(14.6, abs=0.05)
    assert billions("resnet-50", width=2.0) == pytest.approx(16.1, abs=0.05)
    # Exchanged, both are within a hundredth of what is printed.
    assert billions("resnet-50", depth=4.0) == pytest.approx(14.7, rel=0.01)
    assert billions("resnet-50", width=2.0) == pytest.approx(16.2, rel=0.01)


def test_resnet_compound(monkeypatch):
    assert says("table3", "counts 16.3B; with filters in multiples of 16 it would be 16.7B")
    assert billions("resnet-50", 1.4, 1.2, 300) == pytest.approx(16.3, abs=0.05)
    monkeypatch.setattr(scaling, "FILTER_DIVISOR", 16)
    assert billions("resnet-50", 1.4, 1.2, 300) == pytest.approx(16.7, abs=0.05)


def test_table_7_would_need_other_factors():
    assert says("table7", "d=4 counts 1.6B, w=2 1.4B and r=2 1.5B", "d=4.4 (1.8B), w=2.2 (1.8B) and r=2.2 (1.9B,")
    b0 = "efficientnet-b0"
    counted = [billions(b0, depth=4.0), billions(b0, width=2.0), billions(b0, resolution=448)]
    assert [round(value, 1) for value in counted] == [1.6, 1.4, 1.5]
    needed = [billions(b0, depth=4.4), billions(b0, width=2.2), billions(b0, resolution=496)]
    assert [round(value, 1) for value in needed] == [1.8, 1.8, 1.9]


def test_b2_with_moving_statistics_and_resnet_with_strides_elsewhere():
    assert says("table2", "B2's 9.2M are with batch norm's moving statistics", "3.9B", "as in Table 3, and counts 4.1B")
    b2 = count(build_architecture("efficientnet-b2"))
    assert (round(b2.trainable_params / 1e6, 1), round(b2.total_params / 1e6, 1)) == (9.1, 9.2)
    assert round(billions("resnet-50"), 1) == 4.1
    (in_table_2,) = (row for row in tables.table_2().rows if row[0] == "ResNet-50")
    (in_table_3,) = (row for row in tables.table_3().rows if row[0].startswith("Baseline ResNet-50"))
    counted = [[cell.value for cell in row if isinstance(cell, Counted)] for row in (in_table_2, in_table_3)]
    assert set(counted[1]) <= set(counted[0])  # multiply-adds and parameters: one count


def test_efficientnets_between_2_percent_below_and_5_above():
    assert says("table2", "FLOPs of B1, B4, B5 and B7 are 2% below to 5% above")
    counted = {
        row["model"]: tables.count_variant(tables.MODELS[row["ours"]]).multiply_adds
        / published.parse_number(row["flops"])
        - 1
        for row in published.read_rows("table2")
        if row["ours"] in tables.MODELS
    }
    assert min(counted.values()) == pytest.approx(-0.02, abs=5e-3)
    assert max(counted.values()) == pytest.approx(0.05, abs=5e-3)


def test_transfer_ratios():
    assert says("table5", "printed 4.7x and 9.6x, here 4.3x and 9.5x", "Pets' 5.6x is not 58M / 17M, which is 3.4x")
    rows = [*zip(published.read_rows("table5"), tables.table_5().rows, strict=True)]
    for part, printed, ours in (("public", 4.7, 4.3), ("reported", 9.6, 9.5)):
        ratios = [
            (published.parse_number(row["params_ratio"]), cells[-1].value)
            for row, cells in rows
            if row["part"] == part and row["params_ratio"]
        ]
        means = [math.prod(column) ** (1 / len(ratios)) for column in zip(*ratios, strict=True)]
        assert [round(mean, 1) for mean in means] == [printed, ours]
    assert round(58 / 17, 1) == 3.4
    assert says("table5", "B3's 10.7M and B4's 17.5M are printed as 10M and 17M")
    params = {row["ours"]: cells[7].value / 1e6 for row, cells in rows if row["params"]}
    assert params["efficientnet-b3"] == pytest.approx(10.7, abs=0.05)
    assert params["efficientnet-b4"] == pytest.approx(17.5, abs=0.05)


def test_figures_3_and_4_have_one_size_for_a_factor():
    assert says("figure3", "r=1.3 is 299 pixels")
    assert says("figure4", "r=1.3 is 299 pixels")
    resolution = figures.figure_3().panels[2].series[0].points
    assert [y for x, y, _ in resolution if x == 1.3] == [billions("efficientnet-b0", resolution=299)]
    (deep,) = (series for series in figures.figure_4().panels[0].series if series.name == "d=2.0, r=1.3")
    assert [y for x, y, _ in deep.points if x == 1.0] == [billions("efficientnet-b0", depth=2.0, resolution=299)]
