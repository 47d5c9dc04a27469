"""The table of all models that `main.py models` prints. No TensorFlow."""

from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.configured import configured_architecture, configured_variant


def models_table(asked: ModelConfig) -> str:
    """Returns the text of `main.py models`: a row per model at 1000 classes, one more if flags ask for it."""
    models = {name: ModelConfig(model=name) for name in MODELS}
    if asked != ModelConfig():
        models["as asked for"] = asked
    header = (
        f"{'model':<19}{'width':>6}{'depth':>6}{'resolution':>11}{'blocks':>7}{'parameters':>12}{'multiply-adds':>16}"
        f"{'activations':>14}{'dropout':>8}{'max drop rate':>14}"
    )
    lines = [header, "-" * len(header), *(_row(name, config) for name, config in models.items())]
    lines += [
        "",
        "parameters: trainable. multiply-adds: the paper's FLOPs, of one image. activations: what convolutions write.",
        "max drop rate: stochastic depth of the last residual block. For a model of your own, here as in training:",
        "--model=efficientnet-phi2.5, or --width_coefficient, --depth_coefficient, --resolution.",
    ]
    return "\n".join(lines)


def _row(name: str, config: ModelConfig) -> str:
    variant, architecture = configured_variant(config), configured_architecture(config, NUM_IMAGENET_CLASSES)
    cost = count(architecture)
    width, depth = round(variant.width_coefficient, 3), round(variant.depth_coefficient, 3)
    return (
        f"{name:<19}{width:>6}{depth:>6}{variant.resolution:>11}"
        f"{len(architecture.blocks):>7}{cost.trainable_params:>12,}{cost.multiply_adds:>16,}{cost.activations:>14,}"
        f"{round(variant.dropout_rate, 3):>8}{max(block.drop_rate for block in architecture.blocks):>14.4f}"
    )
