"""Scaling gives the published networks block by block, and blocks that fit together at any other scale."""

import itertools
import json
import random
from pathlib import Path

import pytest

from efficientnet_tpu.models.architecture import B0_STAGES, HEAD_FILTERS, STEM_FILTERS, VARIANTS, Variant
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.models.scaling import round_filters, round_repeats, scale_blocks

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())
PUBLISHED = [name for name in GOLDEN if not name.startswith("_")]


def stages_of(blocks):
    """The blocks of every stage, as lists."""
    return [list(stage) for _, stage in itertools.groupby(blocks, key=lambda block: block.stage)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network(name):
    architecture, golden = build_architecture(name), GOLDEN[name]
    stages = stages_of(architecture.blocks)
    assert architecture.name == name
    assert architecture.resolution == golden["resolution"]
    assert architecture.dropout_rate == golden["dropout"]
    assert architecture.stem_filters == golden["stem"]
    assert [stage[0].filters for stage in stages] == golden["stage_widths"]
    assert [len(stage) for stage in stages] == golden["stage_repeats"]
    assert architecture.head_filters == golden["head"]
    assert len(architecture.blocks) == golden["num_blocks"]
    assert architecture.num_classes == 1000


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_drop_rates(name):
    blocks = build_architecture(name).blocks
    rates = [[index, round(block.drop_rate, 8)] for index, block in enumerate(blocks) if block.has_residual]
    # A residual in block 0 (none of the published networks has one) would be listed with rate 0.
    assert rates == GOLDEN[name]["drop_rate_residual_blocks"]
    assert all(block.drop_rate == 0 for block in blocks if not block.has_residual)


def assert_blocks_fit_together(variant):
    """What holds for any network of the family: shapes join, only a stage's first block changes them."""
    blocks = scale_blocks(variant)
    stages = stages_of(blocks)
    assert [stage[0].stage for stage in stages] == [1, 2, 3, 4, 5, 6, 7]
    for before, block in itertools.pairwise(blocks):
        assert block.input_filters == before.filters
    for table, stage in zip(B0_STAGES, stages, strict=True):
        assert stage[0].strides == table.strides
        assert all(block.strides == 1 and block.has_residual for block in stage[1:])
        assert {(block.kernel_size, block.expand_ratio) for block in stage} == {(table.kernel_size, table.expand_ratio)}
        assert len({block.filters for block in stage}) == 1
    rates = [block.drop_rate for block in blocks if block.has_residual]
    assert rates == sorted(rates)
    assert all(0 <= rate < 0.2 for rate in rates)
    for block in blocks:
        # Squeeze-and-excitation is a share of what enters the block, not of the expanded filters.
        assert block.se_filters == (max(1, int(block.input_filters * variant.se_ratio)) if variant.se_ratio else 0)


@pytest.mark.parametrize("name", VARIANTS)
def test_blocks_fit_together(name):
    assert_blocks_fit_together(VARIANTS[name])


def test_blocks_fit_together_at_any_scale():
    draw = random.Random(0)
    for _ in range(200):
        width, depth = draw.uniform(0.05, 6), draw.uniform(0.01, 6)
        se_ratio, fix_head_stem = draw.choice([0.0, 0.25]), draw.choice([False, True])
        assert_blocks_fit_together(Variant(width, depth, 224, 0.2, se_ratio=se_ratio, fix_head_stem=fix_head_stem))


def test_filters_are_rounded_to_the_nearest_multiple_of_8():
    assert [round_filters(32, width) for width in (1.0, 1.1, 1.2, 1.4, 2.0)] == [32, 32, 40, 48, 64]
    assert round_filters(32, 1.125) == 40  # a tie (36) goes up
    assert round_filters(16, 0.1) == 8  # at least 8
    draw = random.Random(1)
    for _ in range(1000):
        filters, width = draw.randrange(8, 2048, 8), draw.uniform(0.01, 8)
        rounded = round_filters(filters, width)
        assert rounded % 8 == 0
        assert rounded >= 8
        assert rounded >= 0.9 * filters * width
        assert rounded - filters * width <= 8
        assert round_filters(filters, 1.0) == filters


def test_the_90_percent_guard_matters_for_stage_1_of_b3_alone():
    def without_guard(filters, width):
        return max(8, int(filters * width + 4) // 8 * 8)

    widened = {
        (name, filters)
        for name in PUBLISHED
        for filters in (STEM_FILTERS, *(stage.filters for stage in B0_STAGES), HEAD_FILTERS)
        if without_guard(filters, VARIANTS[name].width_coefficient)
        != round_filters(filters, VARIANTS[name].width_coefficient)
    }
    # Lite3 shares B3's width.
    assert widened == {("efficientnet-b3", 16), ("efficientnet-lite3", 16)}
    assert round_filters(16, 1.2) == 24


def test_repeats_are_rounded_up():
    assert [round_repeats(4, depth) for depth in (0.01, 1.0, 1.1, 1.8, 3.1)] == [1, 4, 5, 8, 13]
    draw = random.Random(2)
    for _ in range(1000):
        repeats, depth = draw.randint(1, 8), draw.uniform(0.01, 8)
        assert max(1, repeats * depth) <= round_repeats(repeats, depth) < repeats * depth + 1


def test_wider_never_narrows_and_deeper_never_shortens():
    draw = random.Random(3)
    for _ in range(500):
        filters, repeats = draw.randrange(8, 2048, 8), draw.randint(1, 8)
        low, high = sorted((draw.uniform(0.05, 8), draw.uniform(0.05, 8)))
        assert round_repeats(repeats, low) <= round_repeats(repeats, high)
        assert round_filters(filters, low) <= round_filters(filters, high)


def test_survival_probability_scales_the_drop_rates():
    half = build_architecture("efficientnet-b1", survival_prob=0.5).blocks
    for block, other in zip(half, build_architecture("efficientnet-b1").blocks, strict=True):
        assert block.drop_rate == pytest.approx(2.5 * other.drop_rate)
    assert all(block.drop_rate == 0 for block in build_architecture("efficientnet-b1", survival_prob=1.0).blocks)
