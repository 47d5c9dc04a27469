"""The images that every runtime is given, and the network of timm's."""

import numpy as np
from peers.registry import InferenceSettings


def images(settings: InferenceSettings) -> np.ndarray:
    """uint8 [batch, size, size, 3]."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (settings.batch_size, settings.size, settings.size, 3), np.uint8)


def normalised(settings: InferenceSettings) -> np.ndarray:
    """float32 [batch, 3, size, size], for networks that leave normalising to others: it is not counted."""
    return np.ascontiguousarray((images(settings).transpose(0, 3, 1, 2).astype(np.float32) - 120) / 58)
