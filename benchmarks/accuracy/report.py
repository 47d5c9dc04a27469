"""Curves of several contestants as a table, a CSV file and a picture."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from accuracy.contestants import OURS
from accuracy.training import Point

# By contestant the curves of its seeds.
Curves = Mapping[str, Sequence[Sequence[Point]]]


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Returns the means of the curves, evaluation by evaluation."""
    return [
        Point(*(statistics.mean(values) for values in zip(*(vars(point).values() for point in points), strict=True)))
        for points in zip(*curves, strict=True)
    ]


def best_until(curve: Sequence[Point], cpu_minutes: float) -> Point | None:
    """Returns the first of the best evaluations after at most so many CPU minutes; None where there is none yet."""
    return max(
        (point for point in curve if point.cpu_minutes <= cpu_minutes),
        key=lambda point: point.top_1_accuracy,
        default=None,
    )


def first_to_reach(curve: Sequence[Point], accuracy: float) -> Point | None:
    """Returns the first evaluation that is at least as accurate; None where none is."""
    return next((point for point in curve if point.top_1_accuracy >= accuracy), None)


def table(curves: Curves) -> str:
    """Returns a Markdown table: what each contestant reaches, at what cost, and ours beside it.

    Compared are the means over the seeds.
    """
    lines = [
        "| contestant | seeds | CPU minutes (range) | wall minutes | top-1 at the end (range) | best "
        "| after CPU minutes | ours is there after | share of its CPU minutes | at equal CPU minutes: ours, it |",
        "|---" * 10 + "|",
    ]
    ours = mean_curve(curves[OURS]) if curves.get(OURS) else []
    for name, runs in curves.items():
        curve = mean_curve(runs)
        if not curve:
            continue
        best, ends = best_until(curve, curve[-1].cpu_minutes), [run[-1] for run in runs]
        cells = [
            name,
            str(len(runs)),
            _with_range([point.cpu_minutes for point in ends], 1),
            f"{curve[-1].wall_minutes:.1f}",
            _with_range([100 * point.top_1_accuracy for point in ends], 2),
            f"{100 * best.top_1_accuracy:.2f}",
            f"{best.cpu_minutes:.1f}",
            *(["-"] * 3 if name == OURS or not ours else _beside_ours(ours, curve, best)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _beside_ours(ours: Sequence[Point], peer: Sequence[Point], best: Point) -> list[str]:
    """Returns the cells on when ours is as good as the peer's best, and on both when the first of them has ended."""
    reached = first_to_reach(ours, best.top_1_accuracy)
    minutes = min(ours[-1].cpu_minutes, peer[-1].cpu_minutes)
    pair = [best_until(curve, minutes) for curve in (ours, peer)]
    found = [f"{100 * point.top_1_accuracy:.2f}" if point else "none yet" for point in pair]
    return [
        f"{reached.cpu_minutes:.1f}" if reached else "never",
        f"{reached.cpu_minutes / best.cpu_minutes:.2f}" if reached else "-",
        f"{minutes:.1f}: {', '.join(found)}",
    ]


def _with_range(values: Sequence[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def write_csv(path: Path, curves: Curves) -> None:
    """Writes the evaluations of all runs."""
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["contestant", "run", *Point.__dataclass_fields__])
        for name, runs in curves.items():
            for number, run in enumerate(runs):
                rows.writerows([name, number, *(f"{value:.6g}" for value in vars(point).values())] for point in run)


def write_picture(path: Path, title: str, curves: Curves) -> None:
    """Draws accuracy over CPU minutes: the runs of a contestant thin, their mean thick."""
    from efficientnet_tpu.display.plotting import Figure, png

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, runs) in enumerate(curves.items()):
        for run in runs:
            axes.plot(*_coordinates(run), color=f"C{number}", linewidth=0.6, alpha=0.5)
        axes.plot(*_coordinates(mean_curve(runs)), "o-", color=f"C{number}", markersize=3, label=name)
    axes.set(title=title, xlabel="CPU minutes", ylabel="top-1 of the held-out images, per cent")
    axes.grid(alpha=0.3)
    axes.legend()
    path.write_bytes(png(figure, cut=False))


def _coordinates(curve: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.cpu_minutes for point in curve], [100 * point.top_1_accuracy for point in curve]
