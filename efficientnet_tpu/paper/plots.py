"""Draws the paper's figures and tables as PNG files. The module is imported only for pictures."""

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from efficientnet_tpu.display.plotting import png, with_letters
from efficientnet_tpu.paper.figures import Figure, Panel
from efficientnet_tpu.paper.paper_table import HERE, PaperTable

DPI = 150
STYLES = {
    "curve": {"marker": "o", "markersize": 4},
    "points": {"marker": "o", "markersize": 4, "linestyle": ""},
    "rule": {"linestyle": "--", "color": "#999999"},
    "measured": {"marker": "*", "markersize": 11, "linestyle": ""},
    "faint": {"marker": "o", "markersize": 3.5, "markeredgewidth": 0, "linestyle": "", "alpha": 0.3},
    "line": {"linewidth": 2},
    "steps": {"linewidth": 1.5, "color": "#222222", "drawstyle": "steps-post"},
    "trend": {"linewidth": 1, "linestyle": ":"},
    "band": {"linewidth": 0, "alpha": 0.18},
}
# Places of a label beside its point, best first: (across, up) in points, and the side of the label at that place.
PLACES = (((5, -9), "left"), ((5, 4), "left"), ((-5, 4), "right"), ((-5, -9), "right"), ((5, -17), "left"))


def figure_png(figure: Figure) -> bytes:
    """Returns a PNG file with the figure's panels side by side."""
    count = len(figure.panels)
    canvas = Canvas(figsize=(7.5 if count == 1 else 4.2 * count, 5), dpi=DPI, layout="constrained")
    canvas.suptitle(figure.title)
    for axes, panel in zip(canvas.subplots(1, count, squeeze=False)[0], figure.panels, strict=True):
        for series in panel.series:
            xs, ys = [x for x, _, _ in series.points], [y for _, y, _ in series.points]
            style: dict[str, Any] = {
                "label": f"{panel.title}{series.name}" if series.name else "",
                **STYLES[series.style],
            }
            if series.color is not None:
                style["color"] = f"C{series.color}"
            if series.errors:
                axes.errorbar(xs, ys, series.errors, capsize=3, elinewidth=1, **style)
            elif series.style == "band":
                axes.fill(xs, ys, **style)
            else:
                axes.plot(xs, ys, **style)
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        axes.margins(x=0.12, y=0.08)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    with_letters(canvas).draw_without_rendering()  # a label's place depends on the final positions
    for axes, panel in zip(canvas.axes, figure.panels, strict=True):
        _label(axes, panel)
    return png(canvas)


def _label(axes: Axes, panel: Panel) -> None:
    """Writes the label of each point once, where it covers no other label, as far as PLACES allow."""
    taken = [axes.get_legend().get_window_extent()]
    points = dict.fromkeys(point for series in panel.series for point in series.points if point[2])
    for x, y, label in points:
        for offset, side in PLACES:
            text = axes.annotate(
                label, (x, y), xytext=offset, textcoords="offset points", ha=side, fontsize=7, color="#444444"
            )
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken) or (offset, side) == PLACES[-1]:
                taken.append(box)
                break
            text.remove()


def table_png(table: PaperTable) -> bytes:
    """Returns a PNG file with the table and its notes. Columns of ours are shaded."""
    heads = [f"{quantity}\n{origin}" for quantity, origin in table.columns]
    cells = [[str(cell) for cell in row] for row in table.rows]
    widths = [
        max(len(line) for text in (head, *column) for line in text.split("\n")) + 2
        for head, column in zip(heads, zip(*cells, strict=True), strict=True)
    ]
    # Inches: a letter of 9 points is about 0.075 wide, a row 0.24 high.
    width, height = 0.075 * sum(widths), 0.24 * (len(cells) + 2)
    canvas = Canvas(figsize=(width, height), dpi=DPI)
    axes = canvas.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set_title(table.title, loc="left", fontsize=11)
    share = [column / sum(widths) for column in widths]
    grid = axes.table(cells, colLabels=heads, colWidths=share, loc="upper left", cellLoc="right")
    grid.auto_set_font_size(False)
    grid.set_fontsize(9)
    for (row, column), cell in grid.get_celld().items():
        cell.set_height((2 if row == 0 else 1) / (len(cells) + 2))
        cell.set_edgecolor("#cccccc")
        if column == 0:
            cell.set_text_props(ha="left")
            cell.PAD = 0.7 / widths[0]
        if table.columns[column][1] == HERE:
            cell.set_facecolor("#eef6ee")
    notes = "\n".join(line for note in table.notes for line in textwrap.wrap(note, int(1.3 * sum(widths))))
    axes.text(0, -0.03, notes, va="top", fontsize=8, color="#444444", transform=axes.transAxes)
    return png(canvas)
