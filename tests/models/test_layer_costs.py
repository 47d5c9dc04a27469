"""The table of layers: its sums are the published figures, and what a layer sees is what others have counted."""

import csv
import io
import json
from pathlib import Path

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.models.layer_costs import frozen_parts, layer_costs, layers_text

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())
PUBLISHED = [name for name in GOLDEN if not name.startswith("_")]
B0 = build_architecture("efficientnet-b0")


@pytest.mark.parametrize("name", MODELS)
def test_layers_add_up_to_the_network(name):
    architecture = build_architecture(name)
    rows, cost = layer_costs(architecture), count(architecture)
    assert sum(row.params for row in rows) == cost.trainable_params
    assert sum(row.multiply_adds for row in rows) == cost.multiply_adds
    assert sum(row.activation_bytes for row in rows) == 4 * cost.activations
    assert sum(row.share for row in rows) == pytest.approx(1)
    if name in PUBLISHED:
        assert sum(row.params for row in rows) == GOLDEN[name]["params_trainable"]
        assert sum(row.multiply_adds for row in rows) == GOLDEN[name]["macs"]


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        # Araujo, Norris & Sim 2019 (Distill), table of the appendix.
        ("mobilenet-v1", 315),
        ("mobilenet-v2", 491),
        # torchvision's layout, strides in the 3 x 3 convolution of a stage's first block.
        ("resnet-50", 427),
    ],
)
def test_receptive_fields_that_others_have_counted(name, pixels):
    assert [row for row in layer_costs(build_architecture(name)) if row.receptive_field][-1].receptive_field == pixels


@pytest.mark.parametrize("name", MODELS)
def test_a_receptive_field_counted_from_behind(name):
    """From a place of the last map to the image: a layer of window k and stride s makes n places (n - 1) s + k."""
    architecture: Architecture = build_architecture(name)
    windows = []
    for placed in architecture.convolutions():
        layer = placed.convolution
        if layer.writes != "pooled" and not layer.name.startswith("shortcut"):
            windows.append((layer.kernel_size, layer.strides))
        if layer.kind == "stem" and architecture.stem_pool:
            windows.append((3, 2))
    places = 1
    for kernel_size, strides in reversed(windows):
        places = (places - 1) * strides + kernel_size
    rows = [row for row in layer_costs(architecture) if row.receptive_field]
    assert rows[-1].receptive_field == places
    if architecture.blocks[0].network == "efficientnet":  # elsewhere a shortcut sees less than what it is added to
        assert [row.receptive_field for row in rows] == sorted(row.receptive_field for row in rows)


def test_what_freezing_leaves():
    rows = {row.layer: row for row in layer_costs(B0)}
    assert rows["head_conv"].trained_behind == 1281 * 1000
    assert rows["classifier"].trained_behind == 0
    first = {layer for layer, row in rows.items() if row.part in frozen_parts("blocks:3", B0)}
    assert rows["block_2_se_reduce"].trained_behind == sum(
        row.params for name, row in rows.items() if name not in first
    )


def test_a_resolution_changes_maps_and_no_parameters():
    small, own = layer_costs(B0, 96), layer_costs(B0)
    assert [row.params for row in small] == [row.params for row in own]
    assert small[0].output == (48, 48, 32)
    assert own[0].output == (112, 112, 32)


def test_text_fits_and_has_the_totals():
    for name in ("efficientnet-nano", "efficientnet-l2", "resnet-50"):
        text = layers_text(ModelConfig(model=name), "text")
        assert max(map(len, text.splitlines())) <= 120
        assert f"{count(build_architecture(name)).multiply_adds:,}" in text
    assert " 1,281,000   24.2%" in layers_text(ModelConfig(), "text").split("backbone")[-1]


def test_forms_have_the_same_rows():
    config = ModelConfig(model="efficientnet-lite0")
    whole = json.loads(layers_text(config, "json"))
    lines = [json.loads(line) for line in layers_text(config, "jsonl").splitlines()]
    table = list(csv.DictReader(io.StringIO(layers_text(config, "csv"))))
    assert (whole["model"], whole["resolution"]) == ("efficientnet-lite0", 224)
    assert whole["layers"] == lines
    assert [row["layer"] for row in table] == [row["layer"] for row in lines]
    assert table[0]["output"] == "112 x 112 x 32"
    assert lines[0]["output"] == [112, 112, 32]


def test_through_the_command_line(capsys):
    cli.main(["main.py", "models", "--model=efficientnet-lite0", "--layers", "--resolution=96"])
    assert capsys.readouterr().out.startswith("efficientnet-lite0 at 96 x 96, 50 layers")
    with pytest.raises(UserError, match="--format=json: is a form of --layers"):
        cli.main(["main.py", "models", "--format=json"])
