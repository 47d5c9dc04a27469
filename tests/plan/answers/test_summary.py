"""The first lines of a plan: what is expected by the public records, prices, several TPUs, the images of --data_dir."""

import re

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.plan import plan, table
from efficientnet_tpu.plan.answers import calibration
from efficientnet_tpu.plan.answers.prices import price_of
from efficientnet_tpu.plan.planner import Planner


def printed(capsys, tmp_path, *flags):
    cli.main(["main.py", "plan", f"--plan_table={tmp_path}/own.jsonl", *flags])
    return capsys.readouterr().out


@pytest.mark.parametrize("record", calibration.RECORDS, ids=lambda record: record.tpu_type)
def test_the_band_holds_every_public_record(record):
    planner = Planner(
        with_options(Config(), {"model": record.model}), build_architecture(record.model), table.load(table.SHIPPED)
    )
    found = planner.plan(parse_slice(record.tpu_type), record.batch_size)
    assert found.estimate.is_compiled
    assert found.highest_cost.images_per_second == pytest.approx(record.at_worst, rel=1e-3)
    likely, shortest, longest = (cost.images_per_second for cost in found.expected_costs)
    assert longest * 0.999 <= record.images_per_second <= shortest * 1.001
    assert longest < likely < shortest


def test_three_lines_come_first(capsys, tmp_path):
    lines = printed(
        capsys, tmp_path, "--model=efficientnet-b1", "--tpu_type=v5e-8", "--train_batch_size=4096"
    ).splitlines()
    assert lines[0].startswith("efficientnet-b1 at 240 x 240 on v5e-8 (8 chips, 1 host): 109,474 steps of 4,096 images")
    assert lines[2] == "Fits:  yes. A core needs 11.7 of 15.75 GiB [compiled]"
    assert re.match(r"Hours: [\d.]+ \([\d.]+ to [\d.]+\) \[modelled; ", lines[3])
    assert re.match(r"Cost:  \d+ \(\d+ to \d+\) chip-hours; --price_per_chip_hour=N", lines[4])
    assert re.match(
        r"Input: each host must prepare .*\(224 vCPUs at 1\.\d\d ms of CPU an image, .*: enough; ", lines[5]
    )
    assert len(lines) == 7


def test_several_tpus_are_one_table(capsys, tmp_path):
    flags = ("--flagfile=efficientnet-b4", "--tpu_type=v5e-8,v6e-8", "--price_per_chip_hour=v5e=1,v6e=2")
    lines = printed(capsys, tmp_path, *flags).splitlines()
    rows = [line.split() for line in lines if line.startswith(("v5e-8 ", "v6e-8 "))]
    assert [row[0:2] for row in rows] == [["v5e-8", "no"], ["v6e-8", "no"]]
    assert [row[-2:] for row in rows] == [["-", "-"], ["-", "-"]]
    assert lines[2].endswith("cost")
    changes = [line for line in lines if line.startswith("  --")]
    assert changes[0].startswith("  --gradient_accumulation_steps=4  ")
    assert any("--tpu_type=" in line and "*" in line for line in changes)
    assert "* a slice of several hosts: these are untested, docs/tpu.md" in lines


def test_the_images_are_those_of_the_data(tf, shapes):
    config = with_options(Config(), {"data_dir": str(shapes)})
    found = plan.with_images_of_data(config)
    assert found.plan.num_images < 1000
    assert found.plan.num_classes < 10
    typed = plan.with_images_of_data(with_options(config, {"num_images": 77}))
    assert typed.plan.num_images == 77


def test_prices():
    assert price_of("", "v5e") == 0
    assert price_of("1.2", "v5e") == 1.2
    assert price_of("v5e=1.2,v6e=2.7", "v6e") == 2.7
    assert price_of("v5e=1.2", "v6e") == 0
    for text in ("x", "-1", "nan", "1,2", "v9=1", "v5e=1,v5e=2", "v5e=", "inf"):
        with pytest.raises(UserError, match=r"--price_per_chip_hour=.*: must be a price, as 1\.2, or one for each"):
            price_of(text, "v5e")
