"""The ways of scaling that the paper compares (section 6, Figure 8) as networks of about equal cost, and their results.

Nothing here needs TensorFlow. `run_scaling_study` trains the networks.
"""

import bisect
import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Variant
from efficientnet_tpu.models.complexity import Complexity, count
from efficientnet_tpu.models.compound_scaling import Coefficients, compound_variant
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.paper.figures import Figure, Panel, PointSeries
from efficientnet_tpu.paper.paper_table import HERE, Counted, PaperTable
from efficientnet_tpu.storage import json_lines

BASE, COMPOUND = "base", "compound"
_STEP = 0.01  # between the coefficients that are tried


@dataclass(frozen=True)
class TrialResult:
    """The result of a finished trial, stored as a line of JSON."""

    way: str
    seed: int
    width_coefficient: float
    depth_coefficient: float
    resolution: int
    multiply_adds: int
    params: int
    top_1: float  # 0..1
    cpu_seconds: float
    recipe: str  # the other flags of its training
    chosen_by: float | None = None  # 0..1, on the minival, where there is one; not in studies of earlier versions


def to_line(row: TrialResult) -> str:
    """Returns the line of a file of JSON lines with the result."""
    return json_lines.line(dataclasses.asdict(row))


def from_json(value: dict[str, Any]) -> TrialResult:
    """Returns the result in the value of a line of `to_line`. Raises TypeError for another value."""
    return TrialResult(**value)


def scale_ways(
    base: Variant, factor: float, coefficients: Coefficients, num_classes: int, asked: str = ""
) -> dict[str, Variant]:
    """Returns the base and its versions at about `factor` times its multiply-adds: depth, width, resolution, compound.

    Of each way it takes the network with the nearest cost, with coefficients in hundredths and whole pixels. Compound
    scaling is equation 3 with the resolution to the pixel, since steps of 8 are too coarse for small images.
    asked: the flag that the factor came from. Raises UserError if the nearest cost of a way is more than a tenth off:
    rounding would then decide, not the way.
    """
    wanted = factor * count_network(base, num_classes).multiply_adds

    def search(make: Callable[[float], Variant], largest: float) -> Variant:
        return _nearest(make, largest, wanted, num_classes)

    found = {
        "depth": search(lambda by: replace(base, depth_coefficient=round(base.depth_coefficient * by, 4)), 2 * factor),
        "width": search(lambda by: replace(base, width_coefficient=round(base.width_coefficient * by, 4)), factor),
        "resolution": search(lambda by: replace(base, resolution=round(base.resolution * by)), factor),
        COMPOUND: scale_compound(base, factor, coefficients, num_classes),
    }
    for way, variant in found.items():
        cost = count_network(variant, num_classes).multiply_adds
        if not is_near(variant, base, factor, num_classes):
            raise UserError(
                f"{asked or f'--study_flops_factor={factor:g}'}: scaling the {way} alone comes no nearer than "
                f"{cost:,} multiply-adds to the {wanted:,.0f} wanted. Take another factor, or a base of more layers "
                "and channels."
            )
    return {BASE: base, **found}


def scale_compound(base: Variant, factor: float, coefficients: Coefficients, num_classes: int) -> Variant:
    """Returns the base scaled by the phi that comes nearest to `factor` times its multiply-adds."""
    to_the_pixel = replace(coefficients, resolution_step=1)

    def compound(phi: float) -> Variant:
        scaled = compound_variant(phi, base, to_the_pixel)
        return replace(
            scaled,
            width_coefficient=round(scaled.width_coefficient, 4),
            depth_coefficient=round(scaled.depth_coefficient, 4),
            dropout_rate=base.dropout_rate,  # one recipe for all
        )

    wanted = factor * count_network(base, num_classes).multiply_adds
    return _nearest(lambda by: compound(by - 1), 8, wanted, num_classes)


def is_near(variant: Variant, base: Variant, factor: float, num_classes: int) -> bool:
    """Returns whether a network's multiply-adds are within a tenth of `factor` times the base's."""
    costs = [count_network(one, num_classes).multiply_adds for one in (variant, base)]
    return abs(costs[0] / (factor * costs[1]) - 1) <= 0.1


def _nearest(make: Callable[[float], Variant], largest: float, wanted: float, num_classes: int) -> Variant:
    """Returns the network nearest to the wanted multiply-adds of those that coefficients from 1 to `largest` make."""

    def cost(step: int) -> int:
        return count_network(make(1 + _STEP * step), num_classes).multiply_adds

    # No cost falls as its coefficient grows. Of the coefficients that round to networks of one cost, the largest
    # wastes no pixels.
    steps = range(round((largest - 1) / _STEP) + 1)
    above = min(bisect.bisect_left(steps, wanted, key=cost), steps[-1])
    above = bisect.bisect_right(steps, cost(above), key=cost) - 1
    below = max(bisect.bisect_left(steps, wanted, key=cost) - 1, 0)
    return make(1 + _STEP * min((above, below), key=lambda step: abs(cost(step) - wanted)))


def count_network(variant: Variant, num_classes: int) -> Complexity:
    """Counts a network with a classifier of `num_classes` classes."""
    return count(scale("", variant, num_classes))


def make_table(rows: Sequence[TrialResult], title: str) -> PaperTable:
    """Returns the table of each way's cost, mean accuracy over the seeds, their spread, and gain over the base."""
    columns = ("way", "width", "depth", "resolution", "multiply-adds (M)", "parameters (M)", "seeds", "top-1 (%)")
    columns += ("sd", "each seed", "over base")
    baseline = [row.top_1 for row in rows if row.way == BASE]
    lines = []
    for way, trials in group_by_way(rows).items():
        one, accuracies = trials[0], [row.top_1 for row in trials]
        mean = statistics.mean(accuracies)
        lines.append(
            (
                way,
                f"{one.width_coefficient:g}",
                f"{one.depth_coefficient:g}",
                str(one.resolution),
                Counted(one.multiply_adds, f"{one.multiply_adds / 1e6:.2f}"),
                Counted(one.params, f"{one.params / 1e6:.3f}"),
                str(len(trials)),
                Counted(mean, f"{100 * mean:.2f}"),
                Counted(spread(accuracies), f"{100 * spread(accuracies):.2f}") if len(trials) > 1 else "-",
                " ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies),
                f"{100 * (mean - statistics.mean(baseline)):+.2f}" if baseline and way != BASE else "",
            )
        )
    cells = tuple((name, HERE if name in ("top-1 (%)", "sd", "each seed", "over base") else "") for name in columns)
    return PaperTable("scaling_study", title, cells, tuple(lines), tuple(_compare_compound(rows)))


def make_figure(rows: Sequence[TrialResult], title: str) -> Figure:
    """Returns a figure like Figure 8: a line from the base to the mean of each way, and a point for each trial."""
    means = {way: statistics.mean(row.top_1 for row in trials) for way, trials in group_by_way(rows).items()}
    cost = {row.way: row.multiply_adds / 1e6 for row in rows}
    points = {way: (cost[way], 100 * mean, way) for way, mean in means.items()}
    start = [points[BASE]] if BASE in points else []
    lines = [PointSeries(f"scale by {way}", (*start, point)) for way, point in points.items() if way != BASE]
    trials = PointSeries("each trial", tuple((cost[row.way], 100 * row.top_1, "") for row in rows), "points")
    return Figure("scaling_study", title, (Panel("multiply-adds (millions)", "top-1 (%)", (*lines, trials)),))


def group_by_way(rows: Iterable[TrialResult]) -> dict[str, list[TrialResult]]:
    """Groups trials by way, in the order of seeds."""
    found: dict[str, list[TrialResult]] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        found.setdefault(row.way, []).append(row)
    return found


def spread(accuracies: Sequence[float]) -> float:
    """Returns the sample standard deviation over the seeds, NaN for one seed."""
    return statistics.stdev(accuracies) if len(accuracies) > 1 else float("nan")


def _compare_compound(rows: Sequence[TrialResult]) -> list[str]:
    """Returns lines on compound scaling against each other way, over the seeds that both have.

    The standard error is that of the mean difference.
    """
    by_seed = {(row.way, row.seed): row.top_1 for row in rows}
    notes = []
    for way in group_by_way(rows):
        pairs = [
            100 * (by_seed[COMPOUND, seed] - accuracy)
            for (name, seed), accuracy in by_seed.items()
            if name == way and (COMPOUND, seed) in by_seed
        ]
        if way in (BASE, COMPOUND) or len(pairs) < 2:
            continue
        error = statistics.stdev(pairs) / len(pairs) ** 0.5
        notes.append(
            f"compound minus {way}: {statistics.mean(pairs):+.2f} points, standard error {error:.2f}, over "
            f"{len(pairs)} seeds"
        )
    return notes
