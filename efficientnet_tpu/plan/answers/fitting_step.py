"""Whether a training's step fits a TPU, by the planner's table: asked before it starts there, or a TPU is rented.

Nothing here needs TensorFlow.
"""

from collections.abc import Sequence

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS, Slice, parse_slice
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan.answers.summary import between_costs, currency
from efficientnet_tpu.plan.planner import Plan, Planner
from efficientnet_tpu.plan.report import describe_memory_origin
from efficientnet_tpu.plan.suggestions import suggest_changes
from efficientnet_tpu.plan.table import load_tables


def require_fitting_step(config: Config, tpu: Slice, num_classes: int) -> str:
    """Returns a warning for a step that may not fit the memory of a TPU, "" for one that does, or for --nomemory_check.

    Raises UserError for a step that does not fit by the table or by the model's error too; the message names flags by
    which it does. Frozen parts, of which the table knows nothing, are warned of only.
    """
    if not config.hardware.memory_check:
        return ""
    planner, batch_size = _planner(config, num_classes), config.train.batch_size
    found = planner.plan(tpu, batch_size)
    if found.fits and not found.is_near_limit:
        return ""
    sizes = f"{found.estimate.compilation.needed_bytes / 2**30:.1f} GiB of {found.limit_bytes / 2**30:.2f}"
    needs = f"a core of {tpu.name} needs {sizes} ({describe_memory_origin(found)})"
    if found.is_near_limit or config.train.freeze != "none":
        verdict = "fits" if found.fits else "does not fit"
        return f"warning: --train_batch_size={batch_size}: {needs}; too near the limit to be sure that it {verdict}"
    changes = suggest_changes(planner, tpu, batch_size, same_machine=True)
    advice = [f"{change.flags} ({change.meaning})" for change in changes]
    words = f"Add {', or '.join(advice)}." if advice else "Take a larger --tpu_type, a smaller --model or --resolution."
    raise UserError(
        f"--train_batch_size={batch_size}: does not fit: {needs}. {words} --nomemory_check leaves it to the compiler, "
        "which may compute some of it again, slowly, or refuse it after minutes."
    )


def expected_bill(config: Config, tpu: Slice, num_classes: int, allowed_hours: float = 0.0) -> str:
    """Returns the hours and the cost that a training of ImageNet's images is expected to come to.

    allowed_hours: after which the machine is ended, 0 for never. The text says whether they suffice.
    """
    found = _planner(config, num_classes).plan(tpu, config.train.batch_size)
    if not found.fits:  # --nomemory_check
        return "`plan` says that the step does not fit, and no hours"
    bill = f"{between_costs(found, 'hours')} hours of steps, {between_costs(found, 'chip_hours')} chip-hours"
    if price := found.price.per_chip_hour:
        listed = f", the list price of {found.price.read} on demand in {found.price.region}" if found.price.read else ""
        bill += f", {between_costs(found, 'price')} {currency([found])}at {price:g} each{listed}"
    return f"By `plan`, for {found.num_steps:,} steps: {bill}{_shortage(found, allowed_hours)}"


def _shortage(plan: Plan, allowed_hours: float) -> str:
    """Returns a sentence for a training that is likely, or may be, longer than `allowed_hours`; else ""."""
    expected = [cost.hours for cost in plan.expected_costs or [plan.lowest_cost]]
    if not allowed_hours or allowed_hours >= max(expected):
        return ""
    verdict = "is less than is expected" if allowed_hours < expected[0] else "may not suffice"
    return (
        f". The limit of {allowed_hours:.3g} h {verdict}: the machine is ended then, with everything saved, and the "
        "script goes on with a higher one"
    )


def _planner(config: Config, num_classes: int) -> Planner:
    config = with_options(config, {"num_classes": num_classes, "compile": False, "plan_step": "train"})
    return Planner(config, configured_architecture(config.model, num_classes), load_tables(config))


def slice_of(kinds: str, num_cores: int) -> Slice | None:
    """Returns the TPU of a kind, as `local_tpu.find` names it, with so many cores; None if there is no such.

    Of 'v2 or v3', which cannot be told apart, it is the one with more memory.
    """
    found: Sequence[Slice] = [
        one
        for kind in kinds.split(" or ")
        if kind in GENERATIONS
        for size in GENERATIONS[kind].sizes
        if (one := parse_slice(f"{kind}-{size}")).num_cores == num_cores
    ]
    return max(found, key=lambda one: one.generation.hbm_limit, default=None)
