"""The second half of `predict` alone: the network, on one batch of prepared images."""

import itertools
from collections.abc import Iterator

import numpy as np
from peers.predict_ours import endless_batches, load
from peers.registry import PredictSettings


def build(settings: PredictSettings) -> tuple[str, Iterator[np.ndarray]]:
    """No file is read after the first batch."""
    model = load(settings)
    images = next(endless_batches(settings, model)).images
    return "probabilities", (np.asarray(model.classify(images)) for _ in itertools.repeat(None))
