"""What a whole training comes to: hours, chip-hours, money, and the images it asks of its hosts. No TensorFlow."""

from dataclasses import dataclass

from efficientnet_tpu.hardware.tpu_specs import Slice


@dataclass(frozen=True)
class RecipeCost:
    """Of the steps alone: evaluations, checkpoints, compilation and waiting for data come on top."""

    images_per_second: float
    images_per_second_per_host: float
    hours: float
    chip_hours: float
    price: float  # in the currency of the price per chip-hour; 0 where that was not given


def recipe_cost(
    tpu: Slice, step_seconds: float, batch_size: int, num_steps: int, price_per_chip_hour: float
) -> RecipeCost:
    """batch_size: of the whole slice."""
    images_per_second = batch_size / step_seconds
    hours = num_steps * step_seconds / 3600
    chip_hours = hours * tpu.num_chips
    return RecipeCost(
        images_per_second,
        images_per_second / tpu.num_hosts,
        hours,
        chip_hours,
        chip_hours * price_per_chip_hour,
    )
