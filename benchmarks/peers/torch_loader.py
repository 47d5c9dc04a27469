"""What the PyTorch pipelines share: the DataLoader."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from peers.registry import Settings
from torch.utils.data import DataLoader, Dataset, RandomSampler


def endless_batches(
    dataset: Dataset, settings: Settings, collate: Callable[[list[Any]], Any] | None = None
) -> Iterator[torch.Tensor]:
    """Images of the batches of a DataLoader with worker processes, everything else as PyTorch has it.

    Drawn with replacement: an epoch's end, at which a DataLoader runs empty, would come every few batches of a small
    set, and comes every thousands of ImageNet.
    """
    loader = DataLoader(
        dataset,
        settings.batch_size,
        sampler=RandomSampler(dataset, replacement=True, num_samples=10**9),
        num_workers=settings.workers,
        collate_fn=collate,
        drop_last=True,
    )
    for images, _ in loader:
        yield images
