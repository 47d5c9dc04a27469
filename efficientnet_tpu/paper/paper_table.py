"""A table of the paper with our columns beside the printed ones: as text, CSV and HTML."""

import csv
import html
import io
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#111}"
    "table{border-collapse:collapse}th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #ddd}"
    "th{vertical-align:bottom;border-bottom:2px solid #111}th:first-child,td:first-child{text-align:left}"
    ".source{color:#555}.here{background:#eef6ee}pre{background:#f6f6f6;padding:.6rem;overflow:auto}img{max-width:100%}"
)
HERE = "here"  # under the name of a column: computed or measured by us, not printed


@dataclass(frozen=True)
class Counted:
    """A number of ours: exactly, for programs, and as it is shown beside the paper's."""

    value: float
    shown: str

    def __str__(self) -> str:
        return self.shown


@dataclass(frozen=True)
class PaperTable:
    """Columns are (what, whose): ('params', 'paper'), ('params', HERE). Cells are text or numbers of ours."""

    name: str  # of its files: table2
    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str | Counted, ...], ...]
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()  # that measure what is not measured


def as_text(table: PaperTable) -> str:
    """For the terminal: the first column to the left, the others to the right."""
    cells = [[*column] for column in table.columns]
    for row in table.rows:
        for column, cell in zip(cells, row, strict=True):
            column.append(str(cell))
    widths = [max(map(len, column)) for column in cells]
    lines = ["  ".join(_justified(row, widths)).rstrip() for row in zip(*cells, strict=True)]
    heads = [line for line in lines[:2] if line]
    lines = [*heads, "-" * max(map(len, lines)), *lines[2:]]
    return "\n".join([table.title, "", *lines, *_below(table)])


def as_csv(table: PaperTable) -> str:
    """For programs: our numbers exactly."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(f"{what} ({whose})" if whose else what for what, whose in table.columns)
    for row in table.rows:
        writer.writerow(cell.value if isinstance(cell, Counted) else cell for cell in row)
    return buffer.getvalue()


def as_html(table: PaperTable, picture: str = "") -> str:
    """A page that needs nothing else; `picture` is a PNG file in base64, put above the table."""
    heads = "".join(f"<th>{html.escape(what)}<br>{html.escape(whose)}</th>" for what, whose in table.columns)
    rows = "\n".join(f"<tr>{_html_cells(table, row)}</tr>" for row in table.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    commands = html.escape("\n".join(table.commands))
    image = f'<img alt="{html.escape(table.title)}" src="data:image/png;base64,{picture}">' if picture else ""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(table.title)}</title>'
        f"<style>{STYLE}</style>\n<h1>{html.escape(table.title)}</h1>\n{image}\n"
        f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>\n{notes}\n"
        + (f"<h2>To measure</h2><pre>{commands}</pre>\n" if commands else "")
        + "</html>\n"
    )


def _html_cells(table: PaperTable, row: Sequence[str | Counted]) -> str:
    marks = (' class="here"' if whose == HERE else "" for _, whose in table.columns)
    return "".join(f"<td{mark}>{html.escape(str(cell))}</td>" for mark, cell in zip(marks, row, strict=True))


def _justified(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def _below(table: PaperTable) -> list[str]:
    notes = itertools.chain.from_iterable(textwrap.wrap(note, 110, subsequent_indent="  ") for note in table.notes)
    commands = ["", "To measure:", *(f"  {command}" for command in table.commands)] if table.commands else []
    return ["", *notes, *commands]
