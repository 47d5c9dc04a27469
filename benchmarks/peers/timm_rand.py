"""timm with the RandAugment of most of its training recipes, beside whatever the others run."""

from collections.abc import Iterator

import torch
from peers.registry import Settings
from peers.timm_pil import POLICIES, build_policy


def build(settings: Settings) -> tuple[str, Iterator[torch.Tensor]]:
    """uint8 [batch, 3, size, size]; bilinear."""
    return build_policy(settings, POLICIES["randaugment"])
