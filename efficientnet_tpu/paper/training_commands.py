"""The commands that train the networks of a table, with the planned cost of each on TPU."""

from collections.abc import Iterable

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS, parse_slice
from efficientnet_tpu.installation import program
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Variant
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.configured import configured_architecture, scaled_options
from efficientnet_tpu.plan import table
from efficientnet_tpu.plan.planner import Planner

_KIND = "v5e"
# The reference's batch size and epochs, as in flags/efficientnet-b*.flags.
_REFERENCE_OPTIONS = {"train_batch_size": 4096, "train_epochs": 350.0}


def training_commands(variants: Iterable[tuple[str, Variant]]) -> tuple[str, ...]:
    """Returns a command with its planned cost for each (model name, variant)."""
    commands = []
    for name, variant in variants:
        # Networks other than EfficientNets take B0's recipe.
        recipe = name if name.startswith("efficientnet") else "efficientnet-b0"
        flags = [] if name == recipe else [f"--model={name}"]
        flags += [
            f"--{flag}={getattr(variant, flag):g}"
            for flag in ("depth_coefficient", "width_coefficient", "resolution")
            if getattr(variant, flag) != getattr(MODELS[name], flag)
        ]
        command = " ".join([f"{program()} --flagfile={recipe}", *flags, "--data_dir=... --model_dir=..."])
        commands.append(f"{command}  # {planned_cost(name, variant)}")
    return tuple(commands)


def planned_cost(name: str, variant: Variant) -> str:
    """Returns 'v5e-32: 15 to 40 hours of steps, 480 to 1,280 chip-hours, modelled', for the smallest slice that fits.

    The figures come from the shipped table of compiled steps alone, so that everybody reads the same.
    """
    config = with_options(Config(), {"model": name, **scaled_options(variant), **_REFERENCE_OPTIONS})
    batch_size = config.train.batch_size
    architecture = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    planner = Planner(config, architecture, table.load(table.SHIPPED))
    for size in GENERATIONS[_KIND].sizes:
        tpu = parse_slice(f"{_KIND}-{size}")
        try:
            needed = planner.estimate(tpu, batch_size).compilation.needed_bytes
        except UserError:  # more images than memory of any kind
            continue
        if needed <= tpu.generation.hbm_limit:
            found = planner.plan(tpu, batch_size)
            lowest, highest = found.lowest_cost, found.highest_cost
            label = "compiled" if found.estimate.is_compiled else "modelled"
            return (
                f"{tpu.name}: {lowest.hours:.0f} to {highest.hours:.0f} hours of steps, "
                f"{lowest.chip_hours:,.0f} to {highest.chip_hours:,.0f} chip-hours, {label}"
            )
    return f"no {_KIND} has the memory for {batch_size:,} images a step"
