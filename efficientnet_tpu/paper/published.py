"""The paper's printed tables and figures: `paper_tables/*.csv`, each with its source in the first line."""

import csv
import functools
import re
from pathlib import Path

_DIRECTORY = Path(__file__).parent / "paper_tables"
_UNITS = {"": 1.0, "M": 1e6, "B": 1e9, "x": 1.0}


@functools.cache
def read_rows(name: str) -> tuple[dict[str, str], ...]:
    """Returns the rows of a file such as `table2` or `figure3` by column; cells may be empty."""
    with open(_DIRECTORY / f"{name}.csv", encoding="utf-8") as file:
        file.readline()
        return tuple(csv.DictReader(file))


def read_source(name: str) -> str:
    """Returns where the rows were printed, in words."""
    with open(_DIRECTORY / f"{name}.csv", encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def parse_number(printed: str) -> float:
    """Parses a printed number: '0.39B' -> 0.39e9, '5.3M' -> 5.3e6, '11x' -> 11."""
    digits, unit = _split_unit(printed)
    return float(digits) * _UNITS[unit]


def format_like(value: float, printed: str) -> str:
    """Formats a value with the unit and decimals of a printed one: format_like(385814752, '0.39B') = '0.39B'."""
    digits, unit = _split_unit(printed)
    decimals = len(digits.partition(".")[2])
    return f"{value / _UNITS[unit]:.{decimals}f}{unit}"


def describe_difference(value: float, printed: str) -> str:
    """Returns the relative difference, such as '+4.6%', or '' if the value rounds to the printed one."""
    return "" if format_like(value, printed) == printed else f"{value / parse_number(printed) - 1:+.1%}"


def _split_unit(printed: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MBx]?)", printed)
    if not match:
        raise ValueError(f"{printed}: not a number as the paper prints them")
    return match[1], match[2]
