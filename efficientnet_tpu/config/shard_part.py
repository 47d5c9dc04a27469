"""The value of --shards: one machine's part of a conversion, or the last command, which verifies all parts."""

import re
from dataclasses import dataclass

VERIFY = "verify"
MOST_PARTS = 9999


@dataclass(frozen=True)
class ShardPart:
    """Part `number`, from 1 on, of `count`."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number} of {self.count}"


def read_shard_part(text: str) -> ShardPart | None:
    """Reads K/N. Returns None for an empty text and for `verify`. Raises ValueError, which says what it must be."""
    if text in ("", VERIFY):
        return None
    found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text, re.ASCII)
    if not found:
        raise ValueError("K/N, as 2/8: part 2 of 8, each written by a machine; or verify, when all parts are written.")
    part = ShardPart(int(found[1]), int(found[2]))
    if not 1 <= part.count <= MOST_PARTS:
        raise ValueError(f"K/N with N from 1 to {MOST_PARTS:,}.")
    if not 1 <= part.number <= part.count:
        raise ValueError(f"K/N with K from 1 to N: 1/{part.count} to {part.count}/{part.count}.")
    return part
