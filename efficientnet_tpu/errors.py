"""The errors that a user can mend, and suggestions for names that were mistyped."""

import difflib
from collections.abc import Iterable

_LONGEST_NAME = 100


class UserError(ValueError):
    """Something the user typed, or a file of theirs, is wrong; the message says what, and what to do instead."""

    exit_status = 2


class DivergedError(UserError):
    """A training whose loss or weights became infinite. A program that runs many tells it by the exit status."""

    exit_status = 3


def nearest(name: str, names: Iterable[str]) -> str:
    """' Did you mean X?' for the closest of `names`, or nothing when none is close."""
    if len(name) > _LONGEST_NAME:  # the search takes the square of its length
        return ""
    names = [other for other in names if len(other) <= _LONGEST_NAME]
    part = [other for other in names if len(name) > 1 and (other.startswith(name) or other.endswith(f"-{name}"))]
    matches = part or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f" Did you mean {matches[0]}?" if matches else ""
