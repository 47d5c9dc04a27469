"""`main.py plan`: whether a training fits a TPU, how long a step takes and what the whole training costs.

The answer comes from the table of compiled steps, or from a model scaled from it, and takes no time. With --compile
the TPU compiler first compiles the step itself, which takes minutes and no TPU. Only then does TensorFlow start.
"""

from collections.abc import Iterable, Sequence

from efficientnet_tpu.config.config import OPTIONS, Config, with_options
from efficientnet_tpu.data.data_place import require_data_place
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.hardware.tpu_specs import Slice, parse_slice
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan.answers import summary
from efficientnet_tpu.plan.answers.prices import parse_prices
from efficientnet_tpu.plan.inference_report import inference_report
from efficientnet_tpu.plan.planner import Planner, training_images
from efficientnet_tpu.plan.report import describe_memory_origin, report
from efficientnet_tpu.plan.suggestions import suggest_changes
from efficientnet_tpu.plan.table import describe_recipe, load_tables
from efficientnet_tpu.storage import presence


def plan(config: Config) -> None:
    """Prints the plan for every type in --tpu_type. Raises UserError for a request that no TPU can meet."""
    slices = [parse_slice(name.strip()) for name in config.launch.tpu_type.split(",")]
    parse_prices(config.plan.price_per_chip_hour)
    if config.plan.largest_batch and config.plan.plan_step != "train":
        raise UserError(f"--largest_batch: is of training; leave out --plan_step={config.plan.plan_step}.")
    config = with_images_of_data(config)
    planner = Planner(config, configured_architecture(config.model, config.plan.num_classes), load_tables(config))
    if config.plan.largest_batch:
        print("\n".join(_largest_batches(planner, slices)))
    elif config.plan.plan_step == "train":
        print("\n".join(_training(planner, slices)))
    else:
        print(_RULE.join(inference_report(planner, tpu) for tpu in slices))


_RULE = f"\n\n{'-' * 120}\n\n"


def with_images_of_data(config: Config) -> Config:
    """Returns the config with the number of images and classes of --data_dir, where one is given; TensorFlow then reads
    what is there. --num_images, where typed, stands.
    """
    if not config.data.data_dir:
        return config
    if presence.is_local(config.data.data_dir):
        require_data_place(config.data)
    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.data.datasets import open_data

    data = open_data(config.data)
    counted = {"num_classes": len(data.label_names)}
    if data.train and config.plan.num_images == OPTIONS["num_images"].default:
        counted["num_images"] = data.train.num_images
    return with_options(config, counted)


def _training(planner: Planner, slices: Sequence[Slice]) -> list[str]:
    """Returns the lines on a training: three for one TPU, a table for several, and all details with --verbose."""
    config, batch_size = planner.config, planner.config.train.batch_size
    found = []
    for tpu in slices:
        planned = planner.plan(tpu, batch_size)
        found.append((planned, [] if planned.fits else suggest_changes(planner, tpu, batch_size)))
    augments = config.data.augment != "none"
    first, changes = found[0]
    where = summary.where(first) if len(found) == 1 else ""
    lines = [summary.title(first, where, config.train.train_epochs, training_images(config)), ""]
    if len(found) == 1:
        lines += [*summary.three_lines(first), *summary.feed_lines(first, augments)]
        if not first.fits:
            lines += ["", *summary.change_lines(changes)]
    else:
        lines += summary.table(found)
        for one, _ in found:
            lines += [f"{one.tpu.name:<7} {line}" for line in summary.feed_lines(one, augments)[:1]]
    if config.output.verbose:
        return [*lines, "", _RULE.join(report(one) for one, _ in found)]
    return [*lines, "--verbose: the memory by its parts, the operations, the bounds of a step's time"]


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
