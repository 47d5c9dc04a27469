"""The networks that searches have trained: the table of the best, the Pareto plot, and all trials as CSV."""

from collections.abc import Sequence

from efficientnet_tpu.paper.figures import Figure, Panel, PointSeries
from efficientnet_tpu.paper.paper_table import HERE, Counted, PaperTable
from efficientnet_tpu.studies.search.space import encode
from efficientnet_tpu.studies.search_report.searches import (
    Search,
    Skeleton,
    best_trials,
    describe_changes,
    front,
)
from efficientnet_tpu.texts.csv_text import csv_text

MOST_NETWORKS = 10  # in the table
# What is searched against: the name of the axis, and what its unit is in units of the cost.
COST_AXES = {
    "multiply_adds": ("multiply-adds (millions)", 1e6),
    "params": ("parameters (millions)", 1e6),
    "latency": ("latency (ms)", 1e-3),
    "tpu_step": ("TPU step (ms)", 1e-3),
}


def make_table(searches: Sequence[Search], skeleton: Skeleton | None, title: str) -> PaperTable:
    """Returns the table of the best networks, with a note on what each changes of the skeleton."""
    facts = searches[0].facts
    axis, unit = COST_AXES[facts.cost_kind]
    is_timed = facts.cost_kind in ("latency", "tpu_step")
    names = ("network", "trial", "accuracy (%)", "parameters (M)", "multiply-adds (M)", *([axis] if is_timed else []))
    columns = tuple((name, HERE) for name in (*names, "reward", "on the front"))
    on_front = {id(trial) for _, trial in front(searches)}
    rows, notes = [], []
    for number, (search, trial) in enumerate(best_trials(searches, MOST_NETWORKS), start=1):
        timed = [Counted(trial.cost, f"{trial.cost / unit:.4g}")] if is_timed else []
        rows.append(
            (
                str(number),
                f"{search.label} {trial.number}" + (" (winner)" if trial is search.winner else ""),
                Counted(trial.accuracy, f"{100 * trial.accuracy:.2f}"),
                Counted(trial.params, f"{trial.params / 1e6:.4g}"),
                Counted(trial.multiply_adds, f"{trial.multiply_adds / 1e6:.4g}"),
                *timed,
                Counted(trial.reward, f"{trial.reward:.4f}"),
                "yes" if id(trial) in on_front else "",
            )
        )
        notes.append(f"{number}: {describe_changes(search.facts, trial.network) or 'the skeleton'}")
    known = "whose accuracy is not known"
    if skeleton:
        known = (
            f"with accuracy {skeleton.accuracy:.2%}, {skeleton.params / 1e6:.4g} M parameters, "
            f"{skeleton.multiply_adds / 1e6:.4g} M multiply-adds, reward {skeleton.reward:.4f} ({skeleton.source})"
        )
    notes.append(f"The changes are those of {facts.name}, {known}.")
    return PaperTable("search_networks", title, columns, tuple(rows), tuple(notes))


def make_figure(searches: Sequence[Search], skeleton: Skeleton | None, title: str) -> Figure:
    """Returns the plot of accuracy over cost: every trained trial, the front, the winners and the skeleton."""
    axis, unit = COST_AXES[searches[0].facts.cost_kind]
    series = []
    for color, algorithm in enumerate(dict.fromkeys(search.facts.algorithm for search in searches)):
        trials = [one for search in searches if search.facts.algorithm == algorithm for one in search.trained]
        points = tuple((one.cost / unit, 100 * one.accuracy, "") for one in trials)
        series.append(PointSeries(algorithm, points, "faint", color))
    best = tuple((one.cost / unit, 100 * one.accuracy, "") for _, one in front(searches))
    series.append(PointSeries("Pareto front", best, "steps"))
    winners = tuple((search.winner.cost / unit, 100 * search.winner.accuracy, search.label) for search in searches)
    series.append(PointSeries("highest reward", winners, "measured"))
    if skeleton:
        point = (skeleton.cost / unit, 100 * skeleton.accuracy, searches[0].facts.name)
        series.append(PointSeries("skeleton", (point,), "points"))
    heights = [y for one in series for _, y, _ in one.points]
    target = searches[0].facts.target / unit
    series.append(PointSeries("target", ((target, min(heights), ""), (target, max(heights), "")), "rule"))
    return Figure("search_networks", title, (Panel(axis, "accuracy (%)", tuple(series)),))


def trials_csv(searches: Sequence[Search]) -> str:
    """Returns all trials, a row for each, in the order in which they ended."""
    heads = ("algorithm", "seed", "number", "order", "accuracy", "params", "multiply_adds", "cost", "reward")
    heads += ("cpu_seconds", "is_pruned", "on_front", "network", "changes")
    on_front = {id(trial) for _, trial in front(searches)}
    rows = [
        (
            search.facts.algorithm,
            search.facts.seed,
            *(getattr(trial, name) for name in heads[2:11]),
            id(trial) in on_front,
            encode(trial.network),
            describe_changes(search.facts, trial.network),
        )
        for search in searches
        for trial in search.trials
    ]
    return csv_text([heads, *rows])
