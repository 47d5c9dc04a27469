"""Search algorithms against each other on a surrogate of training, over many seeds: a trial costs no training there."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from efficientnet_tpu.config.studies import SEARCH_ALGORITHMS
from efficientnet_tpu.paper.figures import Figure, Panel, PointSeries
from efficientnet_tpu.paper.paper_table import HERE, Counted, PaperTable
from efficientnet_tpu.studies.search.algorithms import Algorithm
from efficientnet_tpu.studies.search.space import Network, SearchSpace
from efficientnet_tpu.studies.search.study import make_algorithm
from efficientnet_tpu.studies.search_report.rank_tests import mann_whitney

CONTROL = "random"


@dataclass(frozen=True)
class Curves:
    """The searches of one algorithm on a surrogate, a row for each seed.

    rewards: of the trials, without noise, float64 [seeds, trials]. chosen: that of the network whose told reward is the
    highest so far, float64 [seeds, trials]: with noise a search may take another network than its best.
    """

    rewards: np.ndarray
    chosen: np.ndarray


def search(
    algorithm: Algorithm, reward: Callable[[Network, float], float], trials: int, noise: float, seed: int
) -> tuple[list[float], list[float]]:
    """Returns a row of both arrays of Curves.

    reward: of a network, whose accuracy is off by the second argument. noise: the standard deviation of that.
    """
    generator, rewards, chosen = random.Random(f"noise {seed}"), [], []
    best = float("-inf")
    for number in range(trials):
        proposal = algorithm.ask(number)
        rewards.append(reward(proposal.network, 0.0))
        told = reward(proposal.network, generator.gauss(0.0, noise)) if noise else rewards[-1]
        algorithm.tell(proposal, told)
        chosen.append(rewards[-1] if told > best else chosen[-1])
        best = max(best, told)
    return rewards, chosen


def compare(
    space: SearchSpace, reward: Callable[[Network, float], float], seeds: int, trials: int, noise: float = 0.0
) -> dict[str, Curves]:
    """Returns the searches of every algorithm, with seeds from 0. See `search`."""
    found = {}
    for name in SEARCH_ALGORITHMS:
        rows = [search(make_algorithm(name, space, seed), reward, trials, noise, seed) for seed in range(seeds)]
        rewards, chosen = zip(*rows, strict=True)
        found[name] = Curves(np.array(rewards), np.array(chosen))
    return found


def make_table(found: dict[float, dict[str, Curves]], title: str, notes: Sequence[str]) -> PaperTable:
    """Returns the table of algorithms beside random search. found: the searches by the noise of an accuracy, 0..1."""
    columns = ("noise (points)", "algorithm", "seeds", "trials", "reward found", "sd", "above random", "p")
    columns += ("reward of the last tenth", "sd", "above random", "p")
    rows = []
    for noise, by_name in found.items():
        control = by_name[CONTROL]
        for name, curves in by_name.items():
            seeds, trials = curves.rewards.shape
            cells: list[str | Counted] = [Counted(100 * noise, f"{100 * noise:.2f}"), name, str(seeds), str(trials)]
            for pick in (_found, _late):
                values = pick(curves)
                sd = float(values.std(ddof=1)) if seeds > 1 else 0.0
                cells += [Counted(float(values.mean()), f"{values.mean():.4f}"), Counted(sd, f"{sd:.4f}")]
                share, p = mann_whitney(values.tolist(), pick(control).tolist())
                cells += ["", ""] if name == CONTROL else [Counted(share, f"{share:.2f}"), Counted(p, f"{p:.2g}")]
            rows.append(tuple(cells))
    explained = (
        "Reward found: without noise, of the network whose told reward is the highest after all trials. Reward of the "
        "last tenth: the mean of the last tenth of the trials. Both: mean and standard deviation over the seeds.",
        "Above random: the share of pairs of seeds in which the algorithm has more than random search. p: two-sided, "
        "of Mann and Whitney's test, for each comparison by itself.",
        *notes,
    )
    cells_of = tuple((name, HERE if index > 3 else "") for index, name in enumerate(columns))
    return PaperTable("search_comparison", title, cells_of, tuple(rows), explained)


def _found(curves: Curves) -> np.ndarray:
    """Returns the reward of the network that each search ends with, float64 [seeds]."""
    return curves.chosen[:, -1]


def _late(curves: Curves) -> np.ndarray:
    """Returns the mean reward of the last tenth of the trials, float64 [seeds]."""
    return curves.rewards[:, -max(1, curves.rewards.shape[1] // 10) :].mean(axis=1)


def make_figure(found: dict[float, dict[str, Curves]], title: str) -> Figure:
    """Returns a panel for each noise: the reward found after every trial, the mean over seeds and from the tenth to the
    ninetieth percentile.
    """
    panels = []
    for noise, by_name in found.items():
        series: list[PointSeries] = []
        for color, (name, curves) in enumerate(by_name.items()):
            low, high = np.percentile(curves.chosen, (10, 90), axis=0)
            series.append(PointSeries("", band(low.tolist(), high.tolist()), "band", color))
            mean = curves.chosen.mean(axis=0)
            series.append(PointSeries(name, line(mean.tolist()), "line", color))
        heading = f"noise {100 * noise:.2f} points: " if len(found) > 1 else ""
        panels.append(Panel("trials", "reward found", tuple(series), heading))
    return Figure("search_comparison", title, tuple(panels))


def line(values: Sequence[float]) -> tuple[tuple[float, float, str], ...]:
    """Returns values over the number of trials, from 1."""
    return tuple((float(index), value, "") for index, value in enumerate(values, start=1))


def band(low: Sequence[float], high: Sequence[float]) -> tuple[tuple[float, float, str], ...]:
    """Returns the outline of what is between two curves over the number of trials."""
    return (*line(low), *reversed(line(high)))
