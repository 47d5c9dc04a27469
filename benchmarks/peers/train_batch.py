"""What the trainers train on, and the numbers of the recipe."""

import numpy as np
from peers.registry import TrainSettings

NUM_CLASSES, NUM_IMAGES = 1000, 1_281_167
LABEL_SMOOTHING, L2, MOMENTUM, RHO, EPSILON, EMA_DECAY, DROPOUT, DROP_PATH = 0.1, 1e-5, 0.9, 0.9, 1e-3, 0.9999, 0.2, 0.2


def batch(settings: TrainSettings) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [batch, size, size, 3] and int32 [batch]."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (settings.batch_size, settings.size, settings.size, 3), np.uint8)
    return images, draw.integers(0, NUM_CLASSES, settings.batch_size, np.int32)


def learning_rate(settings: TrainSettings) -> float:
    """The reference's, before any decay."""
    return 0.016 * settings.batch_size / 256
