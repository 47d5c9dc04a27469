"""CSV for programs and spreadsheets: no cell begins a formula, and every row is one line."""

import csv
import io
import re
from collections.abc import Iterable

from efficientnet_tpu.texts.printable import escaped

# What Excel, LibreOffice and Google Sheets take for a formula's beginning: at the start of a cell, and behind another
# separator than the comma, at which they part a cell where the machine's region has that one.
_FORMULA = re.compile(r"""((?:^|[;|])[\s"']*)([=+\-@\uff1d\uff0b\uff0d\uff20])""")
_NUMBER = re.compile(r"[+-]?[\d.,]*(e[+-]?\d+)?%?", re.ASCII | re.IGNORECASE)  # and a lone sign, for no value


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Returns rows as CSV. A text in which a formula would begin has an apostrophe before it there."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(list(map(_cell, row)) for row in rows)
    return buffer.getvalue()


def begins_formula(text: str) -> bool:
    """Returns whether a spreadsheet would take a text, or a part of it, for a formula."""
    return not _NUMBER.fullmatch(text) and bool(_FORMULA.search(escaped(text)))


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    return _FORMULA.sub(r"\1'\2", escaped(value)) if begins_formula(value) else escaped(value)
