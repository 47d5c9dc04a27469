"""The first half of `predict` alone: reading, decoding and resizing files, batch by batch."""

from collections.abc import Iterator

import numpy as np
from peers.predict_ours import endless_batches, load
from peers.registry import PredictSettings


def build(settings: PredictSettings) -> tuple[str, Iterator[np.ndarray]]:
    """Nothing is classified."""
    return "prepared images", (np.asarray(batch.images) for batch in endless_batches(settings, load(settings)))
