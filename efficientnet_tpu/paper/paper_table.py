"""A table of the paper with our columns beside the printed ones, as text, CSV and HTML."""

import itertools
import textwrap
from dataclasses import dataclass

from efficientnet_tpu.display.html_page import data_uri, document, html, scrolled
from efficientnet_tpu.texts.csv_text import csv_text
from efficientnet_tpu.texts.printable import html_text

PAPER, HERE = "paper", "here"  # the origin of a column: printed, or computed or measured by us


@dataclass(frozen=True)
class Counted:
    """A number of ours: its exact value for programs, and its text beside the paper's."""

    value: float
    shown: str

    def __str__(self) -> str:
        return self.shown


@dataclass(frozen=True)
class PaperTable:
    """A table.

    name: the name of its files, such as table2.
    columns: (quantity, origin): ('params', 'paper'), ('params', HERE).
    rows: cells are text or numbers of ours.
    commands: commands that train the networks that no run has measured.
    """

    name: str
    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str | Counted, ...], ...]
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def as_text(table: PaperTable) -> str:
    """Formats the table for the terminal, the first column aligned to the left and the others to the right."""
    cells = [[*column] for column in table.columns]
    for row in table.rows:
        for column, cell in zip(cells, row, strict=True):
            column.append(str(cell))
    widths = [max(map(len, column)) for column in cells]
    lines = []
    for first, *others in zip(*cells, strict=True):
        justified = [first.ljust(widths[0]), *(cell.rjust(n) for cell, n in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(justified).rstrip())
    heads = [line for line in lines[:2] if line]
    lines = [*heads, "-" * max(map(len, lines)), *lines[2:]]
    notes = itertools.chain.from_iterable(textwrap.wrap(note, 110, subsequent_indent="  ") for note in table.notes)
    commands = ["", "To measure:", *(f"  {command}" for command in table.commands)] if table.commands else []
    return "\n".join([table.title, "", *lines, "", *notes, *commands])


def as_csv(table: PaperTable) -> str:
    """Formats the table for programs, with our numbers exactly."""
    heads = [f"{quantity} ({origin})" if origin else quantity for quantity, origin in table.columns]
    rows = [[cell.value if isinstance(cell, Counted) else cell for cell in row] for row in table.rows]
    return csv_text([heads, *rows])


def as_html(table: PaperTable, picture: bytes = b"") -> str:
    """Formats the table as a page that needs no other file. picture: a PNG file, shown above the table."""
    commands = "\n".join(map(html_text, table.commands))
    title = html_text(table.title)
    image = f'<p><img class="plot" alt="{title}: the table has its numbers" src="{data_uri(picture)}"></p>'
    return document(
        table.title,
        f"<main><h1>{title}</h1>\n{image if picture else ''}\n{html_table(table)}"
        + (f"\n<h2>To measure</h2><pre>{commands}</pre>" if commands else "")
        + "</main>",
    )


def html_table(table: PaperTable) -> str:
    """Formats the table and its notes as a part of a page."""
    marks = [' class="here"' if origin == HERE else "" for _, origin in table.columns]
    heads = "".join(
        f'<th scope="col"{mark}>{html(quantity)}<br>{html_text(origin)}</th>'
        for mark, (quantity, origin) in zip(marks, table.columns, strict=True)
    )
    lines = []
    for first, *others in table.rows:
        cells = zip(marks[1:], others, strict=True)
        numbers = "".join(f"<td{mark}>{html(str(cell))}</td>" for mark, cell in cells)
        lines.append(f'<tr><th scope="row"{marks[0]}>{html(str(first))}</th>{numbers}</tr>')
    notes = "".join(f"<p>{html_text(note)}</p>" for note in table.notes)
    body = f"<thead><tr>{heads}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>"
    return f"{scrolled(f'<table>{body}</table>', table.title)}\n{notes}"
