"""The flags of section Model describe the network: a named model or a table of stages, and what else they override."""

import dataclasses
import json

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.models.architecture import VARIANTS
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.compound_scaling import build_architecture, find_variant
from efficientnet_tpu.models.configured import configured_architecture, configured_variant, network_options
from efficientnet_tpu.models.scaling import scale_blocks


def test_flags_reach_the_architecture():
    assert configured_architecture(ModelConfig(model="efficientnet-b1"), 1000) == build_architecture("efficientnet-b1")
    flags = ModelConfig(
        model="efficientnet-b1",
        width_coefficient=1.2,
        depth_coefficient=1.4,
        resolution=300,
        dropout_rate=0.1,
        survival_prob=0.5,
        batch_norm_momentum=0.9,
        batch_norm_epsilon=1e-5,
    )
    architecture = configured_architecture(flags, 10)
    assert architecture.blocks == scale_blocks(dataclasses.replace(VARIANTS["efficientnet-b3"], survival_prob=0.5))
    assert (architecture.resolution, architecture.num_classes, architecture.dropout_rate) == (300, 10, 0.1)
    assert (architecture.batch_norm_momentum, architecture.batch_norm_epsilon) == (0.9, 1e-5)


def test_a_table_of_stages_takes_the_place_of_the_name():
    row = {"repeats": 1, "kernel_size": 3, "strides": 2, "expand_ratio": 1, "filters": 16}
    flags = ModelConfig(
        model="efficientnet-b7", stage_table=json.dumps({"name": "mine", "stages": [row]}), depth_coefficient=2.0
    )
    architecture = configured_architecture(flags, 10)
    assert (architecture.name, architecture.num_classes, len(architecture.blocks)) == ("mine", 10, 2)
    assert configured_variant(flags) == find_variant("", flags.stage_table, depth_coefficient=2.0)


def test_every_flag_of_the_section_is_a_keyword_of_build_architecture():
    flags = ModelConfig(
        width_coefficient=1.4,
        depth_coefficient=1.8,
        resolution=97,
        dropout_rate=0.1,
        survival_prob=0.5,
        normalization="lite",
        interpolation="bilinear",
        batch_norm_momentum=0.5,
        batch_norm_epsilon=0.1,
    )
    options = {name: value for name, value in dataclasses.asdict(flags).items() if name != "model"}
    assert configured_architecture(flags, 7) == build_architecture(flags.model, 7, **options)
    assert all(value != getattr(ModelConfig(), name) for name, value in options.items() if name != "stage_table")
    assert build_architecture("efficientnet-b0", 7) != build_architecture("efficientnet-b0", 7, **options)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_is_what_its_options_say(name):
    variant = MODELS[name]
    if variant.fix_head_stem and variant.width_coefficient * variant.depth_coefficient != 1:
        with pytest.raises(ValueError, match="keep their width"):
            network_options(name, variant)
        return
    options = network_options("mine", variant)
    found = configured_variant(with_options(Config(), options).model)
    assert found == dataclasses.replace(variant, fix_head_stem=False)
    assert ("normalization" in options) == ("interpolation" in options) == name.startswith("efficientnet-lite")
