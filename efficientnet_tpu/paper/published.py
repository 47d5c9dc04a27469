"""The paper's tables and figures as data: `paper_tables/*.csv`, as printed, each with its source in the first line."""

import csv
import functools
import re
from pathlib import Path

_DIRECTORY = Path(__file__).parent / "paper_tables"
_UNITS = {"": 1.0, "M": 1e6, "B": 1e9, "x": 1.0}


@functools.cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of `table2` or `figure3`, by column; what the paper leaves empty is empty."""
    with open(_DIRECTORY / f"{name}.csv", encoding="utf-8") as file:
        file.readline()
        return tuple(csv.DictReader(file))


def source(name: str) -> str:
    """Where the rows were printed, in words."""
    with open(_DIRECTORY / f"{name}.csv", encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def number(printed: str) -> float:
    """'0.39B' -> 0.39e9, '5.3M' -> 5.3e6, '11x' -> 11."""
    digits, unit = _parts(printed)
    return float(digits) * _UNITS[unit]


def like(value: float, printed: str) -> str:
    """A value with the unit and the decimals of what is printed beside it: like(385814752, '0.39B') = '0.39B'."""
    digits, unit = _parts(printed)
    decimals = len(digits.partition(".")[2])
    return f"{value / _UNITS[unit]:.{decimals}f}{unit}"


def difference(value: float, printed: str) -> str:
    """'' where a value, rounded like the printed one, is it; else by how much it differs: '+4.6%'."""
    return "" if like(value, printed) == printed else f"{value / number(printed) - 1:+.1%}"


def _parts(printed: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MBx]?)", printed)
    if not match:
        raise ValueError(f"{printed}: not a number as the paper prints them")
    return match[1], match[2]
