"""The report of a surrogate: how well it predicts the trials of searches, and how algorithms do on it."""

import time
from collections.abc import Sequence

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.paper import reproduce
from efficientnet_tpu.paper.figures import Figure, Panel, PointSeries
from efficientnet_tpu.paper.paper_table import HERE, Counted, PaperTable
from efficientnet_tpu.studies.search.space import Network
from efficientnet_tpu.studies.search_report import comparison, surrogate
from efficientnet_tpu.studies.search_report.searches import COUNTED_COSTS, Search
from efficientnet_tpu.studies.search_report.surrogate import FEWEST_TRIALS, FOLDS, TERMS, HeldOut, Surrogate


def require_usable(searches: Sequence[Search]) -> None:
    """Raises UserError where no surrogate can be fitted to the trials, or would not give rewards."""
    kind, trials = searches[0].facts.cost_kind, sum(len(search.trained) for search in searches)
    if kind not in COUNTED_COSTS:
        raise UserError(
            f"--surrogate_seeds: the searches count {kind}, which only a network that is built has. A surrogate gives "
            f"rewards for {' and '.join(COUNTED_COSTS)}. Leave the flag out."
        )
    if trials < FEWEST_TRIALS:
        raise UserError(
            f"--surrogate_seeds: the searches have {trials} trained networks, too few to fit a surrogate to: "
            f"{FEWEST_TRIALS} are the least. Leave the flag out, or let them go on."
        )


def show(searches: Sequence[Search], seeds: int, output_dir: str) -> None:
    """Prints and writes how well the surrogate predicts, and the algorithms on it.

    They have as many trials as the longest of the searches.
    """
    facts = searches[0].facts
    trials = [trial for search in searches for trial in search.trained]
    rows = [trial.network for trial in trials], [trial.accuracy for trial in trials]
    held_out = {terms: surrogate.hold_out(facts.space, *rows, terms) for terms in (*TERMS, "")}
    model = Surrogate(facts.space, *rows)
    title = f"{facts.name}: a surrogate of {len(trials)} trainings"
    truth = rows[1]
    reproduce.show(
        make_table(held_out, model, title), make_figure(truth, held_out[""], f"held out, {title}"), output_dir
    )

    def reward(network: Network, off: float) -> float:
        accuracy = min(1.0, max(0.0, float(model.accuracies([network])[0]) + off))
        return facts.objective.reward(accuracy, getattr(facts.space.cost(network), facts.cost_kind))

    number = max(len(search.trials) for search in searches)
    begun, noise = time.process_time(), held_out[""].error
    print(f"\n{seeds} seeds of each algorithm on the surrogate, {number} trials each", flush=True)
    found = {by: comparison.compare(facts.space, reward, seeds, number, by) for by in (0.0, noise)}
    minutes = (time.process_time() - begun) / 60
    notes = (
        f"Noise: what the surrogate is off by on trials held out, {100 * noise:.2f} points, is drawn anew for every "
        f"trial; it is chance of training and error of the surrogate together. {minutes:.1f} CPU minutes.",
    )
    title = f"{title}: algorithms on it"
    reproduce.show(comparison.make_table(found, title, notes), comparison.make_figure(found, title), output_dir)


def make_table(held_out: dict[str, HeldOut], model: Surrogate, title: str) -> PaperTable:
    """Returns the table of how well models predict trials held out. held_out: by terms; "" chooses them."""
    columns = ("terms", "Spearman", "Kendall", "R squared", "error (points)")
    rows = tuple(
        (
            terms or "chosen in each part",
            Counted(found.spearman, f"{found.spearman:.3f}"),
            Counted(found.kendall, f"{found.kendall:.3f}"),
            Counted(found.r_squared, f"{found.r_squared:.3f}"),
            Counted(100 * found.error, f"{100 * found.error:.2f}"),
        )
        for terms, found in held_out.items()
    )
    notes = (
        f"Each of {FOLDS} parts of the trials is predicted by a model that was fitted to the others. The penalty, and "
        "the terms where they are chosen, are chosen within the others too.",
        f"The surrogate itself has {model.terms}, with a penalty of {model.penalty:.3g}.",
    )
    return PaperTable("search_surrogate", title, tuple((name, HERE) for name in columns), rows, notes)


def make_figure(truth: Sequence[float], held_out: HeldOut, title: str) -> Figure:
    """Returns the plot of predicted over measured accuracies, with the line on which they are equal."""
    predicted = held_out.predicted.tolist()
    points = tuple((100 * one, 100 * other, "") for one, other in zip(truth, predicted, strict=True))
    ends = [100 * pick([*truth, *predicted]) for pick in (min, max)]
    panel = Panel(
        "measured accuracy (%)",
        "predicted accuracy (%)",
        (
            PointSeries("trials held out", points, "faint", 0),
            PointSeries("equal", tuple((x, x, "") for x in ends), "rule"),
        ),
    )
    return Figure("search_surrogate", title, (panel,))
