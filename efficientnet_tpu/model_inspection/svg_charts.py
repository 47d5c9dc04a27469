"""Charts as SVG that a page can hold: lines over an axis, and the reliability diagram. Colors are the page's."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from efficientnet_tpu.model_inspection.statistics import CalibrationBin
from efficientnet_tpu.texts.printable import html_text

# Variables of `display.html_page`, which are others in the dark.
COLORS = ("var(--s0)", "var(--s1)", "var(--s2)", "var(--s3)")
RULE, LINE = "var(--rule)", "var(--line)"
STYLE = """
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem;align-items:start}
.charts svg{width:100%;max-width:29rem}svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
fill:var(--faint)}svg .title{fill:var(--ink);font-weight:600;font-size:13px}
"""
WIDTH, HEIGHT = 362, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 22, 30, 44  # margins in pixels


Format = Callable[[float], str]


@dataclass(frozen=True)
class Series:
    """A named line. A point that is no finite number leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class _Axes:
    """The ranges of a chart: [low, high] of x and of y, over its inner rectangle."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = WIDTH
    height: int = HEIGHT

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        inner_width, inner_height = self.width - _LEFT - _RIGHT, self.height - _TOP - _BOTTOM
        return _LEFT + across * inner_width, self.height - _BOTTOM - up * inner_height

    def draw(self, x_name: str, title: str, x_format: Format, y_format: Format) -> list[str]:
        """Draws the grid, numbers and names."""
        parts = []
        for value in ticks(*self.y):
            (left, y), (right, _) = self.place(self.x[0], value), self.place(self.x[1], value)
            parts.append(_line(left, y, right, y, LINE))
            parts.append(_text(left - 6, y + 4, y_format(value), "end"))
        for value in ticks(*self.x):
            x, bottom = self.place(value, self.y[0])
            parts.append(_line(x, bottom, x, bottom + 4, RULE))
            parts.append(_text(x, bottom + 18, x_format(value), "middle"))
        (left, bottom), (right, _) = self.place(self.x[0], self.y[0]), self.place(self.x[1], self.y[0])
        parts.append(_line(left, bottom, right, bottom, RULE))
        parts.append(_text((left + right) / 2, self.height - 8, x_name, "middle"))
        parts.append(_text(_LEFT, 16, title, "start", "class='title'"))
        return parts


def line_chart(title: str, x_name: str, series: Sequence[Series], y_format: Format = "{:g}".format) -> str:
    """Draws lines in one chart, named in its corner; nothing where no point is a finite number."""
    points = [(x, y) for one in series for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
    if not points:
        return ""
    axes = _Axes(_range([x for x, _ in points]), _range([y for _, y in points]))
    parts = axes.draw(x_name, title, "{:g}".format, y_format)
    end = WIDTH - _RIGHT
    for number, one in reversed(list(enumerate(series))):
        color = COLORS[number % len(COLORS)]
        for piece in _pieces(zip(one.x, one.y, strict=True)):
            places = [axes.place(x, y) for x, y in piece]
            if len(places) == 1:
                parts.append(f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3" style="fill:{color}"/>')
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline points="{path}" fill="none" stroke-width="1.8" style="stroke:{color}"/>')
        if len(series) > 1:
            parts.append(_text(end, 16, one.name, "end", f"style='fill:{color};font-weight:600'"))
            end -= 8 * len(one.name) + 12
    return _svg(f"{title} over {x_name}. {'; '.join(map(_course, series))}", WIDTH, HEIGHT, parts)


def reliability_diagram(bins: Sequence[CalibrationBin]) -> str:
    """Draws accuracy over confidence, as bars beside the diagonal of perfect calibration; paler for fewer images."""
    size = 380
    axes = _Axes((0, 1), (0, 1), size + _LEFT + _RIGHT, size + _TOP + _BOTTOM)
    parts = axes.draw("confidence", "Accuracy by confidence", "{:.0%}".format, "{:.0%}".format)
    total = sum(part.images for part in bins)
    for part in bins:
        if not part.images:
            continue
        (left, top), (right, bottom) = axes.place(part.low, part.accuracy), axes.place(part.high, 0)
        words = f"confidence {part.confidence:.1%}, accuracy {part.accuracy:.1%}, {part.images:,} images"
        place = f'x="{left + 1:.1f}" y="{top:.1f}" width="{right - left - 2:.1f}" height="{bottom - top:.1f}"'
        bar = f'<rect {place} style="fill:{COLORS[0]}"><title>{html_text(words)}</title></rect>'
        share = part.images / total
        parts.append(f'<g opacity="{0.25 + 0.75 * min(1, share * len(bins)):.2f}">{bar}</g>')
    start, end = axes.place(0, 0), axes.place(1, 1)
    parts.append(_line(*start, *end, COLORS[1], "stroke-dasharray='5 4' stroke-width='1.6'"))
    return _svg("Accuracy by confidence: the table has its numbers", axes.width, axes.height, parts)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Returns round numbers (1, 2 or 5 times a power of ten apart) from low to high, about so many."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def thinned(x: Sequence[float], y: Sequence[float], points: int = 400) -> tuple[list[float], list[float]]:
    """Returns the means of equal parts in a row, so that a line has at most so many points."""
    part = -(-len(x) // points) or 1
    starts = range(0, len(x), part)
    return tuple([sum(of[i : i + part]) / len(of[i : i + part]) for i in starts] for of in (x, y))  # type: ignore[return-value]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    # Nothing drawn here is negative.
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _course(one: Series) -> str:
    """Returns where a line begins and ends, for those who do not see it."""
    finite = [y for y in one.y if math.isfinite(y)]
    return f"{one.name}: from {finite[0]:.4g} to {finite[-1]:.4g}" if finite else f"{one.name}: no number"


def _pieces(points: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Returns the stretches of finite points."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{html_text(title)}">{"".join(parts)}</svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{color}" {more}/>'


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{html_text(words)}</text>'
