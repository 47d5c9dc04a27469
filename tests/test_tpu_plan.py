"""`main.py plan`: the table, the model scaled from it, the roofline, the report; no compiler, no TensorFlow."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.analysis import activation_model, operation_model, plan_model, plan_table, tpu_plan
from efficientnet_tpu.analysis.compiled_program import Compilation, Cost
from efficientnet_tpu.analysis.plan_table import Key, Row
from efficientnet_tpu.analysis.recipe_cost import recipe_cost
from efficientnet_tpu.analysis.roofline import Work, all_reduce_seconds, step_time
from efficientnet_tpu.config import Config, UserError, with_options
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.tpu_types import slice_of

GOLDEN = Path(__file__).parent / "golden" / "plan_b0_v5e.txt"
MIB = 2**20
B0, B4 = build_architecture("efficientnet-b0"), build_architecture("efficientnet-b4")
KEY = Key("efficientnet-b0", None, None, 224, 1000, "v5e", 8, 128, "rmsprop bfloat16")
COMPILED = Compilation(
    argument_bytes=102 * MIB,
    output_bytes=84 * MIB,
    alias_bytes=84 * MIB,
    temp_bytes=1950 * MIB,
    code_bytes=80 * MIB,
    flops=350e9,
    bytes_accessed=26e9,
    costs={
        "depthwise": Cost(3_200_000_000, 45_000_000),
        "pointwise": Cost(4_100_000_000, 21_000_000),
        "optimizer and average": Cost(70_000_000, 1_000_000),
    },
    needed_bytes=2132 * MIB,
)
ROW = Row(KEY, COMPILED, "libtpu 0.0.52, jax 0.10.2", "1234", 200.0)


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A shipped table of one row, and the user's, which is not there yet."""
    shipped, own = tmp_path / "shipped.jsonl", tmp_path / "own.jsonl"
    shipped.write_text(plan_table.to_json(ROW) + "\n")
    monkeypatch.setattr(plan_table, "SHIPPED", shipped)
    return shipped, own


def printed(capsys, tables, *flags):
    cli.main(["main.py", "plan", f"--plan_table={tables[1]}", *flags])
    return capsys.readouterr().out


def test_the_report(capsys, tables):
    """After a change: `PLAN_GOLDEN=1 pytest tests/test_tpu_plan.py`, and read the difference."""

    text = printed(capsys, tables, "--tpu_type=v5e-8", "--train_batch_size=1024", "--price_per_chip_hour=1.2")
    if os.environ.get("PLAN_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_rows_survive_the_file(tables):
    assert plan_table.load(tables[0]) == [ROW]
    no_fit = dataclasses.replace(ROW, compilation=Compilation(needed_bytes=20, limit_bytes=10))
    assert plan_table.from_json(plan_table.to_json(no_fit)) == no_fit
    assert not no_fit.compilation.fits


@pytest.mark.parametrize("line", ["{}", "half a li", "[]", ""])
def test_a_damaged_table_is_named(tables, line):
    tables[1].write_text(f"{plan_table.to_json(ROW)}\n{line}\n")
    with pytest.raises(UserError, match=r"own\.jsonl: line 2 is no row"):
        plan_table.load(*tables)


def test_later_rows_count_for_more():
    newer = dataclasses.replace(ROW, compilation=dataclasses.replace(COMPILED, temp_bytes=1), program="5678")
    assert plan_model.estimate(KEY, B0, "rmsprop", [newer, ROW]).compilation.temp_bytes == 1


def test_a_row_is_compiled_and_anything_else_is_modelled():
    exact = plan_model.estimate(KEY, B0, "rmsprop", [ROW])
    assert exact.is_compiled
    assert exact.compilation == COMPILED
    for change in ({"batch_size": 64}, {"kind": "v3"}, {"recipe": "sgd bfloat16"}, {"num_cores": 16}):
        key = dataclasses.replace(KEY, **change)
        assert not plan_model.estimate(key, B0, "rmsprop", [ROW]).is_compiled, change
    assert plan_model.estimate(KEY, B0, "rmsprop", []) is None


def test_scaling_a_row_to_itself_changes_nothing():
    same = plan_model.scaled(ROW, KEY, B0, "rmsprop")
    assert same.flops == pytest.approx(COMPILED.flops)
    for name in ("argument_bytes", "temp_bytes", "code_bytes", "bytes_accessed", "needed_bytes"):
        assert getattr(same, name) == pytest.approx(getattr(COMPILED, name), abs=1), name
    assert same.costs == COMPILED.costs


def test_memory_grows_with_the_batch_but_not_the_weights():
    double = plan_model.scaled(ROW, dataclasses.replace(KEY, batch_size=256), B0, "rmsprop")
    assert double.temp_bytes == 2 * COMPILED.temp_bytes
    assert double.argument_bytes == COMPILED.argument_bytes + 3 * 224**2 * 128
    assert double.costs["depthwise"].hbm_bytes == 2 * COMPILED.costs["depthwise"].hbm_bytes
    assert double.costs["optimizer and average"] == COMPILED.costs["optimizer and average"]
    sgd = plan_model.scaled(ROW, dataclasses.replace(KEY, recipe="sgd bfloat16"), B0, "sgd")
    # scaled() takes the row's state to have been the same optimizer's.
    assert sgd.argument_bytes <= COMPILED.argument_bytes


def test_the_nearest_row_is_of_the_same_kind_first():
    other_kind = dataclasses.replace(
        ROW, key=dataclasses.replace(KEY, model="efficientnet-b4", resolution=380, kind="v3")
    )
    wanted = Key("efficientnet-b4", None, None, 380, 1000, "v5e", 8, 128, "rmsprop bfloat16")
    assert plan_model.estimate(wanted, B4, "rmsprop", [other_kind, ROW]).row is ROW


def test_the_models_error_is_that_of_predicting_rows_from_others():
    larger = plan_model.scaled(ROW, dataclasses.replace(KEY, batch_size=256), B0, "rmsprop")
    needed = larger.needed_bytes * 2
    second = Row(
        dataclasses.replace(KEY, batch_size=256), dataclasses.replace(larger, needed_bytes=needed), "", "", 0.0
    )
    errors = plan_model.model_errors([ROW, second])
    assert errors["memory"][1] == pytest.approx(-0.5, abs=0.01)
    assert errors["traffic"] == pytest.approx([0, 0], abs=0.01)
    assert plan_model.largest_errors([ROW]) == {"memory": 1, "traffic": 1}  # nothing to compare it with


# The records' multiply-adds are the paper's; a step counts them three times, the stem's twice.
@pytest.mark.parametrize(
    "name", ["efficientnet-b0", "efficientnet-b7", "efficientnet-lite0", "resnet-50", "mobilenet-v1"]
)
def test_flops_of_a_step(name):
    architecture = build_architecture(name)
    cost, flops = count(architecture), operation_model.step_flops(architecture)
    stem = flops["stem"] / 4
    assert sum(flops.values()) == pytest.approx(6 * cost.multiply_adds - 2 * stem)


def test_padding_of_matrix_units():
    product = operation_model.MatrixProduct("pointwise", 100, 96, 24)
    assert product.share_of_mxu(128) == pytest.approx(96 / 128 * 24 / 128)
    assert operation_model.MatrixProduct("pointwise", 1, 256, 128).share_of_mxu(128) == 1
    assert operation_model.mxu_share(B0, 128) == pytest.approx(0.2475, abs=0.001)
    assert operation_model.mxu_share(B0, 256) < operation_model.mxu_share(B0, 128) < operation_model.mxu_share(B4, 128)


def test_roofline():
    tpu = slice_of("v5e-8")
    time = step_time(tpu, Work(197e9, 98.5e9, 0.25, 819e6, 0, 3_000_000))
    assert time.compute == pytest.approx(1e-3)
    assert time.padded_compute == pytest.approx(2e-3)
    assert time.memory == pytest.approx(1e-3)
    assert time.at_best == pytest.approx(2e-3)
    assert time.at_worst == pytest.approx(2e-3)  # 3 million cycles at 1500 MHz
    assert time.bound_by == "matrix units"
    assert step_time(tpu, Work(197e9, 0, 1, 8190e6, 0)).bound_by == "memory"
    # A core of v3 is half a chip.
    assert step_time(slice_of("v3-8"), Work(123e9, 0, 1, 0, 0)).compute == pytest.approx(2e-3)


def test_the_sum_over_cores():
    assert all_reduce_seconds(slice_of("v5e-1"), 1e9) == 0
    # 7/8 of the gradients go round twice, over links of 50 GB/s both ways.
    assert all_reduce_seconds(slice_of("v5e-8"), 100e6) == pytest.approx(2 * 7 / 8 * 100e6 / 100e9)


def test_the_whole_recipe():
    cost = recipe_cost(slice_of("v5e-16"), 0.1, 1600, 36_000, 1.5)
    assert cost.images_per_second == pytest.approx(16_000)
    assert cost.images_per_second_per_host == pytest.approx(4_000)
    assert cost.hours == pytest.approx(1)
    assert cost.chip_hours == pytest.approx(16)
    assert cost.price == pytest.approx(24)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tpu_type=v9-8"], "--tpu_type=v9-8: no such TPU. There are v2, v3, v4, v5e, v5p, v6e, "),
        (["--tpu_type=v5e-8,v3-7"], "--tpu_type=v3-7: no such size. There are v3-8, v3-32, "),
        (["--tpu_type=v5e-8", "--train_batch_size=100"], "the 8 cores of v5e-8. Use 96 or 104."),
        (["--tpu_type=v5e-8", "--train_batch_size=4"], "Use 8 or 16."),
        (["--train_batch_size=256"], "--tpu_type is missing."),
        (["--tpu_type=v5e-8", "--largest_batch", "--plan_step=serving"], "leave out --plan_step=serving."),
    ],
)
def test_what_cannot_be_planned(tables, flags, message):
    with pytest.raises(UserError) as error:
        cli.main(["main.py", "plan", f"--plan_table={tables[1]}", *flags])
    assert message in str(error.value)


def test_the_extra_is_asked_for(monkeypatch):
    from efficientnet_tpu.analysis import tpu_compiler

    installed = {}
    monkeypatch.setattr(tpu_compiler, "_version", installed.get)
    with pytest.raises(UserError, match=r"jax and libtpu are not installed.*'\.\[cpu,plan\]'"):
        tpu_compiler.prepare()
    installed.update({"jax": "0.10.2", "libtpu": "0.0.17", "tensorflow-tpu": "2.20.0"})
    with pytest.raises(UserError, match="tensorflow-tpu is installed here"):
        tpu_compiler.prepare()


@pytest.mark.parametrize(
    "message",
    [
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (20.50G) exceeds available HBM (15.75G). HLO module: jit__lambda.",
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity",
    ],
)
def test_what_does_not_fit_is_a_result(message):
    from efficientnet_tpu.analysis.tpu_compiler import _refused

    found = _refused(message, "v5e:2x4")
    assert (found.needed_bytes, found.limit_bytes) == (20.5 * 2**30, 15.75 * 2**30)


def test_what_the_compiler_refuses():
    from efficientnet_tpu.analysis.tpu_compiler import _refused

    with pytest.raises(UserError, match="refused v5e:2x4: UNIMPLEMENTED: no such op"):
        _refused("UNIMPLEMENTED: no such op foo\nsecond line", "v5e:2x4")
    with pytest.raises(UserError, match="another program holds libtpu"):
        _refused(
            "ABORTED: internal error when accessing libtpu multi-process lockfile. Run rm /tmp/libtpu_lockfile", "v"
        )


def test_what_does_not_fit_says_what_would(capsys, tables):
    text = printed(capsys, tables, "--model=efficientnet-b7", "--tpu_type=v5e-8", "--train_batch_size=1024")
    assert "128 a core: does NOT fit." in text
    assert "and fit it: --compile tells." in text.splitlines()[1]
    changes = text.partition("To make it fit:\n")[2].splitlines()
    assert len(changes) == 3
    for change in changes:
        flag = change.strip().split(":")[0]
        other = printed(capsys, tables, "--model=efficientnet-b7", "--tpu_type=v5e-8", "--train_batch_size=1024", flag)
        assert "NOT fit" not in other.splitlines()[0], change


def test_a_modelled_answer_near_the_limit_is_not_given_as_sure(capsys, tables):
    size = 8 * int(15.2 * 2**30 // (COMPILED.temp_bytes / 128))
    text = printed(capsys, tables, "--tpu_type=v5e-8", f"--train_batch_size={size}")
    assert "may fit (too near the limit for a model; --compile makes sure)" in text


def test_largest_batches(capsys, tables):
    text = printed(capsys, tables, "--tpu_type=v5e-8,v6e-8", "--largest_batch")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("  v")}
    sizes = {name: int(words[1].replace(",", "")) for name, words in lines.items()}
    assert sizes["v6e-8"] > 1.9 * sizes["v5e-8"] > 1000
    assert sizes["v5e-8"] % 8 == 0
    for name, size in sizes.items():
        whole = printed(capsys, tables, f"--tpu_type={name}", f"--train_batch_size={8 * size}")
        assert "NOT fit" not in whole
        more = printed(capsys, tables, f"--tpu_type={name}", f"--train_batch_size={int(8.8 * size) // 8 * 8}")
        assert "fits." not in more.splitlines()[0]


def search_with(monkeypatch, compiler):
    """The largest batch on v5e-8, and the batches that were compiled for it. compiler: of what the model says a step
    needs -> what it needs.
    """
    from efficientnet_tpu.analysis import step_compilation

    tried = []

    def compiled_row(key, config, tpu, rows, table):
        tried.append(key.batch_size)
        modelled = plan_model.scaled(ROW, key, B0, "rmsprop")
        needed = int(compiler(modelled.needed_bytes))
        if needed > tpu.generation.hbm_limit:
            return Row(key, Compilation(needed_bytes=needed, limit_bytes=tpu.generation.hbm_limit), "", "", 0.0)
        return Row(key, dataclasses.replace(modelled, needed_bytes=needed), "", "", 0.0)

    monkeypatch.setattr(step_compilation, "compiled_row", compiled_row)
    planner = tpu_plan.Planner(with_options(Config(), {"compile": True}), B0, [ROW])
    best, estimate = planner.largest_batch(slice_of("v5e-8"))
    assert estimate.is_compiled
    assert estimate.compilation.needed_bytes <= slice_of("v5e-8").generation.hbm_limit
    return best, tried


LIMIT = 15.75 * 2**30
PER_IMAGE = COMPILED.needed_bytes / 128


def test_the_search_for_the_largest_batch_compiles_where_the_model_points(monkeypatch):
    """A compiler by which everything takes half as much again as the model says."""
    best, tried = search_with(monkeypatch, lambda needed: 1.5 * needed)
    assert tried[0] > tried[1]
    assert len(tried) <= 4
    assert best in tried
    assert best == pytest.approx(LIMIT / (1.5 * PER_IMAGE), rel=0.1)


def test_the_search_finds_what_the_compiler_squeezes(monkeypatch):
    """A compiler that computes again what it has no room for, as long as a third is left of what would be kept."""
    best, tried = search_with(
        monkeypatch, lambda needed: needed if needed < LIMIT or needed > 3 * LIMIT else 0.9 * LIMIT
    )
    first = tried[0]
    assert first == pytest.approx(LIMIT / PER_IMAGE, rel=0.1)
    assert tried == [first, 2 * first, 4 * first, 3 * first // 8 * 8]
    assert best == tried[-1]


COMPILED_FULL = dataclasses.replace(COMPILED, temp_bytes=14 * 2**30, needed_bytes=int(14.5 * 2**30))


def test_what_was_squeezed_into_memory_says_nothing_of_other_batches():
    """And is counted where it is the step that is asked for."""
    squeezed = Row(dataclasses.replace(KEY, batch_size=1536), COMPILED_FULL, "libtpu", "", 1.0)
    rows = [squeezed, ROW]
    assert plan_model.estimate(squeezed.key, B0, "rmsprop", rows).compilation.needed_bytes == COMPILED_FULL.needed_bytes
    other = plan_model.estimate(dataclasses.replace(KEY, batch_size=1400), B0, "rmsprop", rows)
    assert other.memory_row is ROW
    planner = tpu_plan.Planner(Config(), B0, rows)
    assert planner.largest_modelled(slice_of("v5e-8")) == 1536


LITTLE = Compilation(
    argument_bytes=100 * MIB, temp_bytes=900 * MIB, code_bytes=30 * MIB, flops=350e9, needed_bytes=1030 * MIB
)


def test_a_row_of_little_effort_counts_for_memory_only():
    key = dataclasses.replace(KEY, batch_size=64)
    little = Row(key, LITTLE, "", "", 30.0, "memory")
    found = plan_model.estimate(key, B0, "rmsprop", [ROW, little])
    assert (found.is_compiled, found.is_memory_compiled) == (False, True)
    assert found.compilation.needed_bytes == LITTLE.needed_bytes
    assert found.compilation.flops == LITTLE.flops
    # Fewer images than a tile has lanes: more than half the traffic.
    traffic = found.compilation.costs["depthwise"].hbm_bytes / COMPILED.costs["depthwise"].hbm_bytes
    assert 0.5 < traffic < 1
    # The whole truth is preferred, whatever comes first.
    whole = dataclasses.replace(ROW, key=key)
    assert plan_model.estimate(key, B0, "rmsprop", [little, whole]).is_compiled
    assert plan_table.from_json(plan_table.to_json(little)) == little


def test_little_effort_is_said(capsys, tables):
    little = Row(dataclasses.replace(KEY, batch_size=64), LITTLE, "libtpu 0.0.52, jax 0.10.2", "", 30.0, "memory")
    tables[1].write_text(plan_table.to_json(little) + "\n")
    text = printed(capsys, tables, "--tpu_type=v5e-8", "--train_batch_size=512")
    assert "Its memory is compiled by libtpu 0.0.52" in text
    assert (
        "HBM of a core: 1.01 GiB of the 15.75 GiB that a program may have [compiled with little effort, +-2%]" in text
    )


def test_activations_are_padded_to_tiles():
    of = activation_model.Activation
    assert of(10, 24).padded_bytes(128) == 2 * 10 * 24 * 128  # images along the lanes
    assert of(10, 24).padded_bytes(8) == 2 * 10 * 128 * 8  # channels, padded to 128, for lack of images
    assert of(10, 129).padded_bytes(64) == 2 * 10 * 256 * 64  # fewer than 136 channels of 128 images


def test_rematerializing_keeps_what_blocks_put_out():
    whole, thrifty, nothing = (activation_model.activation_bytes(B0, 128, how) for how in ("none", "blocks", "all"))
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
    found = plan_model.estimate(key, B0, "rmsprop", [ROW]).compilation
    kept = [activation_model.activation_bytes(B0, 128, how) for how in ("blocks", "none")]
    assert found.temp_bytes == pytest.approx(COMPILED.temp_bytes * kept[0] / kept[1], rel=1e-6)
    assert found.costs["depthwise"].hbm_bytes == pytest.approx(4 / 3 * COMPILED.costs["depthwise"].hbm_bytes)
    assert found.flops == pytest.approx(4 / 3 * COMPILED.flops)


def test_changes_are_compiled_before_they_are_named(capsys, tables, monkeypatch):
    """A compiler by which recomputing saves nothing, and all else is as the model says."""
    from efficientnet_tpu.analysis import step_compilation

    tried = []

    def compiled_row(key, config, tpu, rows, table):
        tried.append((key.recipe, config.plan.plan_effort))
        plain = dataclasses.replace(key, recipe="rmsprop bfloat16")
        parts = config.train.gradient_accumulation_steps
        micro = dataclasses.replace(plain, batch_size=key.batch_size // parts)
        found = plan_model.scaled(ROW, micro, B0, "rmsprop")
        limit = tpu.generation.hbm_limit
        if found.needed_bytes > limit:
            found = Compilation(needed_bytes=found.needed_bytes, limit_bytes=limit)
        return Row(key, found, "libtpu 1", "", 0.0, config.plan.plan_effort)

    monkeypatch.setattr(step_compilation, "compiled_row", compiled_row)
    text = printed(capsys, tables, "--compile", "--tpu_type=v5e-8", "--train_batch_size=10240")
    lines = text.partition("To make it fit:\n")[2].splitlines()
    assert "--rematerialize=blocks" in lines[0]
    assert "does NOT fit either" in lines[0]
    assert "compiled]" in lines[0]
    assert len(lines) == 4
    assert all("compiled]" in line and "NOT" not in line for line in lines[1:])
    assert tried[0] == ("rmsprop bfloat16", "full")
    assert {effort for _, effort in tried[1:]} == {"memory"}


@pytest.mark.parametrize(
    ("rate", "verdict"), [(1e6, "enough at best too"), (40_000, "enough at worst, not at best"), (100, "NOT enough")]
)
def test_whether_hosts_feed_it(capsys, tables, rate, verdict):
    flags = ("--tpu_type=v5e-8", "--train_batch_size=1024", f"--host_images_per_second={rate}")
    text = printed(capsys, tables, *flags)
    assert f"hosts prepare {rate:,.0f} images/s each, measured as given: {verdict}" in text
    assert ("at least" in text) == (verdict != "enough at best too")


@pytest.mark.parametrize(("step", "recipe"), [("evaluation", "evaluation bfloat16"), ("serving", "serving float32")])
def test_inference(capsys, tables, step, recipe):
    flags = ("--tpu_type=v5e-8", "--eval_batch_size=256", f"--plan_step={step}")
    with pytest.raises(UserError, match=f"no compiled step of kind {step}; --compile makes the first"):
        printed(capsys, tables, *flags)
    key = dataclasses.replace(KEY, recipe=recipe, batch_size=32)
    compilation = dataclasses.replace(LITTLE, flops=1e9, costs={"depthwise": Cost(819_000_000, 3_000_000)})
    tables[1].write_text(plan_table.to_json(Row(key, compilation, "libtpu 1", "", 30.0)) + "\n")
    text = printed(capsys, tables, *flags)
    assert "256 images, 32 a core: fits." in text
    assert "1.00 to 2.00 ms; 128,000 to 256,000 images/s" in text
    with pytest.raises(UserError, match=r"--eval_batch_size=100: .* over the 8 cores of v5e-8\. Use 104"):
        printed(capsys, tables, *flags[::2], "--eval_batch_size=100")


def test_micro_batches_take_the_memory_of_one_and_the_time_of_all(tables):

    def planned(**options):
        config = with_options(Config(), {"tpu_type": "v5e-8", "train_batch_size": 2048} | options)
        planner = tpu_plan.Planner(config, B0, [ROW])
        return planner.plan(slice_of("v5e-8"), 2048)

    whole, parts = planned(), planned(gradient_accumulation_steps=2)
    assert parts.estimate.compilation.temp_bytes == COMPILED.temp_bytes
    assert whole.estimate.compilation.temp_bytes == 2 * COMPILED.temp_bytes
    assert parts.time.memory == pytest.approx(whole.time.memory)


def test_the_shipped_table_is_whole():
    rows = plan_table.load(plan_table.SHIPPED)
    assert {"v3", "v5e"} <= {row.key.kind for row in rows}
    for row in rows:
        assert row.compiler.startswith("libtpu ")
        if row.compilation.fits and plan_table.step_of(row.key) == "train":
            architecture = build_architecture(row.key.model)
            held = operation_model.state_bytes(architecture, "rmsprop").total
            images = 3 * row.key.resolution**2 * row.key.batch_size
            # Arguments are what training holds and the images, but for padding to tiles.
            assert 1 <= row.compilation.argument_bytes / (held + images) < 1.1, row.key
    assert len({row.key for row in rows}) == len(rows)


def test_it_answers_without_tensorflow(tables):
    command = (
        "import sys; from efficientnet_tpu.cli import main;"
        f"main(['main.py', 'plan', '--tpu_type=v5e-8', '--train_batch_size=1024', '--plan_table={tables[1]}']);"
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", command], check=True, cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL
    )
