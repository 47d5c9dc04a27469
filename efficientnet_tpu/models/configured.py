"""The network that the flags of section Model describe. No TensorFlow."""

import json
from typing import Any

from efficientnet_tpu.config.config import OPTIONS
from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.models.architecture import Architecture, Variant
from efficientnet_tpu.models.compound_scaling import NORMALIZATIONS, build_architecture, find_variant
from efficientnet_tpu.models.stage_table import stage_table


def configured_variant(model_config: ModelConfig) -> Variant:
    """Returns the coefficients of the model or table of stages that the flags name, with what else they override."""
    return find_variant(
        model_config.model,
        model_config.stage_table,
        model_config.normalization,
        model_config.interpolation,
        width_coefficient=model_config.width_coefficient,
        depth_coefficient=model_config.depth_coefficient,
        resolution=model_config.resolution,
        dropout_rate=model_config.dropout_rate,
        survival_prob=model_config.survival_prob,
    )


def configured_architecture(model_config: ModelConfig, num_classes: int) -> Architecture:
    """Returns the scaled network that the flags describe."""
    # Every other flag of the section is a keyword of build_architecture.
    options = dict(vars(model_config))
    return build_architecture(options.pop("model"), num_classes, **options)


def scaled_options(variant: Variant) -> dict[str, Any]:
    """Returns the options that compound scaling computes, by flag name, with the variant's values."""
    return {name: getattr(variant, name) for name, option in OPTIONS.items() if option.scaled}


def network_options(name: str, variant: Variant) -> dict[str, Any]:
    """Returns the options that make `configured_variant` give a network of a name of one's own, by flag name.

    That stem and head keep their width, as EfficientNet-Lite's do, can be said of none but a named model. Raises
    ValueError for such a network where it has been scaled.
    """
    if variant.fix_head_stem and (variant.width_coefficient, variant.depth_coefficient) != (1, 1):
        raise ValueError(f"{name} is scaled with a stem and a head that keep their width")
    table = json.dumps(stage_table(name, variant))
    named = {value: key for key, value in NORMALIZATIONS.items()}
    wanted = {
        **scaled_options(variant),
        "survival_prob": variant.survival_prob,
        "normalization": named[variant.mean, variant.std],
        "interpolation": variant.interpolation,
    }
    # Those of the table itself, which are left to it.
    own = find_variant("", table)
    fields = {"normalization": named[own.mean, own.std]}
    return {"stage_table": table} | {
        key: value for key, value in wanted.items() if value != (fields.get(key) or getattr(own, key))
    }
