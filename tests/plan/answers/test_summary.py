"""The first lines of a plan: what is expected by the public records, prices, several TPUs, the images of --data_dir."""

import json
import re
from pathlib import Path

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS, parse_slice
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.plan import plan, table
from efficientnet_tpu.plan.answers import calibration, prices
from efficientnet_tpu.plan.answers.prices import Price, price_of
from efficientnet_tpu.plan.planner import Planner
from efficientnet_tpu.plan.suggestions import suggest_changes


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
    assert re.match(
        r"Cost:  \d+ \(\d+ to \d+\) US\$ for \d+ \(\d+ to \d+\) chip-hours at 1.2, list price of 20\d\d-.*: check it",
        lines[4],
    )
    assert re.match(r"Input: each host must prepare .* can do [0-9,]+: enough$", lines[5])
    assert re.match(r"       224 vCPUs, taken as 112 cores; 1\.\d\d ms of CPU an image, measured elsewhere;", lines[6])
    assert len(lines) == 8


@pytest.mark.parametrize(
    "model", ["b0", "b3", pytest.param("b7", marks=pytest.mark.slow), pytest.param("l2", marks=pytest.mark.slow)]
)
def test_every_line_fits_the_screen(capsys, tmp_path, model):
    """Of one TPU, and of the table of all kinds, whose hosts are too slow here."""
    flags = (f"--flagfile=efficientnet-{model}", "--host_cpu_ms=40")
    for types in ("v5e-8", "v2-8,v3-8,v4-8,v5e-8,v5p-8,v6e-256"):
        lines = printed(capsys, tmp_path, *flags, f"--tpu_type={types}").splitlines()
        assert max(map(len, lines)) <= 120


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


def test_a_minival_is_not_trained_on(capsys, tmp_path):
    """2% of ImageNet's 1024 shards are 20; of other images --num_images is what is trained on."""
    flags = ("--model=efficientnet-b0", "--tpu_type=v5e-8", "--train_batch_size=4096", "--minival_percent=2")
    first = printed(capsys, tmp_path, *flags).splitlines()[0]
    assert first.endswith(": 107,336 steps of 4,096 images, 350 epochs of 1,256,144")
    assert printed(capsys, tmp_path, *flags, "--num_images=50000").splitlines()[0].endswith(" 350 epochs of 50,000")


def test_prices():
    assert price_of("1.3", "v5e") == Price(1.3)
    assert price_of("v5e=1.3,v6e=2.8", "v6e") == Price(2.8)
    assert price_of("v5e=1.3", "v6e") == price_of("", "v6e")
    assert price_of("0", "v5e") == Price()
    assert price_of("", "v5e").is_listed
    assert price_of("", "v5e") == price_of("", "v5e", "us-central1-a")
    assert price_of("", "v5e", "europe-west4-b").per_chip_hour > price_of("", "v5e").per_chip_hour
    assert price_of("", "v5e", "mars-north1-a") == Price()
    assert price_of("", "v9") == Price()
    for text in ("x", "-1", "nan", "1,2", "v9=1", "v5e=1,v5e=2", "v5e=", "inf"):
        with pytest.raises(UserError, match=r"--price_per_chip_hour=.*: must be a price, as 1\.2, or one for each"):
            price_of(text, "v5e")


def test_the_list_of_prices_says_when_and_where_it_was_read():
    """Every kind of TPU that can be planned has a price, of a region of Google's."""
    listed = json.loads((Path(prices.__file__).parent / "list_prices.json").read_text())
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", listed["read"])
    assert listed["source"].startswith("https://")
    assert "on demand" in listed["unit"]
    assert listed["prices"].keys() == GENERATIONS.keys()
    for by_region in listed["prices"].values():
        assert all(re.fullmatch(r"[a-z]+-[a-z]+\d", region) for region in by_region)
        assert all(0.5 < price < 10 for price in by_region.values())


def test_the_cheapest_is_by_money(capsys, tmp_path):
    """A kind of TPU that takes fewer chip-hours may cost more, and the other way round."""
    flags = ("--flagfile=efficientnet-b3", "--tpu_type=v5e-8")
    for price, first in (("v5e=1,v5p=9", "--gradient_accumulation_steps=2"), ("v5e=9,v5p=1", "--tpu_type=v5p-8")):
        lines = printed(capsys, tmp_path, *flags, f"--price_per_chip_hour={price}").splitlines()
        changes = [line.split()[0] for line in lines if line.startswith("  --")]
        assert changes[0] == first
    by_chip_hours = printed(capsys, tmp_path, *flags, "--price_per_chip_hour=0").splitlines()
    assert [line.split()[0] for line in by_chip_hours if line.startswith("  --")][-1] == "--tpu_type=v5p-8"


@pytest.mark.parametrize(
    ("model", "tpu_type", "parts"),
    [
        ("b2", "v5e-8", 2),  # 256 images of a core are compiled
        ("b4", "v5e-8", 4),  # both 256 and 128 are, and 256, which the compiler has squeezed, take longer
        ("b6", "v6e-8", 16),  # the fewest parts that fit for sure, though smaller ones are modeled to be faster
    ],
)
def test_a_batch_is_split_into_the_fewest_parts_that_fit(model, tpu_type, parts):
    config = with_options(Config(), {"model": f"efficientnet-{model}", "train_batch_size": 4096})
    planner = Planner(config, build_architecture(f"efficientnet-{model}"), table.load(table.SHIPPED))
    flags = [change.flags for change in suggest_changes(planner, parse_slice(tpu_type), 4096, same_machine=True)]
    assert f"--gradient_accumulation_steps={parts}" in flags


def test_images_are_not_made_smaller_beyond_half():
    config = with_options(Config(), {"model": "efficientnet-l2", "train_batch_size": 4096})
    planner = Planner(config, build_architecture("efficientnet-l2"), table.load(table.SHIPPED))
    assert suggest_changes(planner, parse_slice("v5e-8"), 4096, same_machine=True) == []
