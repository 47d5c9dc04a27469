"""`main.py plan`: whether a training fits a TPU, how long a step takes and what the whole training costs.

The answer comes from the table of compiled steps, or from a model scaled from it, and takes no time. With --compile
the TPU compiler first compiles the step itself, which takes minutes and no TPU. Only then does TensorFlow start.
"""

import dataclasses
from collections.abc import Iterable

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import Slice, parse_slice
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan.inference_report import inference_report
from efficientnet_tpu.plan.planner import Planner
from efficientnet_tpu.plan.report import describe_memory_origin, report
from efficientnet_tpu.plan.suggestions import suggest_changes
from efficientnet_tpu.plan.table import describe_recipe, load_tables


def plan(config: Config) -> None:
    """Prints the plan for every type in --tpu_type. Raises UserError for a request that no TPU can meet."""
    slices = [parse_slice(name.strip()) for name in config.launch.tpu_type.split(",")]
    planner = Planner(config, configured_architecture(config.model, config.plan.num_classes), load_tables(config))
    if config.plan.largest_batch and config.plan.plan_step != "train":
        raise UserError(f"--largest_batch: is of training; leave out --plan_step={config.plan.plan_step}.")
    if config.plan.largest_batch:
        print("\n".join(_largest_batches(planner, slices)))
        return
    batch_size = config.train.batch_size
    texts = []
    for tpu in slices:
        if config.plan.plan_step == "train":
            found = planner.plan(tpu, batch_size)
            if not found.fits:
                found = dataclasses.replace(found, changes=suggest_changes(planner, tpu, batch_size))
            texts.append(report(found))
        else:
            texts.append(inference_report(planner, tpu))
    print(f"\n\n{'-' * 120}\n\n".join(texts))


def _largest_batches(planner: Planner, slices: Iterable[Slice]) -> list[str]:
    """Returns the lines of the table that --largest_batch prints, one for each TPU."""
    resolution = planner.architecture.resolution
    lines = [
        f"Largest batch of {planner.architecture.name} at {resolution} x {resolution}, "
        f"{describe_recipe(planner.config)}:",
        f"  {'TPU':<9}{'a core':>8}{'a step':>9}{'HBM of a core':>20}{'images/s, at worst, at best':>29}",
    ]
    for tpu in slices:
        per_core, estimate = planner.largest_batch(tpu)
        if not per_core:
            lines.append(f"  {tpu.name:<9}{0:>8}  not one image fits [modelled]")
            continue
        found = planner.plan_from(estimate, tpu, per_core * tpu.num_cores)
        slowest = f"{found.highest_cost.images_per_second:,.0f}" if found.time.compiler else "unknown"
        memory = f"{estimate.compilation.needed_bytes / 2**30:.2f} of {found.limit_bytes / 2**30:.2f} GiB"
        lines.append(
            f"  {tpu.name:<9}{per_core:>8,}{found.batch_size:>9,}{memory:>20}"
            f"{slowest:>18}{found.lowest_cost.images_per_second:>11,.0f}  [memory {describe_memory_origin(found)}]"
        )
    return [*lines, "Images/s: modelled, as `plan` without --largest_batch explains."]
