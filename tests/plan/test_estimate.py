"""What `main.py plan` computes with: steps scaled from compiled ones, arithmetic, activations, roofline, recipes."""

import dataclasses
import json

import pytest

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.plan import activation_memory, flops, table
from efficientnet_tpu.plan.estimate import estimate_step, largest_errors, model_errors, scale_compilation
from efficientnet_tpu.plan.planner import Planner
from efficientnet_tpu.plan.roofline import Work, all_reduce_seconds, step_time, training_cost
from efficientnet_tpu.plan.table import CompiledStep, StepKey
from tests.support.plan_rows import B0, COMPILED, KEY, LITTLE, ROW

B4 = build_architecture("efficientnet-b4")


def test_later_rows_count_for_more():
    newer = dataclasses.replace(ROW, compilation=dataclasses.replace(COMPILED, temp_bytes=1), program="5678")
    assert estimate_step(KEY, B0, "rmsprop", [newer, ROW]).compilation.temp_bytes == 1


def test_a_row_is_compiled_and_anything_else_is_modelled():
    exact = estimate_step(KEY, B0, "rmsprop", [ROW])
    assert exact.is_compiled
    assert exact.compilation == COMPILED
    for change in ({"batch_size": 64}, {"kind": "v3"}, {"recipe": "sgd bfloat16"}, {"num_cores": 16}):
        key = dataclasses.replace(KEY, **change)
        assert not estimate_step(key, B0, "rmsprop", [ROW]).is_compiled, change
    assert estimate_step(KEY, B0, "rmsprop", []) is None


def test_scaling_a_row_to_itself_changes_nothing():
    same = scale_compilation(ROW, KEY, B0, "rmsprop")
    assert same.flops == pytest.approx(COMPILED.flops)
    for name in ("argument_bytes", "temp_bytes", "code_bytes", "bytes_accessed", "needed_bytes"):
        assert getattr(same, name) == pytest.approx(getattr(COMPILED, name), abs=1), name
    assert same.costs == COMPILED.costs


def test_memory_grows_with_the_batch_but_not_the_weights():
    double = scale_compilation(ROW, dataclasses.replace(KEY, batch_size=256), B0, "rmsprop")
    assert double.temp_bytes == 2 * COMPILED.temp_bytes
    assert double.argument_bytes == COMPILED.argument_bytes + 3 * 224**2 * 128
    assert double.costs["depthwise"].hbm_bytes == 2 * COMPILED.costs["depthwise"].hbm_bytes
    assert double.costs["optimizer and average"] == COMPILED.costs["optimizer and average"]
    sgd = scale_compilation(ROW, dataclasses.replace(KEY, recipe="sgd bfloat16"), B0, "sgd")
    # scale_compilation takes the row's state to have been the same optimizer's.
    assert sgd.argument_bytes <= COMPILED.argument_bytes


def test_the_nearest_row_is_of_the_same_kind_first():
    other_kind = dataclasses.replace(
        ROW, key=dataclasses.replace(KEY, model="efficientnet-b4", resolution=380, kind="v3")
    )
    wanted = StepKey("efficientnet-b4", None, None, 380, 1000, "v5e", 8, 128, "rmsprop bfloat16")
    assert estimate_step(wanted, B4, "rmsprop", [other_kind, ROW]).cost_row is ROW


def test_the_models_error_is_that_of_predicting_rows_from_others():
    larger = scale_compilation(ROW, dataclasses.replace(KEY, batch_size=256), B0, "rmsprop")
    needed = larger.needed_bytes * 2
    second = CompiledStep(
        dataclasses.replace(KEY, batch_size=256), dataclasses.replace(larger, needed_bytes=needed), "", "", 0.0
    )
    errors = model_errors([ROW, second])
    assert errors["memory"][1] == pytest.approx(-0.5, abs=0.01)
    assert errors["traffic"] == pytest.approx([0, 0], abs=0.01)
    assert largest_errors([ROW]) == {"memory": 1, "traffic": 1}  # nothing to compare it with


# The records' multiply-adds are the paper's; a step counts them three times, the stem's twice.
@pytest.mark.parametrize(
    "name", ["efficientnet-b0", "efficientnet-b7", "efficientnet-lite0", "resnet-50", "mobilenet-v1"]
)
def test_flops_of_a_step(name):
    architecture = build_architecture(name)
    cost, counted = count(architecture), flops.step_flops(architecture)
    stem = counted["stem"] / 4
    assert sum(counted.values()) == pytest.approx(6 * cost.multiply_adds - 2 * stem)


def test_padding_of_matrix_units():
    product = flops.MatrixProduct("pointwise", 100, 96, 24)
    assert product.share_of_mxu(128) == pytest.approx(96 / 128 * 24 / 128)
    assert flops.MatrixProduct("pointwise", 1, 256, 128).share_of_mxu(128) == 1
    assert flops.mxu_share(B0, 128) == pytest.approx(0.2475, abs=0.001)
    assert flops.mxu_share(B0, 256) < flops.mxu_share(B0, 128) < flops.mxu_share(B4, 128)


def test_roofline():
    tpu = parse_slice("v5e-8")
    time = step_time(tpu, Work(197e9, 98.5e9, 0.25, 819e6, 0, 3_000_000))
    assert time.compute == pytest.approx(1e-3)
    assert time.padded_compute == pytest.approx(2e-3)
    assert time.memory == pytest.approx(1e-3)
    assert time.lower_bound == pytest.approx(2e-3)
    assert time.upper_bound == pytest.approx(2e-3)  # 3 million cycles at 1500 MHz
    assert time.bound_by == "matrix units"
    assert step_time(tpu, Work(197e9, 0, 1, 8190e6, 0)).bound_by == "memory"
    # A core of v3 is half a chip.
    assert step_time(parse_slice("v3-8"), Work(123e9, 0, 1, 0, 0)).compute == pytest.approx(2e-3)


def test_the_sum_over_cores():
    assert all_reduce_seconds(parse_slice("v5e-1"), 1e9) == 0
    # 7/8 of the gradients go round twice, over links of 50 GB/s both ways.
    assert all_reduce_seconds(parse_slice("v5e-8"), 100e6) == pytest.approx(2 * 7 / 8 * 100e6 / 100e9)


def test_the_whole_recipe():
    cost = training_cost(parse_slice("v5e-16"), 0.1, 1600, 36_000, 1.5)
    assert cost.images_per_second == pytest.approx(16_000)
    assert cost.images_per_second_per_host == pytest.approx(4_000)
    assert cost.hours == pytest.approx(1)
    assert cost.chip_hours == pytest.approx(16)
    assert cost.price == pytest.approx(24)


COMPILED_FULL = dataclasses.replace(COMPILED, temp_bytes=14 * 2**30, needed_bytes=int(14.5 * 2**30))


def test_what_was_squeezed_into_memory_says_nothing_of_other_batches():
    """And is counted where it is the step that is asked for."""
    squeezed = CompiledStep(dataclasses.replace(KEY, batch_size=1536), COMPILED_FULL, "libtpu", "", 1.0)
    rows = [squeezed, ROW]
    assert estimate_step(squeezed.key, B0, "rmsprop", rows).compilation.needed_bytes == COMPILED_FULL.needed_bytes
    other = estimate_step(dataclasses.replace(KEY, batch_size=1400), B0, "rmsprop", rows)
    assert other.memory_row is ROW
    planner = Planner(Config(), B0, rows)
    assert planner.largest_modeled_batch(parse_slice("v5e-8")) == 1536


def test_a_row_of_little_effort_counts_for_memory_only():
    key = dataclasses.replace(KEY, batch_size=64)
    little = CompiledStep(key, LITTLE, "", "", 30.0, "memory")
    found = estimate_step(key, B0, "rmsprop", [ROW, little])
    assert (found.is_compiled, found.is_memory_compiled) == (False, True)
    assert found.compilation.needed_bytes == LITTLE.needed_bytes
    assert found.compilation.flops == LITTLE.flops
    # Fewer images than a tile has lanes: more than half the traffic.
    traffic = found.compilation.costs["depthwise"].hbm_bytes / COMPILED.costs["depthwise"].hbm_bytes
    assert 0.5 < traffic < 1
    # The whole truth is preferred, whatever comes first.
    whole = dataclasses.replace(ROW, key=key)
    assert estimate_step(key, B0, "rmsprop", [little, whole]).is_compiled
    assert table.from_json(json.loads(table.to_json(little))) == little


def test_activations_are_padded_to_tiles():
    of = activation_memory.Activation
    assert of(10, 24).padded_bytes(128) == 2 * 10 * 24 * 128  # images along the lanes
    assert of(10, 24).padded_bytes(8) == 2 * 10 * 128 * 8  # channels, padded to 128, for lack of images
    assert of(10, 129).padded_bytes(64) == 2 * 10 * 256 * 64  # fewer than 136 channels of 128 images


def test_rematerializing_keeps_what_blocks_put_out():
    whole, thrifty, nothing = (activation_memory.activation_bytes(B0, 128, how) for how in ("none", "blocks", "all"))
    largest = 2 * 128 * (112**2 * 96 + 56**2 * 96 + 56**2 * 24)  # the second block
    assert nothing == largest
    outputs = {16: 112**2, 24: 2 * 56**2, 40: 2 * 28**2, 80: 3 * 14**2, 112: 3 * 14**2, 192: 4 * 7**2, 320: 7**2}
    head = 1280 * 7**2
    assert thrifty == 2 * largest + 2 * 128 * (sum(filters * size for filters, size in outputs.items()) + head)
    # All but what squeeze-and-excitation and the classifier write.
    convolutions = count(B0).activations - 1000 - sum(b.se_filters + b.expanded_filters for b in B0.blocks)
    assert whole == largest + 2 * 128 * convolutions


def test_a_rematerialised_step_takes_four_passes_for_three():
    key = dataclasses.replace(KEY, recipe="rmsprop bfloat16 rematerialize=blocks")
    found = estimate_step(key, B0, "rmsprop", [ROW]).compilation
    kept = [activation_memory.activation_bytes(B0, 128, how) for how in ("blocks", "none")]
    assert found.temp_bytes == pytest.approx(COMPILED.temp_bytes * kept[0] / kept[1], rel=1e-6)
    assert found.costs["depthwise"].hbm_bytes == pytest.approx(4 / 3 * COMPILED.costs["depthwise"].hbm_bytes)
    assert found.flops == pytest.approx(4 / 3 * COMPILED.flops)
