"""What training a network by the paper's recipe would cost on TPU, by `plan`, for those who have not trained it."""

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS, parse_slice
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Variant
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan import table
from efficientnet_tpu.plan.planner import Planner

KIND = "v5e"
# Of flags/efficientnet-b*.flags, the reference's.
RECIPE = {"train_batch_size": 4096, "train_epochs": 350.0}


def planned_cost(name: str, variant: Variant) -> str:
    """'v5e-32: 15 to 40 hours of steps, 480 to 1,280 chip-hours, modelled': on the smallest slice of v5e that it fits.

    From the shipped table of compiled steps alone, so that everybody reads the same.
    """
    scaled = {key: getattr(variant, key) for key in ("width_coefficient", "depth_coefficient", "resolution")}
    config = with_options(Config(), {"model": name, **scaled, **RECIPE})
    architecture = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    planner = Planner(config, architecture, table.load(table.SHIPPED))
    for size in GENERATIONS[KIND].sizes:
        tpu = parse_slice(f"{KIND}-{size}")
        try:
            needed = planner.estimate(tpu, config.train.train_batch_size).compilation.needed_bytes
        except UserError:  # more images than memory of any kind
            continue
        if needed <= tpu.generation.hbm_limit:
            found = planner.plan(tpu, config.train.train_batch_size)
            hours = f"{found.lowest_cost.hours:.0f} to {found.highest_cost.hours:.0f} hours of steps"
            chip_hours = f"{found.lowest_cost.chip_hours:,.0f} to {found.highest_cost.chip_hours:,.0f} chip-hours"
            label = "compiled" if found.estimate.is_compiled else "modelled"
            return f"{tpu.name}: {hours}, {chip_hours}, {label}"
    return f"no {KIND} has the memory for {config.train.train_batch_size:,} images a step"
