"""The first lines of a plan: whether the training fits, how long it takes and what it costs. No TensorFlow."""

from collections.abc import Sequence

from efficientnet_tpu.plan.answers.host_feed import describe_feed
from efficientnet_tpu.plan.report import Plan, between, describe_memory_origin
from efficientnet_tpu.plan.roofline import TrainingCost
from efficientnet_tpu.plan.suggestions import Change

_UNTESTED = "* a slice of several hosts: these are untested, docs/tpu.md"
_NO_CYCLES = "at least"


def title(plan: Plan, where: str, epochs: float, num_images: int) -> str:
    """Returns the line that says what is planned. where: ' on v5e-8 (8 chips, 1 host)', or nothing."""
    resolution = plan.architecture.resolution
    return (
        f"{plan.architecture.name} at {resolution} x {resolution}{where}: {plan.num_steps:,} steps of "
        f"{plan.batch_size:,} images, {epochs:g} epochs of {num_images:,}"
    )


def where(plan: Plan) -> str:
    """Returns ' on v5e-8 (8 chips, 1 host)'."""
    tpu = plan.tpu
    hosts = "1 host" if tpu.num_hosts == 1 else f"{tpu.num_hosts} hosts, which is untested"
    return f" on {tpu.name} ({tpu.num_chips} chip{'s' * (tpu.num_chips > 1)}, {hosts})"


def three_lines(plan: Plan) -> list[str]:
    """Returns the lines Fits, Hours and Cost of one TPU. A step that does not fit has no hours."""
    lines = [f"Fits:  {_verdict(plan)}. A core needs {_memory(plan)} [{describe_memory_origin(plan)}]"]
    if not plan.fits:
        return [*lines, "Hours: none, as it does not fit", "Cost:  none"]
    origin = (
        "at peak; no step is compiled for this kind of TPU"
        if not plan.expected_costs
        else ("modelled; the band is that of two public records, evaluations are not counted")
    )
    in_chip_hours = between_costs(plan, "chip_hours") + " chip-hours"
    price = f"{between_costs(plan, 'price')}, at {plan.price_per_chip_hour:g} a chip-hour: {in_chip_hours}"
    money = price if plan.price_per_chip_hour else f"{in_chip_hours}; --price_per_chip_hour=N says it in money"
    return [*lines, f"Hours: {between_costs(plan, 'hours')} [{origin}]", f"Cost:  {money}"]


def between_costs(plan: Plan, name: str) -> str:
    """Returns '49 (23 to 68)' of an attribute of the costs: what is likely, and the band; or 'at least 12'."""
    if not plan.expected_costs:
        return f"{_NO_CYCLES} {between(*2 * [_value(plan.lowest_cost, name)])}"
    likely, shortest, longest = (_value(cost, name) for cost in plan.expected_costs)
    return f"{between(likely, likely)} ({between(shortest, longest)})"


def _value(cost: TrainingCost, name: str) -> float:
    return getattr(cost, name)


def _verdict(plan: Plan) -> str:
    if plan.is_near_limit:
        word = "probably" if plan.fits else "probably not"
        return f"{word} (too near the limit for a model; --compile makes sure)"
    return "yes" if plan.fits else "no"


def _memory(plan: Plan) -> str:
    return f"{plan.estimate.compilation.needed_bytes / 2**30:,.1f} of {plan.limit_bytes / 2**30:.2f} GiB"


def change_lines(changes: Sequence[Change]) -> list[str]:
    """Returns what makes a training fit, with its figures, the cheapest first."""
    if not changes:
        return ["Nothing that is tried makes it fit: a smaller --model or --resolution may."]
    plans = [change.plan for change in changes]
    lines = [_heading("To make it fit, cheapest first:", plans)]
    for change in changes:
        lines += [f"  {_row(change.flags, change.plan, plans)}", f"      {change.meaning}"]
    return [*lines, *_footnote(plans)]


def table(found: Sequence[tuple[Plan, Sequence[Change]]]) -> list[str]:
    """Returns a table with a row for each TPU, and below one that does not fit a row for what makes it fit."""
    plans = [one for plan, changes in found for one in (plan, *(change.plan for change in changes))]
    lines = [_heading("TPU", plans)]
    for plan, changes in found:
        lines.append(_row(plan.tpu.name, plan, plans, indent=2))
        lines += [f"  {_row(change.flags, change.plan, plans)}" for change in changes]
    return [*lines, *_footnote(plans)]


def _heading(first: str, plans: Sequence[Plan]) -> str:
    unit = "cost" if _is_priced(plans) else "chip-hours"
    return f"{first:<38}{'fits':<14}{'GiB a core needs':<26}{'hours':<20}{unit}"


def _is_priced(plans: Sequence[Plan]) -> bool:
    return all(plan.price_per_chip_hour for plan in plans)


def _row(name: str, plan: Plan, plans: Sequence[Plan], indent: int = 0) -> str:
    """Returns a row of the table of all plans: name, verdict, memory, hours and cost."""
    mark = "*" if plan.tpu.num_hosts > 1 else ""
    fits = (
        ("probably" if plan.is_near_limit else "yes") if plan.fits else "probably not" if plan.is_near_limit else "no"
    )
    origin = "compiled" if plan.estimate.is_memory_compiled else "modelled"
    memory = f"{_memory(plan).removesuffix(' GiB')} {origin}"
    costs = ("-", "-")
    if plan.fits:
        costs = between_costs(plan, "hours"), between_costs(plan, "price" if _is_priced(plans) else "chip_hours")
    return f"{name + mark:<{36 + indent}}{fits:<14}{memory:<26}{costs[0]:<20}{costs[1]}"


def _footnote(plans: Sequence[Plan]) -> list[str]:
    return [_UNTESTED] if any(plan.tpu.num_hosts > 1 for plan in plans) else []


def feed_line(plan: Plan, augments: bool) -> str:
    """Returns the line on whether the hosts prepare images as fast as the TPU takes them, "" where it does not fit."""
    return describe_feed(plan, augments) if plan.fits else ""
