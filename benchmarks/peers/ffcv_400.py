"""FFCV with the reduced copies that its ImageNet recipe trains on: at most 400 pixels a side, quality 90."""

from collections.abc import Iterator

import torch
from peers.ffcv_loader import batches
from peers.registry import Settings


def build(settings: Settings) -> tuple[str, Iterator[torch.Tensor]]:
    """uint8 [batch, 3, size, size]."""
    return "none; copies of 400 px, quality 90", batches(settings, max_side=400, quality=90)
