"""The network that the flags of section Model describe. No TensorFlow."""

from typing import Any

from efficientnet_tpu.config.config import OPTIONS
from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.models.architecture import Architecture, Variant
from efficientnet_tpu.models.compound_scaling import build_architecture, find_variant


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
