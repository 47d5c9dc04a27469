"""The tables are the paper's: B0's stages and the coefficients of every published model."""

import dataclasses
import json
from pathlib import Path

import pytest

from efficientnet_tpu.models.architecture import (
    B0_STAGES,
    BLOCKS,
    HEAD_FILTERS,
    STEM_FILTERS,
    VARIANTS,
    MBConvSpec,
    output_size,
)
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.models.scaling import SCALE_BLOCK
from tests.support.mixed_network import MIXED

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())
PUBLISHED = [name for name in GOLDEN if not name.startswith("_")]
LITE = [name for name in PUBLISHED if "lite" in name]


def test_every_published_model_is_there():
    assert len(PUBLISHED) == 15
    assert set(VARIANTS) - set(PUBLISHED) == {"efficientnet-nano"}
    assert set(PUBLISHED) <= set(VARIANTS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_coefficients(name):
    variant, golden = VARIANTS[name], GOLDEN[name]
    assert variant.width_coefficient == golden["width"]
    assert variant.depth_coefficient == golden["depth"]
    assert variant.resolution == golden["resolution"]
    assert variant.dropout_rate == golden["dropout"]


def test_stages_are_table_1_of_the_paper():
    assert {(stage.block, stage.se_ratio) for stage in B0_STAGES} == {("mbconv", None)}
    assert [dataclasses.astuple(stage)[:5] for stage in B0_STAGES] == [
        # repeats, kernel_size, strides, expand_ratio, filters
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ]
    assert (STEM_FILTERS, HEAD_FILTERS) == (32, 1280)


@pytest.mark.parametrize("name", VARIANTS)
def test_lite_is_for_integer_hardware_and_the_rest_is_not(name):
    variant = VARIANTS[name]
    if name in LITE:
        assert (variant.activation, variant.se_ratio, variant.fix_head_stem) == ("relu6", 0.0, True)
        assert (variant.mean, variant.std) == ((127.0,) * 3, (128.0,) * 3)
        assert variant.interpolation == "bilinear"
    else:
        assert (variant.activation, variant.se_ratio, variant.fix_head_stem) == ("silu", 0.25, False)
        assert variant.interpolation == "bicubic"
        assert variant.mean == pytest.approx((123.675, 116.28, 103.53))
        assert variant.std == pytest.approx((58.395, 57.12, 57.375))


@pytest.mark.parametrize(
    ("strides", "input_filters", "filters", "residual"),
    [(1, 16, 16, True), (2, 16, 16, False), (1, 16, 24, False), (2, 16, 24, False)],
)
def test_a_residual_needs_the_same_shape_on_both_sides(strides, input_filters, filters, residual):
    block = MBConvSpec(
        stage=1, input_filters=input_filters, filters=filters, kernel_size=3, strides=strides, expand_ratio=6,
        se_filters=4, drop_rate=0.0,
    )  # fmt: skip
    assert block.has_residual is residual
    assert block.expanded_filters == 6 * input_filters


def test_tables_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        VARIANTS["efficientnet-b0"].resolution = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        B0_STAGES[0].filters = 1


def test_output_size_rounds_up():
    assert [output_size(size, 2) for size in (1, 2, 3, 224, 225)] == [1, 1, 2, 112, 113]
    assert output_size(7, 1) == 7


def test_every_kind_of_block_has_its_scaling_rule():
    assert SCALE_BLOCK.keys() == BLOCKS.keys()
    assert {name: block.kind for name, block in BLOCKS.items()} == {name: name for name in BLOCKS}


# Small networks of every family, with and without what their blocks may leave out.
SMALL = {
    "efficientnet-nano": {},
    "efficientnet-lite0": {"width_coefficient": 0.25, "depth_coefficient": 0.3},
    "mobilenet-v1": {"width_coefficient": 0.25, "depth_coefficient": 0.3},
    "mobilenet-v2": {"width_coefficient": 0.25, "depth_coefficient": 0.5},
    "resnet-50": {"width_coefficient": 0.125, "depth_coefficient": 0.5},
    "mixed": {"stage_table": MIXED},
}


def listed(architecture, resolution):
    """A row for each convolution that the records list."""
    return [
        (
            row.layer_name,
            row.convolution.kernel_shape,
            row.convolution.strides,
            row.convolution.use_bias,
            row.layer_name.replace("_conv", "_bn") if row.convolution.batch_norm else None,
            (row.input_size, row.output_size),
        )
        for row in architecture.convolutions(resolution)
    ]


def built(model, resolution):
    """The same row for each layer with a kernel of the Keras model, for images of `resolution` pixels."""
    import keras

    fixed = keras.models.clone_model(model, input_tensors=keras.Input((resolution, resolution, 3)))
    norm_of = {id(layer.input): layer.name for layer in fixed.layers if hasattr(layer, "gamma")}
    return [
        (
            layer.name,
            tuple(layer.kernel.shape),
            getattr(layer, "strides", (1, 1))[0],
            layer.use_bias,
            norm_of.get(id(layer.output)),
            tuple(tensor.shape[1] if len(tensor.shape) == 4 else 1 for tensor in (layer.input, layer.output)),
        )
        for layer in fixed.layers
        if hasattr(layer, "kernel")
    ]


@pytest.mark.parametrize("name", SMALL)
def test_the_convolutions_listed_are_the_ones_built(tf, name):
    from efficientnet_tpu.models.build import build_model

    architecture = build_architecture(name, num_classes=7, **SMALL[name])
    # 75 pixels are odd on the way down: 38, 19, 10, 5, 3.
    expected, found = listed(architecture, 75), built(build_model(architecture), 75)
    assert len(expected) == len({row[0] for row in expected}) > 10
    # Where a shortcut stands among the layers beside it is for Keras to choose.
    branched = [row for row in expected if "shortcut" in row[0]]
    assert bool(branched) == name.startswith("resnet")
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert [row for row in found if row not in branched] == [row for row in expected if row not in branched]
