"""Scaling to a budget: the largest network that it pays for, from any base; and what compound scaling promises."""

import itertools
import json
import random
import re

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import B0_STAGES, VARIANTS
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import (
    Coefficients,
    build_architecture,
    candidate_coefficients,
    compound_variant,
    scaled_resolution,
)
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.models.stage_table import STAGE_KEYS, inline, read_stage_table
from efficientnet_tpu.studies import scale_to_budget
from efficientnet_tpu.studies.scale_to_budget import Base

BASES = ("efficientnet-b0", "efficientnet-b2", "efficientnet-lite0", "mobilenet-v1", "mobilenet-v2", "resnet-50")
CONSTRAINED = [*candidate_coefficients(step=0.1)]


def base_of(name, coefficients=None):
    return Base(name, MODELS[name], coefficients or Coefficients())


def scale_command(capsys, *flags):
    cli.main(["main.py", "scale", *flags])
    return capsys.readouterr().out


def error_of(*flags):
    with pytest.raises(UserError) as error:
        cli.main(["main.py", "scale", *flags])
    return str(error.value)


# Properties of equation 3.


def test_the_constraint_and_its_grid():
    assert Coefficients().growth == pytest.approx(1.92, abs=5e-3)
    candidates = list(candidate_coefficients())
    assert Coefficients() in candidates
    assert len(set(candidates)) == len(candidates) > 20
    for one in candidates:
        assert min(one.alpha, one.beta, one.gamma) >= 1
        assert abs(one.alpha * one.beta**2 * one.gamma**2 - 2) <= 0.1 + 1e-9
    # Nothing on the grid is left out: the corners, where one dimension takes it all.
    assert {(2.0, 1.0, 1.0), (1.0, 1.4, 1.0), (1.0, 1.0, 1.4)} <= {
        (one.alpha, one.beta, one.gamma) for one in candidates
    }
    assert list(candidate_coefficients(tolerance=0.0)) == [Coefficients(2.0, 1.0, 1.0)]


@pytest.mark.parametrize("name", BASES)
def test_phi_0_is_the_base(name):
    for coefficients in CONSTRAINED:
        assert base_of(name, coefficients).scale(0.0).variant == MODELS[name]


@pytest.mark.parametrize("name", BASES)
def test_growing_phi_grows_everything(name):
    for coefficients in random.Random(0).sample(CONSTRAINED, 4):
        scaled = [base_of(name, coefficients).scale(phi / 4) for phi in range(-20, 21)]
        for small, large in itertools.pairwise(scaled):
            assert small.variant.resolution <= large.variant.resolution
            assert small.cost.multiply_adds <= large.cost.multiply_adds
            assert small.cost.trainable_params <= large.cost.trainable_params


@pytest.mark.parametrize("name", BASES)
def test_rounding_loses_at_most_a_tenth_of_the_filters(name):
    draw = random.Random(1)
    stages = MODELS[name].baseline.stages
    for _ in range(50):
        variant = compound_variant(draw.uniform(-5, 10), MODELS[name], draw.choice(CONSTRAINED))
        architecture = scale(name, variant, 1000)
        for block in architecture.blocks:
            # A bottleneck's table holds its inner filters.
            filters = getattr(block, "inner_filters", block.filters)
            assert filters >= 0.9 * stages[block.stage - 1].filters * variant.width_coefficient


@pytest.mark.parametrize("name", ["efficientnet-b0", "mobilenet-v2", "resnet-50"])
def test_each_phi_doubles_the_cost(name):
    costs = [base_of(name).scale(phi).cost.multiply_adds for phi in range(7)]
    # Rounding makes single steps uneven; six together grow by 1.92 each, within a tenth.
    assert (costs[-1] / costs[0]) ** (1 / 6) == pytest.approx(Coefficients().growth, rel=0.1)


def test_resolutions_are_steps_of_8_from_the_base():
    assert [scaled_resolution(224, factor) for factor in (1.0, 1.15, 1.3, 2.0, 0.01)] == [224, 256, 288, 448, 16]
    assert scaled_resolution(260, 1.0) == 260
    draw = random.Random(2)
    for _ in range(500):
        side, low, high = draw.randint(32, 600), *sorted((draw.uniform(0.1, 4), draw.uniform(0.1, 4)))
        assert scaled_resolution(side, low) <= scaled_resolution(side, high)
        assert abs(scaled_resolution(side, high) - max(16, side * high)) <= 8


# The budget.


@pytest.mark.parametrize("name", BASES)
def test_the_largest_network_within_the_budget(name):
    draw = random.Random(3)
    for flag, measure_cost in scale_to_budget.COUNTED_COSTS.items():
        base = base_of(name)
        for _ in range(5):
            limit = measure_cost(base.scale(0.0)) * draw.uniform(0.3, 20)
            found = scale_to_budget.largest_within(base, limit, measure_cost, flag)
            assert measure_cost(found) <= limit
            assert measure_cost(base.scale(found.phi + 0.01)) > limit


def test_the_cost_of_the_base_buys_the_base():
    found = scale_to_budget.largest_within(
        base_of("efficientnet-b0"), 385_814_752, scale_to_budget.COUNTED_COSTS["budget_flops"], "budget_flops"
    )
    assert found.variant.resolution == 224
    assert found.cost.multiply_adds == 385_814_752


def test_the_largest_training_that_a_tpu_has_room_for(capsys):
    found = {}
    for flags in (["--tpu_type=v5e-8"], ["--tpu_type=v5e-32"], ["--tpu_type=v5e-8", "--rematerialize=blocks"]):
        text = scale_command(capsys, *flags, "--train_batch_size=2048")
        needed, room = map(float, re.search(r"([\d.]+) GiB a core, modelled, ([\d.]+) being 97%", text).groups())
        assert 0.9 * room < needed <= room == pytest.approx(0.97 * 15.75, abs=0.01)
        found[tuple(flags)] = float(re.match(r"efficientnet-b0 at phi = ([\d.-]+):", text)[1])
        # What was found is what `plan` says has room, and no other rule.
        trained = re.search(r"train it: python main.py (.*) --data_dir", text)[1].split()
        cli.main(["main.py", "plan", *trained, *flags, "--train_batch_size=2048"])
        assert re.search(r"^Fits: +(yes\.|probably \().* of 15\.75 GiB", capsys.readouterr().out, re.MULTILINE)
    smaller, wider, thriftier = found.values()
    assert smaller + 0.5 < wider
    assert smaller + 0.5 < thriftier


def test_the_report(capsys):
    text = scale_command(capsys, "--budget_flops=1.5e9")
    assert text.startswith("efficientnet-b0 at phi = 1.69: depth x 1.361, width x 1.175, resolution x 1.266\n")
    assert "1.491 G multiply-adds, 11.57 M parameters: 99.4% of --budget_flops=1.5e+09" in text
    assert "nearest published: efficientnet-b3, 1.827 G multiply-adds, 12.23 M parameters at 300 pixels" in text


@pytest.mark.parametrize("name", BASES)
def test_the_flags_printed_give_the_network_printed(capsys, name):
    text = scale_command(capsys, f"--model={name}", "--budget_params=9.5e6", "--alpha=1.3")
    command = text.splitlines()[-1]
    flags = dict(word[2:].split("=") for word in command.split() if word.startswith("--"))
    options = {
        "depth_coefficient": float(flags["depth_coefficient"]),
        "width_coefficient": float(flags["width_coefficient"]),
        "resolution": int(flags["resolution"]),
    }
    cost = count(build_architecture(flags["model"], **options))
    assert f"{cost.multiply_adds / 1e9:.3f} G multiply-adds, {cost.trainable_params / 1e6:.2f} M parameters" in text
    assert 0.8 * 9.5e6 < cost.trainable_params <= 9.5e6


def test_needs_no_tensorflow(capsys):
    import subprocess
    import sys

    program = (
        "import sys; from efficientnet_tpu import cli; cli.main(['main.py', 'scale', '--budget_flops=1e9']); "
        "cli.main(['main.py', 'reproduce', '--table=2']); cli.main(['main.py', 'reproduce', '--figure=3']); "
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give one of --budget_flops"),
        (["--budget_flops=1e9", "--budget_params=1e6"], "give one of --budget_flops"),
        (["--budget_flops=10"], "--budget_flops=10: the smallest efficientnet-b0 that scaling gives costs 311,376."),
        (["--budget_flops=1e17"], "--budget_flops=1e+17: more than efficientnet-b0 can be scaled to"),
        (["--budget_flops=-1"], "--budget_flops=-1.0: must be greater than 0"),
        (["--budget_flops=1e9", "--alpha=0.9"], "--alpha=0.9: must be at least 1"),
        (["--budget_flops=1e9", "--alpha=1", "--beta=1", "--gamma=1"], "nothing grows with phi"),
        (["--budget_flops=1e9", "--model=resnet50"], "Did you mean resnet-50?"),
        (["--budget_flops=1e9", "--stage_table=nowhere.json"], "--stage_table=nowhere.json: cannot be read"),
    ],
)
def test_bad_input(flags, message):
    assert message in error_of(*flags)


# Latency, on a machine of 100 G multiply-adds a second.


@pytest.mark.parametrize("seconds", [0.0005, 0.002, 0.01, 0.05])
def test_fitting_a_latency(seconds):
    base, measured = base_of("efficientnet-b0"), []

    def measure(scaled):
        measured.append(scaled)
        return scaled.cost.multiply_adds / 100e9 + 0.0002  # an overhead that multiply-adds do not explain

    found, took = scale_to_budget.fit_latency(base, seconds, measure)
    assert found in measured
    assert took == measure(found) <= seconds
    assert len(measured) <= scale_to_budget.MAX_MEASUREMENTS
    assert 0.8 * seconds < found.cost.multiply_adds / 100e9 + 0.0002 <= seconds


def test_no_network_is_fast_enough():
    assert scale_to_budget.fit_latency(base_of("efficientnet-b0"), 1e-9, lambda scaled: 1.0) is None


@pytest.mark.slow
def test_latency_is_measured(tf, monkeypatch, capsys):
    monkeypatch.setattr(scale_to_budget, "MAX_MEASUREMENTS", 2)
    model = ["--model=efficientnet-nano", "--depth_coefficient=0.2"]
    text = scale_command(capsys, *model, "--budget_latency_ms=1000")
    assert "phi 0: " in text
    assert " ms, the median of 20 runs; 0.00" in text
    assert "one image at a time on " in text
    assert " ms of --budget_latency_ms=1000" in text


# A table of one's own.

B0_TABLE = [{key: getattr(stage, key) for key in STAGE_KEYS} for stage in B0_STAGES]


def test_b0s_own_table_is_b0(tmp_path, capsys):
    csv_file, json_file = tmp_path / "b0.csv", tmp_path / "b0.json"
    rows = [STAGE_KEYS, *(row.values() for row in B0_TABLE)]
    csv_file.write_text("\n".join(",".join(map(str, row)) for row in rows))
    json_file.write_text(json.dumps({"stages": B0_TABLE}))
    for path in (csv_file, json_file):
        assert read_stage_table(inline(str(path))) == VARIANTS["efficientnet-b0"]
        text = scale_command(capsys, f"--stage_table={path}", "--budget_flops=1.5e9")
        assert "1.491 G multiply-adds, 11.57 M parameters: 99.4%" in text
        assert "train it: python main.py --stage_table=FILE --depth_coefficient=" in text
    larger = scale_command(capsys, f"--stage_table={json_file}", "--budget_flops=1.5e9", "--resolution=448")
    assert "b0 at phi = -0.2:" in larger  # flags of section Model apply to a table too
