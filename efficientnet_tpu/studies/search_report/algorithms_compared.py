"""Algorithms side by side by the trials that they have trained: the table, and the curves of rewards over trials."""

import statistics
from collections.abc import Sequence

from efficientnet_tpu.paper.figures import Figure, Panel, PointSeries
from efficientnet_tpu.paper.paper_table import HERE, Counted, PaperTable
from efficientnet_tpu.studies.search.objective import best_so_far
from efficientnet_tpu.studies.search_report.comparison import band, line
from efficientnet_tpu.studies.search_report.searches import Search

WINDOW = 20  # trials of a running mean


def by_algorithm(searches: Sequence[Search]) -> dict[str, list[Search]]:
    """Groups searches by algorithm, in the order in which they were named."""
    found: dict[str, list[Search]] = {}
    for search in searches:
        found.setdefault(search.facts.algorithm, []).append(search)
    return found


def make_table(searches: Sequence[Search], title: str) -> PaperTable:
    """Returns the table of algorithms: the highest reward after as many trials as every search has, and what it took.

    Of several seeds it has means, with the standard deviation.
    """
    shared = min(len(search.trained) for search in searches)
    columns = ("algorithm", "seeds", "trials", "pruned", "networks", f"best of {shared}", "sd", "each seed")
    columns += ("accuracy (%)", f"mean of last {min(WINDOW, shared)}", "CPU hours", "CPU minutes a trial")
    rows = []
    for algorithm, members in by_algorithm(searches).items():
        rewards = [[trial.reward for trial in search.trained[:shared]] for search in members]
        best = [max(row) for row in rewards]
        late = statistics.mean(statistics.mean(row[-WINDOW:]) for row in rewards)
        top = [max(search.trained[:shared], key=lambda trial: trial.reward).accuracy for search in members]
        trials = [trial for search in members for trial in search.trials]
        seconds = sum(trial.cpu_seconds for trial in trials)
        spread = statistics.stdev(best) if len(best) > 1 else None
        # A network that was there before is not trained again.
        minutes = seconds / 60 / max(1, sum(trial.cpu_seconds > 0 for trial in trials))
        rows.append(
            (
                algorithm,
                str(len(members)),
                str(len(trials)),
                str(sum(trial.is_pruned for trial in trials)),
                str(len({search.facts.space.stages(one.network) for search in members for one in search.trials})),
                Counted(statistics.mean(best), f"{statistics.mean(best):.4f}"),
                "-" if spread is None else Counted(spread, f"{spread:.4f}"),
                " ".join(f"{value:.4f}" for value in best),
                Counted(statistics.mean(top), f"{100 * statistics.mean(top):.2f}"),
                Counted(late, f"{late:.4f}"),
                Counted(seconds / 3600, f"{seconds / 3600:.2f}"),
                Counted(minutes, f"{minutes:.2f}"),
            )
        )
    notes = (
        f"Best of {shared}: the highest reward of the first {shared} trials that were trained to their end, as many as "
        "every search has; the accuracy is of those networks.",
    )
    return PaperTable("search_rewards", title, tuple((name, HERE) for name in columns), tuple(rows), notes)


def make_figure(searches: Sequence[Search], title: str) -> Figure:
    """Returns the plot of rewards over the trials trained to their end.

    Each trial is faint; the best so far is a line, of several seeds their mean, with a band from the lowest to the
    highest; the mean of the last WINDOW trials is dotted.
    """
    series: list[PointSeries] = []
    for color, (algorithm, members) in enumerate(by_algorithm(searches).items()):
        rewards = [[trial.reward for trial in search.trained] for search in members]
        points = tuple(point for row in rewards for point in line(row))
        series.append(PointSeries("", points, "faint", color))
        shared = min(map(len, rewards))
        best = list(zip(*(best_so_far(row[:shared]) for row in rewards), strict=True))
        if len(members) > 1:
            series.append(PointSeries("", band([min(at) for at in best], [max(at) for at in best]), "band", color))
        name = f"{algorithm}, best so far" + (f", {len(members)} seeds" if len(members) > 1 else "")
        series.append(PointSeries(name, line([statistics.mean(at) for at in best]), "line", color))
        means = list(zip(*(_running_mean(row[:shared]) for row in rewards), strict=True))
        trend = tuple((x + WINDOW - 1, y, "") for x, y, _ in line([statistics.mean(at) for at in means]))
        series.append(PointSeries(f"{algorithm}, mean of {WINDOW}" if trend else "", trend, "trend", color))
    panel = Panel("trials trained", "reward", tuple(series))
    return Figure("search_rewards", title, (panel,))


def _running_mean(values: Sequence[float]) -> list[float]:
    """Returns the mean of the last WINDOW values, from the first place where there are so many."""
    return [statistics.mean(values[end - WINDOW : end]) for end in range(WINDOW, len(values) + 1)]
