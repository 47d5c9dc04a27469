"""FFCV on its usual reduced copies: at most 400 pixels a side, quality 90."""

from collections.abc import Iterator
from typing import Any

from peers.ffcv_loader import batches
from peers.registry import Settings


def build(settings: Settings) -> tuple[str, Iterator[Any]]:
    """uint8 [batch, size, size, 3]; area."""
    return "none; copies of 400 pixels, quality 90", batches(settings, 400, 90)
