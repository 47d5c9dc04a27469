"""STEP 1 of the paper (section 3.3): candidates for alpha, beta and gamma as networks at phi = 1, and their ranking.

Nothing here needs TensorFlow. `run_grid_search` trains the networks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from efficientnet_tpu.installation import program
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Variant
from efficientnet_tpu.models.complexity import Complexity, count
from efficientnet_tpu.models.compound_scaling import Coefficients, candidate_coefficients, compound_variant
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.paper.figures import Figure, Panel, PointSeries
from efficientnet_tpu.paper.paper_table import HERE, Counted, PaperTable


@dataclass(frozen=True)
class Candidate:
    """A network and all coefficients of the grid that round to it at phi = 1. The first of them name it."""

    coefficients: tuple[Coefficients, ...]
    variant: Variant
    cost: Complexity

    @property
    def name(self) -> str:
        """Returns alpha, beta and gamma as a name: '1.2-1.1-1.15'."""
        return format_coefficients(self.coefficients[0], "-")


def format_coefficients(coefficients: Coefficients, separator: str = " ") -> str:
    """Formats alpha, beta and gamma."""
    return separator.join(f"{value:g}" for value in (coefficients.alpha, coefficients.beta, coefficients.gamma))


def counted_coefficients(
    base: Variant, step: float, tolerance: float, num_classes: int, resolution_step: int
) -> Iterator[Coefficients]:
    """Yields the grid of `candidate_coefficients`, but by the networks they make and not by alpha * beta^2 * gamma^2.

    A network of few layers and channels rounds so coarsely that its cost is far from the formula's. What is yielded
    has multiply-adds within `tolerance` of twice the base's.
    """
    cost = count(scale("", base, num_classes)).multiply_adds
    for coefficients in candidate_coefficients(step, 1 - 1e-6, resolution_step):
        network = scale("", compound_variant(1.0, base, coefficients), num_classes)
        if abs(count(network).multiply_adds / cost - 2) <= tolerance:
            yield coefficients


def candidates(base: Variant, grid: Iterable[Coefficients], num_classes: int) -> list[Candidate]:
    """Returns the different networks of a grid. Candidates that round to one network need one training."""
    found: dict[object, tuple[list[Coefficients], Variant]] = {}
    for coefficients in grid:
        variant = compound_variant(1.0, base, coefficients)
        coefficients_of_network, _ = found.setdefault(scale("", variant, num_classes), ([], variant))
        coefficients_of_network.append(coefficients)
    return [
        Candidate(tuple(alike), variant, count(scale("", variant, num_classes))) for alike, variant in found.values()
    ]


def make_table(ranked: Sequence[tuple[Candidate, float]], num_missing: int, title: str) -> PaperTable:
    """Returns the table of candidates with their accuracies (0..1), in the given order, best first."""
    columns = ("alpha beta gamma", "growth", "resolution", "blocks", "multiply-adds (G)", "parameters (M)", "top-1 (%)")
    rows = tuple(
        (
            format_coefficients(candidate.coefficients[0]),
            f"{candidate.coefficients[0].growth:.3f}",
            str(candidate.variant.resolution),
            str(len(scale("", candidate.variant, NUM_IMAGENET_CLASSES).blocks)),
            Counted(candidate.cost.multiply_adds, f"{candidate.cost.multiply_adds / 1e9:.4g}"),
            Counted(candidate.cost.trainable_params, f"{candidate.cost.trainable_params / 1e6:.3f}"),
            Counted(top_1, f"{100 * top_1:.2f}"),
        )
        for candidate, top_1 in ranked
    )
    notes = []
    for candidate, _ in ranked:
        first, *others = map(format_coefficients, candidate.coefficients)
        if others:
            notes.append(f"{first} is also {', '.join(others)}, rounded")
    if num_missing:
        notes.append(f"{num_missing} more are not trained to their end.")
    if ranked:
        best = ranked[0][0].coefficients[0]
        notes.append(f"the best: {program()} scale --alpha={best.alpha:g} --beta={best.beta:g} --gamma={best.gamma:g}")
    cells = tuple((name, HERE if name == "top-1 (%)" else "") for name in columns)
    return PaperTable("grid_search", title, cells, rows, tuple(notes))


def make_figure(ranked: Sequence[tuple[Candidate, float]], title: str) -> Figure:
    """Returns the plot of accuracy over cost, with a point for each candidate."""
    points = tuple(
        (candidate.cost.multiply_adds / 1e9, 100 * top_1, candidate.name.replace("-", " "))
        for candidate, top_1 in ranked
    )
    panel = Panel("multiply-adds (billions)", "top-1 (%)", (PointSeries("alpha beta gamma", points, "points"),))
    return Figure("grid_search", title, (panel,))
