"""The first lines of a plan: whether the training fits, how long it takes and what it costs. No TensorFlow."""

from collections.abc import Sequence

from efficientnet_tpu.plan.answers.host_feed import describe_feed
from efficientnet_tpu.plan.report import Plan, between, describe_memory_origin
from efficientnet_tpu.plan.roofline import TrainingCost
from efficientnet_tpu.plan.suggestions import Change

_UNTESTED = "* a slice of several hosts: these are untested, docs/tpu.md"
_NO_CYCLES = "at least"
# Columns of a table, 120 with the last, which may have 25: name; verdict, memory, hours, cost.
_NAME_WIDTH, _WIDTHS = 36, (13, 24, 22, 0)


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
    return [*lines, f"Hours: {between_costs(plan, 'hours')} [{origin}]", f"Cost:  {_money(plan)}"]


def _money(plan: Plan) -> str:
    """Returns what a training costs, in money where a price is known, and in chip-hours."""
    chip_hours, price = f"{between_costs(plan, 'chip_hours')} chip-hours", plan.price
    if not price.per_chip_hour:
        return f"{chip_hours}; --price_per_chip_hour=N says it in money"
    listed = f", list price of {price.read} in {price.region}: check it" if price.is_listed else ""
    return f"{between_costs(plan, 'price')} {currency([plan])}for {chip_hours} at {price.per_chip_hour:g}{listed}"


def currency(plans: Sequence[Plan]) -> str:
    """Returns 'US$ ' where all prices are list prices, "" where some are the user's, in a currency that is not said."""
    return "US$ " if all(plan.price.is_listed for plan in plans) else ""


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
    needed = plan.estimate.compilation.needed_bytes / 2**30
    return f"{needed:,.{0 if needed >= 100 else 1}f} of {plan.limit_bytes / 2**30:.2f} GiB"


def change_lines(changes: Sequence[Change]) -> list[str]:
    """Returns what makes a training fit, with its figures, the cheapest first."""
    if not changes:
        return ["Nothing that is tried makes it fit: a smaller --model or --resolution may."]
    plans = [change.plan for change in changes]
    lines = [_heading("To make it fit, cheapest first:", plans)]
    for change in changes:
        lines += [_row(f"  {change.flags}", change.plan, plans), f"      {change.meaning}"]
    return [*lines, *_footnote(plans)]


def table(found: Sequence[tuple[Plan, Sequence[Change]]]) -> list[str]:
    """Returns a table with a row for each TPU, and below one that does not fit a row for what makes it fit."""
    plans = [one for plan, changes in found for one in (plan, *(change.plan for change in changes))]
    lines = [_heading("TPU", plans)]
    for plan, changes in found:
        lines.append(_row(plan.tpu.name, plan, plans))
        lines += [_row(f"  {change.flags}", change.plan, plans) for change in changes]
    return [*lines, *_footnote(plans)]


def _heading(first: str, plans: Sequence[Plan]) -> str:
    unit = f"cost, {currency(plans)}".rstrip(", ") if _is_priced(plans) else "chip-hours"
    return _columns(first, "fits", "GiB a core needs", "hours", unit)


def _columns(name: str, *others: str) -> str:
    """Returns a row of at most 120 columns; a name that is longer than its column has a line of its own."""
    cells = "".join(f"{other:<{width}}" for other, width in zip(others, _WIDTHS, strict=True)).rstrip()
    return f"{name}\n{'':<{_NAME_WIDTH}}{cells}" if len(name) >= _NAME_WIDTH else f"{name:<{_NAME_WIDTH}}{cells}"


def _is_priced(plans: Sequence[Plan]) -> bool:
    return all(plan.price.per_chip_hour for plan in plans)


def _row(name: str, plan: Plan, plans: Sequence[Plan]) -> str:
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
    return _columns(name + mark, fits, memory, *costs)


def _footnote(plans: Sequence[Plan]) -> list[str]:
    """Returns the lines below a table: on slices, and on list prices."""
    lines = [_UNTESTED] if any(plan.tpu.num_hosts > 1 for plan in plans) else []
    listed = {plan.tpu.kind: plan.price for plan in plans if plan.price.is_listed}
    if not listed or not _is_priced(plans):
        return lines
    by_region: dict[str, list[str]] = {}
    for kind, price in listed.items():
        by_region.setdefault(price.region, []).append(f"{kind} {price.per_chip_hour:g}")
    named = "; ".join(f"{region} {', '.join(kinds)}" for region, kinds in by_region.items())
    read = next(iter(listed.values())).read
    lines.append(f"US$/chip-hour, list of {read}, on demand: {named}")
    return [*lines, "  (check them: they change, and differ by region; --price_per_chip_hour=KIND=N,... takes yours)"]


def feed_lines(plan: Plan, augments: bool) -> list[str]:
    """Returns the lines on whether the hosts prepare images fast enough; none for a step that does not fit."""
    return describe_feed(plan, augments) if plan.fits else []
