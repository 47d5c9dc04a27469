"""timm's network under torch.compile."""

from collections.abc import Iterator

import numpy as np
import torch
from peers.infer_timm import run
from peers.registry import InferenceSettings


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """The first call compiles, for a minute or two."""
    return "torch.compile, channels last", run(settings, torch.compile)
