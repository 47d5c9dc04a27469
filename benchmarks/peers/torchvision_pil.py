"""torchvision: ImageFolder's own loader (PIL), transforms on PIL images, DataLoader."""

from collections.abc import Iterator

import torch
from peers.registry import Settings
from peers.torch_loader import endless_batches
from peers.torchvision_tensor import AUGMENTATIONS
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


def build(settings: Settings) -> tuple[str, Iterator[torch.Tensor]]:
    """uint8 [batch, 3, size, size]; bilinear."""
    description, make_augmentation = AUGMENTATIONS[settings.augment]
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(settings.size),
            v2.RandomHorizontalFlip(),
            *make_augmentation(),
            v2.PILToTensor(),
        ]
    )
    return description, endless_batches(ImageFolder(settings.data_dir, transform), settings)
