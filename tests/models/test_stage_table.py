"""A table of stages describes a network: as JSON or CSV, of one kind of blocks or of several that go together."""

import json

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import B0_STAGES, Stage
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.models.stage_table import STAGE_KEYS, inline, read_stage_table, table_name

B0_TABLE = [{key: getattr(stage, key) for key in STAGE_KEYS} for stage in B0_STAGES]
ROW = {"repeats": 1, "kernel_size": 3, "strides": 1, "expand_ratio": 4, "filters": 16}


def table(*others, **first):
    """JSON of a table whose rows are ROW with these changes."""
    return json.dumps({"stages": [ROW | first, *(ROW | other for other in others)]})


def test_every_kind_of_block():
    for name, block in (("mobilenet-v1", "separable"), ("mobilenet-v2", "mbconv"), ("resnet-50", "bottleneck")):
        baseline = MODELS[name].baseline
        content = {
            "block": block,
            "stem_filters": baseline.stem_filters,
            "stem_kernel_size": baseline.stem_kernel_size,
            "head_filters": baseline.head_filters,
            "se_ratio": 0.0,
            "stages": [{key: getattr(stage, key) for key in STAGE_KEYS} for stage in baseline.stages],
        }
        variant = read_stage_table(json.dumps(content))
        assert count(scale("", variant, 1000)) == count(build_architecture(name))
        if not baseline.head_filters:  # so it is by default
            del content["head_filters"]
            assert read_stage_table(json.dumps(content)) == variant


@pytest.mark.parametrize("name", ["efficientnet-b0", "mobilenet-v1", "mobilenet-v2", "resnet-50"])
def test_a_table_with_the_block_in_every_row_is_the_network(name):
    model = MODELS[name]
    content = {
        "name": "mine",
        "stem_filters": model.baseline.stem_filters,
        "stem_kernel_size": model.baseline.stem_kernel_size,
        "head_filters": model.baseline.head_filters,
        "resolution": model.resolution,
        "dropout_rate": model.dropout_rate,
        "activation": model.activation,
        "se_ratio": model.se_ratio,
        "stages": [{key: getattr(stage, key) for key in (*STAGE_KEYS, "block")} for stage in model.baseline.stages],
    }
    text = inline(json.dumps(content))
    read = read_stage_table(text)
    assert (read.baseline, read.resolution, read.dropout_rate) == (model.baseline, model.resolution, model.dropout_rate)
    assert (read.activation, read.se_ratio, table_name(text)) == (model.activation, model.se_ratio, "mine")


def test_a_stage_may_name_its_block_and_its_squeeze_and_excitation(tmp_path):
    fused = Stage(**ROW, block="fused_mbconv", se_ratio=0.0)
    rows = {"block": "fused_mbconv", "se_ratio": 0}, {"kernel_size": 5}, {"se_ratio": 0.5}
    stages = (fused, Stage(**ROW | {"kernel_size": 5}), Stage(**ROW, se_ratio=0.5))
    assert read_stage_table(table(*rows[1:], **rows[0])).baseline.stages == stages
    # What the file says of all stages is for those that say nothing of their own.
    content = {"block": "fused_mbconv", "stages": [ROW | rows[0], ROW | rows[1] | {"block": "mbconv"}]}
    assert read_stage_table(json.dumps(content)).baseline.stages == stages[:2]
    # A CSV file has empty cells where a stage says nothing.
    file = tmp_path / "mixed.csv"
    keys = (*STAGE_KEYS, "block", "se_ratio")
    lines = [",".join(str((ROW | row).get(key, "")) for key in keys) for row in rows]
    # And the byte order mark of a spreadsheet.
    file.write_text("\n".join([",".join(keys), *lines]), encoding="utf-8-sig")
    assert read_stage_table(inline(str(file))).baseline.stages == stages


def test_squeeze_and_excitation_is_the_stages_or_the_networks():
    variant = read_stage_table(table({"se_ratio": 0.5}, {"se_ratio": 0}, block="fused_mbconv"))
    assert [block.se_filters for block in scale("", variant, 10).blocks] == [32 // 4, 16 // 2, 0]


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("x.json", "{", "is not JSON"),
        ("x.json", table(skip="add"), "stage 1: skip add is none of identity, pool, none"),
        ("x.json", table(skip=["pool"]), "stage 1: skip ['pool'] is none of identity, pool, none"),
        (
            "x.json",
            table(skip="pool", block="bottleneck"),
            "stage 1: skip pool goes with blocks mbconv and fused_mbconv",
        ),
        ("x.json", "[]", "has no list of stages"),
        ("x.json", '{"stages": []}', "has no list of stages"),
        ("x.csv", "", "has no list of stages"),
        ("x.csv", "repeats,filters\n1,2\n", "stage 1 must have repeats, kernel_size, strides, expand_ratio, filters"),
        ("x.csv", "repeats,kernel_size,strides,expand_ratio,filters\n1,3,x,1,16\n", "stage 1: invalid literal"),
        (
            "x.csv",
            "repeats,kernel_size,strides,expand_ratio,filters\n1,3,3,1,16\n",
            "stage 1: strides is 3; it must be 1",
        ),
        ("x.csv", "repeats,kernel_size,strides,expand_ratio,filters\n1,3,1\n", "stage 1: int()"),
        ("x.json", '{"stage": [], "stages": [1]}', "stage is not known. Did you mean stages?"),
        ("x.json", '{"resolution": "big", "stages": [1]}', "resolution is 'big'; it must be a number"),
        ("x.json", '{"stages": [1]}', "stage 1 must have"),
        ("x.json", json.dumps({"head_filters": 0, "stages": B0_TABLE}), "head_filters is 0; blocks mbconv need a head"),
        ("x.json", json.dumps({"block": "dense", "stages": B0_TABLE}), "block dense is none of"),
        ("x.json", table(block="dense"), "stage 1: block dense is none of mbconv, fused_mbconv, separable, bottleneck"),
        ("x.json", table(block=["mbconv"]), "is none of mbconv"),
        ("x.json", table({"block": "bottleneck"}), "blocks mbconv and bottleneck do not go into one network"),
        ("x.json", table(se_ratio="much"), "stage 1: could not convert string to float"),
        ("x.json", table(se_ratio=-1), "stage 1: se_ratio is -1; it must be 0 to 1"),
        ("x.json", table(filter=3), "stage 1 must have repeats, kernel_size, strides, expand_ratio, filters, may have"),
    ],
)
def test_bad_tables(tmp_path, path, text, message):
    file = tmp_path / path
    file.write_text(text)
    with pytest.raises(UserError) as error:
        inline(str(file))
    assert str(error.value).startswith(f"--stage_table={str(file)[:70]}")
    assert message in str(error.value)


def test_a_stage_has_a_skip_of_its_own():
    variant = read_stage_table(table({"skip": "none"}, {"block": "fused_mbconv"}, skip="pool"))
    assert [stage.skip for stage in variant.baseline.stages] == ["pool", "none", "identity"]
    assert [block.skip for block in scale("", variant, 10).blocks] == ["pool", "none", "identity"]
