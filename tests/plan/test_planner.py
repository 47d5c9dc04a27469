"""`main.py plan`: its report, the table on disk, the search for the largest batch, what is refused; no TensorFlow."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.plan import table
from efficientnet_tpu.plan.estimate import scale_compilation
from efficientnet_tpu.plan.hlo_cost import Compilation, Cost
from efficientnet_tpu.plan.planner import Planner
from efficientnet_tpu.plan.table import CompiledStep
from efficientnet_tpu.training.memory import gradient_bytes, state_bytes
from tests.support.plan_rows import B0, COMPILED, KEY, LITTLE, ROW

GOLDEN = Path(__file__).parents[1] / "golden" / "plan_b0_v5e.txt"


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A shipped table of one row, and the user's, which is not there yet."""
    shipped, own = tmp_path / "shipped.jsonl", tmp_path / "own.jsonl"
    shipped.write_text(table.to_json(ROW) + "\n")
    monkeypatch.setattr(table, "SHIPPED", shipped)
    return shipped, own


def printed(capsys, tables, *flags):
    cli.main(["main.py", "plan", f"--plan_table={tables[1]}", *flags])
    return capsys.readouterr().out


def test_the_report(capsys, tables):
    """After a change: `PLAN_GOLDEN=1 pytest tests/plan/test_planner.py`, and read the difference."""

    flags = ("--tpu_type=v5e-8", "--train_batch_size=1024", "--price_per_chip_hour=1.2", "--verbose")
    text = printed(capsys, tables, *flags)
    if os.environ.get("PLAN_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_rows_survive_the_file(tables):
    assert table.load(tables[0]) == [ROW]
    no_fit = dataclasses.replace(ROW, compilation=Compilation(needed_bytes=20, limit_bytes=10))
    assert table.from_json(json.loads(table.to_json(no_fit))) == no_fit
    assert not no_fit.compilation.fits


@pytest.mark.parametrize("line", [b"{}", b"half a li", b"[]", b"\xff\xfe", b"\0\0\0", b"0"])
def test_damaged_rows_are_left_out_and_other_files_refused(tables, capsys, line):
    tables[1].write_bytes(table.to_json(ROW).encode() + b"\n" + line + b"\n")
    assert table.load(tables[1]) == [ROW]
    assert capsys.readouterr().err == f"{tables[1]}: line 2 is damaged, and left out\n"
    tables[1].write_bytes(line)
    with pytest.raises(UserError, match=r"own\.jsonl: is no table of"):
        table.load(*tables)


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
    from efficientnet_tpu.plan import tpu_compiler

    installed = {}
    monkeypatch.setattr(tpu_compiler, "installed_version", installed.get)
    with pytest.raises(UserError, match=r"jax and libtpu are not installed.* 'jax>="):
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
    from efficientnet_tpu.plan.tpu_compiler import parse_refusal

    found = parse_refusal(message, "v5e:2x4")
    assert (found.needed_bytes, found.limit_bytes) == (20.5 * 2**30, 15.75 * 2**30)


def test_what_the_compiler_refuses():
    from efficientnet_tpu.plan.tpu_compiler import parse_refusal

    with pytest.raises(UserError, match="refused v5e:2x4: UNIMPLEMENTED: no such op"):
        parse_refusal("UNIMPLEMENTED: no such op foo\nsecond line", "v5e:2x4")
    with pytest.raises(UserError, match="another program holds libtpu"):
        parse_refusal(
            "ABORTED: internal error when accessing libtpu multi-process lockfile. Run rm /tmp/libtpu_lockfile", "v"
        )


def test_what_does_not_fit_says_what_would(capsys, tables):
    flags = ("--model=efficientnet-b7", "--tpu_type=v5e-8", "--train_batch_size=1024")
    text = printed(capsys, tables, *flags)
    fits, hours, cost = text.splitlines()[2:5]
    assert fits.startswith("Fits:  no. A core needs ")
    assert (hours, cost) == ("Hours: none, as it does not fit", "Cost:  none")
    assert not re.search("[0-9] hours|ms ", printed(capsys, tables, *flags, "--verbose").partition("To make")[0])
    changes = [line.split() for line in text.partition("To make it fit")[2].splitlines() if line.startswith("  --")]
    assert len(changes) >= 3
    for flag, verdict, *_ in changes:
        other = printed(capsys, tables, *flags, flag.strip("*"))
        assert f"Fits:  {verdict}" in other, flag
        assert flag.endswith("*") == ("hosts, which is untested" in other)


def test_a_modelled_answer_near_the_limit_is_not_given_as_sure(capsys, tables):
    size = 8 * int(15.2 * 2**30 // (COMPILED.temp_bytes / 128))
    text = printed(capsys, tables, "--tpu_type=v5e-8", f"--train_batch_size={size}")
    assert "Fits:  probably (too near the limit for a model; --compile makes sure)." in text


def test_largest_batches(capsys, tables):
    text = printed(capsys, tables, "--tpu_type=v5e-8,v6e-8", "--largest_batch")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("  v")}
    sizes = {name: int(words[1].replace(",", "")) for name, words in lines.items()}
    assert sizes["v6e-8"] > 1.9 * sizes["v5e-8"] > 1000
    assert sizes["v5e-8"] % 8 == 0
    for name, size in sizes.items():
        whole = printed(capsys, tables, f"--tpu_type={name}", f"--train_batch_size={8 * size}")
        assert "Fits:  no." not in whole
        more = printed(capsys, tables, f"--tpu_type={name}", f"--train_batch_size={int(8.8 * size) // 8 * 8}")
        assert "Fits:  yes." not in more


def search_with(monkeypatch, compiler):
    """The largest batch on v5e-8, and the batches that were compiled for it. compiler: of what the model says a step
    needs -> what it needs.
    """
    from efficientnet_tpu.plan import compile_step

    tried = []

    def compiled_row(key, config, tpu, rows, table_path):
        tried.append(key.batch_size)
        modelled = scale_compilation(ROW, key, B0, "rmsprop")
        needed = int(compiler(modelled.needed_bytes))
        if needed > tpu.generation.hbm_limit:
            return CompiledStep(
                key, Compilation(needed_bytes=needed, limit_bytes=tpu.generation.hbm_limit), "", "", 0.0
            )
        return CompiledStep(key, dataclasses.replace(modelled, needed_bytes=needed), "", "", 0.0)

    monkeypatch.setattr(compile_step, "compiled_row", compiled_row)
    planner = Planner(with_options(Config(), {"compile": True}), B0, [ROW])
    best, estimate = planner.largest_batch(parse_slice("v5e-8"))
    assert estimate.is_compiled
    assert estimate.compilation.needed_bytes <= parse_slice("v5e-8").generation.hbm_limit
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


def test_little_effort_is_said(capsys, tables):
    little = CompiledStep(
        dataclasses.replace(KEY, batch_size=64), LITTLE, "libtpu 0.0.52, jax 0.10.2", "", 30.0, "memory"
    )
    tables[1].write_text(table.to_json(little) + "\n")
    text = printed(capsys, tables, "--tpu_type=v5e-8", "--train_batch_size=512", "--verbose")
    assert "Its memory is compiled by libtpu 0.0.52" in text
    assert (
        "HBM of a core: 1.01 GiB of the 15.75 GiB that a program may have [compiled with little effort, +-2%]" in text
    )


def test_changes_are_compiled_before_they_are_named(capsys, tables, monkeypatch):
    """A compiler by which recomputing saves nothing, and all else is as the model says."""
    from efficientnet_tpu.plan import compile_step

    tried = []

    def compiled_row(key, config, tpu, rows, table_path):
        tried.append((key.recipe, config.plan.plan_effort))
        plain = dataclasses.replace(key, recipe="rmsprop bfloat16")
        parts = config.train.gradient_accumulation_steps
        micro = dataclasses.replace(plain, batch_size=key.batch_size // parts)
        found = scale_compilation(ROW, micro, B0, "rmsprop")
        limit = tpu.generation.hbm_limit
        if found.needed_bytes > limit:
            found = Compilation(needed_bytes=found.needed_bytes, limit_bytes=limit)
        return CompiledStep(key, found, "libtpu 1", "", 0.0, config.plan.plan_effort)

    monkeypatch.setattr(compile_step, "compiled_row", compiled_row)
    text = printed(capsys, tables, "--compile", "--tpu_type=v5e-8", "--train_batch_size=10240")
    lines = [line for line in text.partition("To make it fit")[2].splitlines() if line.startswith("  --")]
    assert len(lines) == 3
    assert "--rematerialize=blocks" not in text  # it was compiled, and did not fit
    assert all(" yes " in line and " compiled " in line for line in lines)
    assert tried[0] == ("rmsprop bfloat16", "full")
    assert {effort for _, effort in tried[1:]} == {"memory"}


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [(1e6, ": enough"), (30_000, "enough at the band's slow end"), (100, "NOT enough")],
)
def test_whether_hosts_feed_it(capsys, tables, rate, verdict):
    flags = ("--tpu_type=v5e-8", "--train_batch_size=1024", f"--host_images_per_second={rate}")
    text = printed(capsys, tables, *flags)
    line = next(line for line in text.splitlines() if line.startswith("Input: "))
    assert f"can do {rate:,.0f}: " in line
    assert "as given by --host_images_per_second" in text
    assert verdict in line
    assert ("at least" in line) == (verdict == "NOT enough")


@pytest.mark.parametrize(("step", "recipe"), [("evaluation", "evaluation bfloat16"), ("serving", "serving float32")])
def test_inference(capsys, tables, step, recipe):
    flags = ("--tpu_type=v5e-8", "--eval_batch_size=256", f"--plan_step={step}")
    with pytest.raises(UserError, match=f"no compiled step of kind {step}; --compile makes the first"):
        printed(capsys, tables, *flags)
    key = dataclasses.replace(KEY, recipe=recipe, batch_size=32)
    compilation = dataclasses.replace(LITTLE, flops=1e9, costs={"depthwise": Cost(819_000_000, 3_000_000)})
    tables[1].write_text(table.to_json(CompiledStep(key, compilation, "libtpu 1", "", 30.0)) + "\n")
    text = printed(capsys, tables, *flags)
    assert "256 images, 32 a core: fits." in text
    assert "1.00 to 2.00 ms; 128,000 to 256,000 images/s" in text
    with pytest.raises(UserError, match=r"--eval_batch_size=100: .* over the 8 cores of v5e-8\. Use 104"):
        printed(capsys, tables, *flags[::2], "--eval_batch_size=100")


def test_micro_batches_take_the_memory_of_one_and_the_time_of_all(tables):

    def planned(**options):
        config = with_options(Config(), {"tpu_type": "v5e-8", "train_batch_size": 2048} | options)
        planner = Planner(config, B0, [ROW])
        return planner.plan(parse_slice("v5e-8"), 2048)

    whole, parts = planned(), planned(gradient_accumulation_steps=2)
    sums, waiting = gradient_bytes(B0), 3 * 224**2 * 128
    assert parts.estimate.compilation.temp_bytes == COMPILED.temp_bytes + sums
    assert parts.estimate.compilation.needed_bytes == COMPILED.needed_bytes + sums + waiting
    assert parts.estimate.is_memory_compiled
    assert whole.estimate.compilation.temp_bytes == 2 * COMPILED.temp_bytes
    assert parts.time.memory == pytest.approx(whole.time.memory)


def test_the_shipped_table_is_whole():
    rows = table.load(table.SHIPPED)
    assert {"v3", "v5e"} <= {row.key.kind for row in rows}
    for row in rows:
        assert row.compiler.startswith("libtpu ")
        if row.compilation.fits and row.key.plan_step == "train":
            architecture = build_architecture(row.key.model)
            held = state_bytes(architecture, "rmsprop").total
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
        [sys.executable, "-c", command], check=True, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL
    )
