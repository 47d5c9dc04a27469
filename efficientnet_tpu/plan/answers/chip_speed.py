"""The speed of one TPU chip in training, as `plan` expects it, for those who ask without a batch. No TensorFlow."""

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS, parse_slice
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.plan.planner import Planner
from efficientnet_tpu.plan.table import load_tables

_IMAGES_A_CORE = 128  # one for each lane of the vector units: what the published trainings had


def chip_speeds(config: Config, architecture: Architecture) -> dict[str, float]:
    """Returns the images a second of one chip of every kind of TPU, in steps of 128 images a core, or of as many as fit
    where those do not.
    """
    options = {"num_classes": architecture.num_classes, "gradient_accumulation_steps": 1}
    planner = Planner(with_options(config, options), architecture, load_tables(config))
    speeds = {}
    for kind in GENERATIONS:
        tpu = parse_slice(f"{kind}-8")
        per_core = max(1, min(_IMAGES_A_CORE, planner.largest_modeled_batch(tpu)))
        cost = planner.plan(tpu, per_core * tpu.num_cores).likely_cost
        speeds[kind] = cost.images_per_second / tpu.num_chips
    return speeds
