"""The paper's Figures 1, 3, 4, 5 and 8 as points to draw: our own where arithmetic or a run gives them, else printed.

Figures 3, 4 and 8 print no accuracies, so only the cost of their dots can be computed. Nothing here needs TensorFlow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from efficientnet_tpu.models.architecture import Variant
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.compound_scaling import scaled_resolution
from efficientnet_tpu.paper import other_networks, published, run_results, tables
from efficientnet_tpu.paper.paper_table import Counted, PaperTable
from efficientnet_tpu.paper.run_results import RunResult
from efficientnet_tpu.paper.table_notes import TABLE_NOTES

B0 = MODELS["efficientnet-b0"]


@dataclass(frozen=True)
class PointSeries:
    """A series of points (x, y, label), drawn in one of the STYLES of `plots`.

    errors: how far each point may be off, up and down, drawn as bars; empty: not drawn.
    """

    name: str  # in the legend; "": not there
    points: tuple[tuple[float, float, str], ...]
    # curve, points, rule (what a formula says), measured (by a run here), faint (points of very many), line (through
    # many points), steps (each holds up to the next), trend (beside a line), band (the outline of an area).
    style: str = "curve"
    color: int | None = None  # series of one number have one color; None: the next
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Panel:
    """A pair of axes with its series."""

    x_label: str
    y_label: str
    series: tuple[PointSeries, ...]
    title: str = ""  # before the names of its series, where there are several panels


@dataclass(frozen=True)
class Figure:
    """A figure: panels side by side, all of the same two quantities."""

    name: str  # the name of its files, such as figure3
    title: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()


def as_table(figure: Figure) -> PaperTable:
    """Returns the figure's points as a table."""
    rows = tuple(
        (f"{panel.title}{series.name}", label, Counted(x, f"{x:.4g}"), Counted(y, f"{y:.4g}"))
        for panel in figure.panels
        for series in panel.series
        for x, y, label in series.points
    )
    panel = figure.panels[0]
    columns = (("series", ""), ("point", ""), (panel.x_label, ""), (panel.y_label, ""))
    return PaperTable(figure.name, figure.title, columns, rows, figure.notes)


def figure_1(runs: Sequence[RunResult] = ()) -> Figure:
    """Returns model size against accuracy."""
    return _cost_and_accuracy("figure1", "Figure 1: model size and ImageNet accuracy", 0, runs)


def figure_5(runs: Sequence[RunResult] = ()) -> Figure:
    """Returns multiply-adds against accuracy."""
    return _cost_and_accuracy("figure5", "Figure 5: FLOPs and ImageNet accuracy", 1, runs)


def _cost_and_accuracy(name: str, title: str, which: int, runs: Sequence[RunResult]) -> Figure:
    """Returns the figure of EfficientNets and other networks.

    which: 0 for parameters, 1 for multiply-adds.
    """
    ours, others, measurements = [], [], []
    for row in published.read_rows("table2"):
        printed = row[("params", "flops")[which]]
        if row["ours"] in MODELS:
            variant = MODELS[row["ours"]]
            cost = _count(variant)[which]
            ours.append((cost, float(row["top_1"]), row["model"].removeprefix("EfficientNet-")))
            run = run_results.find_best(runs, variant)
            measurements += [(cost, 100 * run.top_1, run.model_dir)] if run else []
        elif printed and row["model"] != "GPipe":
            value = other_networks.counts(row["ours"])[which] if row["ours"] else published.parse_number(printed)
            others.append((value / (1e6, 1e9)[which], float(row["top_1"]), row["model"]))
    label = ("parameters (millions)", "multiply-adds (billions)")[which]
    series = (
        PointSeries("EfficientNet", tuple(ours)),
        PointSeries("other networks", tuple(others), "points"),
        *_measured_series(measurements),
    )
    shown = [MODELS[row["ours"]] for row in published.read_rows("table2") if row["ours"] in MODELS]
    notes = (*TABLE_NOTES[name], *run_results.describe_runs(runs, shown))
    return Figure(name, title, (Panel(label, "ImageNet top-1 (%)", series),), notes)


def figure_3(runs: Sequence[RunResult] = ()) -> Figure:
    """Returns the cost of EfficientNet-B0 scaled in one dimension, for every dot of the figure."""
    scale = {
        "width": lambda factor: replace(B0, width_coefficient=factor),
        "depth": lambda factor: replace(B0, depth_coefficient=factor),
        "resolution": lambda factor: replace(B0, resolution=_resolution(factor)),
    }
    growth = {"width": 2, "depth": 1, "resolution": 2}
    panels, shown = [], []
    for dimension, make in scale.items():
        factors = [float(row["factor"]) for row in published.read_rows("figure3") if row["dimension"] == dimension]
        variants = [make(factor) for factor in factors]
        shown += variants
        base = _count(B0)[1]
        cost = tuple(
            (factor, _count(variant)[1], f"{dimension[0]}={factor}")
            for factor, variant in zip(factors, variants, strict=True)
        )
        power = growth[dimension]
        ideal = tuple((factor, base * factor**power, "") for factor in factors)
        law = f"B0 x {dimension[0]}{'²' if power == 2 else ''}"
        panels.append(
            Panel(
                "factor",
                "multiply-adds (billions)",
                (PointSeries("counted", cost), PointSeries(law, ideal, "rule")),
                f"{dimension}: ",
            )
        )
    notes = (*TABLE_NOTES["figure3"], *run_results.describe_runs(runs, shown))
    return Figure("figure3", "Figure 3: scaling EfficientNet-B0 in one dimension", tuple(panels), notes)


def figure_4(runs: Sequence[RunResult] = ()) -> Figure:
    """Returns the cost of scaling the width of four baselines."""
    widths = sorted({float(row["factor"]) for row in published.read_rows("figure3") if row["dimension"] == "width"})
    series, shown = [], []
    for row in published.read_rows("figure4"):
        depth, factor = float(row["depth"]), float(row["resolution"])
        name = f"d={depth}, r={factor}"
        variants = [
            replace(B0, width_coefficient=width, depth_coefficient=depth, resolution=_resolution(factor))
            for width in widths
        ]
        shown += variants
        costs = (_count(variant)[1] for variant in variants)
        series.append(PointSeries(name, tuple((width, cost, "") for width, cost in zip(widths, costs, strict=True))))
    notes = (*TABLE_NOTES["figure4"], *run_results.describe_runs(runs, shown))
    panel = Panel("width factor", "multiply-adds (billions)", tuple(series))
    return Figure("figure4", "Figure 4: scaling width for four baselines", (panel,), notes)


def _resolution(factor: float) -> int:
    """Returns the image side of a dot. "The last baseline (d=2.0, r=1.3) has 36 layers with resolution 299x299"."""
    return 299 if factor == 1.3 else scaled_resolution(B0.resolution, factor)


def figure_8(runs: Sequence[RunResult] = ()) -> Figure:
    """Returns the four points that Table 7 prints for one dimension and for all, each joined with the baseline."""
    names = ("baseline", "depth", "width", "resolution", "compound")
    rows = published.read_rows("table7")
    variants = [tables.scaled_variant(row) for row in rows]
    points = [
        (_count(variant)[1], float(row["top_1"]), name if name != "baseline" else "B0")
        for name, row, variant in zip(names, rows, variants, strict=True)
    ]
    found = [
        (point[0], run)
        for point, variant in zip(points, variants, strict=True)
        if (run := run_results.find_best(runs, variant))
    ]
    measurements = [(cost, 100 * run.top_1, run.model_dir) for cost, run in found]
    series = [PointSeries(f"scale by {point[2]}", (points[0], point)) for point in points[1:]]
    notes = (*TABLE_NOTES["figure8"], *run_results.describe_runs(runs, variants))
    panel = Panel("multiply-adds (billions)", "ImageNet top-1 (%)", (*series, *_measured_series(measurements)))
    return Figure("figure8", "Figure 8: scaling EfficientNet-B0 with different methods", (panel,), notes)


FIGURES: dict[int, Callable[[Sequence[RunResult]], Figure]] = {
    1: figure_1,
    3: figure_3,
    4: figure_4,
    5: figure_5,
    8: figure_8,
}


def _count(variant: Variant) -> tuple[float, float]:
    """Returns millions of parameters and billions of multiply-adds."""
    cost = tables.count_variant(variant)
    return cost.trainable_params / 1e6, cost.multiply_adds / 1e9


def _measured_series(points: Sequence[tuple[float, float, str]]) -> list[PointSeries]:
    return [PointSeries("measured here", tuple(points), "measured")] if points else []
