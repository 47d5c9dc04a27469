"""One core's training step as HLO: that it is the whole step, with the slice's sums; its cost; that it compiles."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.models.architecture import output_size
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.plan.flops import step_flops
from efficientnet_tpu.training.memory import state_bytes
from tests.support.hlo_flops import matrix_flops

ROOT = Path(__file__).parents[2]
CORES, PER_CORE, IMAGES = 16, 4, 1_281_167
needs_compiler = pytest.mark.skipif(
    not (importlib.util.find_spec("jax") and importlib.util.find_spec("libtpu")),
    reason="the TPU compiler comes with the extra plan",
)


def lower(architecture, num_cores, per_core, **options):
    from efficientnet_tpu.plan.lowering import lower_train_step

    config = with_options(Config(), {"train_batch_size": per_core * num_cores} | options)
    return lower_train_step(architecture, config, num_cores, IMAGES)


@pytest.fixture(scope="module")
def architecture():
    return build_architecture("efficientnet-nano", depth_coefficient=0.2)


@pytest.fixture(scope="module")
def lowered(tf, architecture):
    """On 16 cores, where batch norm is shared by groups of 8."""
    return lower(architecture, CORES, PER_CORE)


@pytest.mark.slow
def test_every_gradient_and_every_shared_moment_is_summed(tf, lowered, architecture):
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.layers import BatchNormalization

    model = build_model(architecture)
    norms = sum(isinstance(layer, BatchNormalization) for layer in model.layers)
    groups = Counter(re.findall(r"all-reduce\(.*replica_groups=(\{\{.*?\}\})", lowered.text))
    everyone = "{{" + ",".join(map(str, range(CORES))) + "}}"
    eights = "{{0,1,2,3,4,5,6,7},{8,9,10,11,12,13,14,15}}"
    assert groups == {everyone: len(model.trainable_weights), eights: 2 * norms}


@pytest.mark.slow
def test_it_is_the_tpu_formulation_in_bfloat16(tf, architecture):
    # CPUs and GPUs have a kernel of their own for batch norm that is not shared, as up to 8 cores.
    text = lower(architecture, 8, PER_CORE).text
    assert "batch-norm" not in text
    dtypes = Counter(re.findall(r"= (\w+)\[[\d,]*\]\S* convolution\(", text))
    # But for the two sums that are the gradient of an expansion's kernel, which nearly cancel.
    assert dtypes["f32"] == 2 * sum(block.expand_ratio > 1 for block in architecture.blocks)
    assert set(dtypes) == {"bf16", "f32"}


@pytest.mark.slow
def test_what_a_core_holds_is_counted_exactly(lowered, architecture):
    counted = state_bytes(architecture, "rmsprop")
    # Layers of Keras hold a few numbers more: generators' seeds, what normalisation divides by.
    assert lowered.weight_bytes == pytest.approx(counted.weights, abs=200)
    assert lowered.average_bytes == lowered.weight_bytes
    assert 0 <= lowered.slot_bytes - counted.slots <= 8  # the step's number


@pytest.mark.slow
def test_blocks_are_computed_again_behind_a_barrier(tf, lowered, architecture):
    """Without it the compiler would find the same operations, and remember what they gave."""
    again = lower(architecture, CORES, PER_CORE, rematerialize="blocks")
    blocks = len(architecture.blocks)
    barriers = [text.count(" opt-barrier(") for text in (lowered.text, again.text)]
    assert barriers == [blocks, 2 * blocks]  # one before a projection's gradient is computed again
    forward, again_forward = (text.count(" convolution(") for text in (lowered.text, again.text))
    # All convolutions but the head's; an expansion's and the gate's two are asked for twice, by layers and by the piece
    # that they are computed in.
    repeated = sum(2 + 4 * bool(block.se_filters) + 2 * (block.expand_ratio > 1) for block in architecture.blocks)
    assert again_forward - forward == 1 + repeated
    assert again.weight_bytes == lowered.weight_bytes


@pytest.mark.slow
def test_evaluation_and_serving_are_lowered(tf, architecture):
    from efficientnet_tpu.plan.lowering import lower_eval_step, lower_serving

    config = with_options(Config(), {"eval_batch_size": PER_CORE * CORES})
    forward = sum(step_flops(architecture).values()) / 3
    for lower_it, kind in ((lower_eval_step, "bf16"), (lower_serving, "f32")):
        _, text = lower_it(architecture, config, CORES)
        found = matrix_flops(text)
        assert sum(found.values()) == pytest.approx(forward * PER_CORE, rel=0.05)
        assert set(re.findall(r"= (\w+)\[[\d,]*\]\S* convolution\(", text)) == {kind}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"optimizer": "momentum"}, {"precision": "float32"}])
def test_options_change_the_program(tf, lowered, architecture, options):
    other = lower(architecture, CORES, PER_CORE, **options)
    assert other.text != lowered.text
    assert (other.slot_bytes < lowered.slot_bytes) == ("optimizer" in options)


def fused_flops(architecture, per_core):
    """What TensorFlow asks for besides: two small products of an expansion's gradient (see expansion.py), each with one
    of matrices, and its convolution a second time, which the compiler drops; the gradient of a projection's input a
    second time (projection.py); and its gate twice more, of which one is dropped.
    """
    size, flops = output_size(architecture.resolution, 2), 0
    for block in architecture.blocks:
        inputs, expanded = block.input_filters, block.expanded_filters
        if block.expand_ratio > 1:
            flops += 2 * per_core * size**2 * inputs * (2 * inputs + expanded) + 4 * inputs**2 * expanded
        size = output_size(size, block.strides)
        flops += 2 * per_core * expanded * (size**2 * block.filters + 4 * block.se_filters)
    return flops


def assert_flops_agree(lowered, architecture, per_core):
    found, counted = matrix_flops(lowered.text), step_flops(architecture)
    # TensorFlow asks for the gradient of the images as well; no compiled program has it, since nothing uses it.
    counted["stem"] *= 3 / 2
    depthwise = counted.pop("depthwise") * per_core
    assert found["depthwise"] == pytest.approx(depthwise, rel=0.02)
    assert found["convolution"] + found["dot"] == pytest.approx(
        sum(counted.values()) * per_core + fused_flops(architecture, per_core), rel=0.02
    )


@pytest.mark.slow
def test_flops_are_those_of_the_records(lowered, architecture):
    assert_flops_agree(lowered, architecture, PER_CORE)


@pytest.mark.slow
def test_flops_of_b0_are_those_of_the_records(tf):
    architecture = build_architecture("efficientnet-b0")
    assert_flops_agree(lower(architecture, 8, 8), architecture, 8)


COMPILE = """
import json, sys
from efficientnet_tpu.cli import main
for tpu in ("v5e-8", "v3-8"):
    main(["main.py", "plan", "--compile", f"--tpu_type={tpu}", "--train_batch_size=256", *sys.argv[1:]])
"""
NANO = ("--model=efficientnet-nano", "--depth_coefficient=0.2")


@pytest.mark.tpu_compiler
@pytest.mark.slow
@needs_compiler
def test_a_small_model_compiles_for_two_kinds_of_tpu(tmp_path):
    from efficientnet_tpu.plan import table as plan_table

    table = tmp_path / "table.jsonl"

    def plan():
        command = [sys.executable, "-c", COMPILE, *NANO, f"--plan_table={table}"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300).stdout

    text = plan()
    rows = plan_table.load(table)
    assert [row.key.kind for row in rows] == ["v3", "v5e"]
    for row in rows:
        compilation = row.compilation
        assert compilation.fits
        assert compilation.flops > 0
        # The weights, their average and the slots are given and returned in place.
        small = build_architecture(row.key.model, depth_coefficient=row.key.depth)
        assert compilation.alias_bytes >= state_bytes(small, "rmsprop").total
    v3, v5e = (row.compilation for row in rows)
    # v3 has no memory on the chip that values could stay in, and so the two counts of traffic are one.
    assert v3.hbm_bytes == pytest.approx(v3.bytes_accessed, rel=0.05)
    assert v5e.hbm_bytes < 0.5 * v5e.bytes_accessed
    assert text.count("is compiled by libtpu") == 2
    assert "compiling" not in plan()  # the same program, slice and compiler: nothing to do
    assert len(plan_table.load(table)) == 2


@pytest.mark.tpu_compiler
@pytest.mark.slow
@needs_compiler
def test_many_arguments_are_given_as_a_tuple(tmp_path):
    """As B7's on v3, which takes no more than 3,293: weights and slots are updated in place all the same."""
    from efficientnet_tpu.plan import table as plan_table

    rows = []
    for limit in (3000, 10):
        table = tmp_path / f"{limit}.jsonl"
        code = f"from efficientnet_tpu.plan import tpu_compiler; tpu_compiler._MAX_ARGUMENTS = {limit}\n{COMPILE}"
        command = [sys.executable, "-c", code, *NANO, "--plan_effort=memory", f"--plan_table={table}"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=300)
        rows.append(plan_table.load(table))
    for apart, together in zip(*rows, strict=True):
        assert together.program == apart.program
        assert together.compilation.alias_bytes == apart.compilation.alias_bytes > 0
        assert together.compilation.argument_bytes == pytest.approx(apart.compilation.argument_bytes, rel=0.01)


@pytest.mark.tpu_compiler
@pytest.mark.slow
@needs_compiler
def test_b0_needs_what_the_table_says(tmp_path):
    """With little effort of the compiler, a minute of CPU time; recomputing blocks takes half of it."""
    from efficientnet_tpu.plan import table as plan_table

    table = tmp_path / "table.jsonl"
    flags = ["--model=efficientnet-b0", "--plan_effort=memory", "--train_batch_size=1024", f"--plan_table={table}"]
    rows = plan_table.load(plan_table.SHIPPED)
    others = tmp_path / "others.jsonl"  # what is in the shipped table would not be compiled
    others.write_text("".join(plan_table.to_json(row) + "\n" for row in rows if row.key.model != "efficientnet-b0"))
    code = f"from efficientnet_tpu.plan import table; table.SHIPPED = {str(others)!r}\n{COMPILE}"
    for more in ([], ["--rematerialize=blocks"]):
        command = [sys.executable, "-c", code.replace('("v5e-8", "v3-8")', '("v5e-8",)'), *flags, *more]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=900)
    thrifty, plain = plan_table.load(table)
    shipped = next(row for row in rows if row.key == plain.key)
    # Small changes of a program have moved what it needs by 15%.
    assert plain.compilation.needed_bytes == pytest.approx(shipped.compilation.needed_bytes, rel=0.2)
    assert thrifty.compilation.needed_bytes < 0.6 * plain.compilation.needed_bytes
