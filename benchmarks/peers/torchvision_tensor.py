"""torchvision: files decoded to uint8 tensors by torchvision.io, transforms v2 on tensors, DataLoader."""

from collections.abc import Iterator

import torch
from peers.registry import Settings
from peers.torch_loader import endless_batches
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

AUGMENTATIONS = {
    "autoaugment": ("AutoAugment ImageNet", lambda: [v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)]),
    "randaugment": ("RandAugment(2, 9 of 31)", lambda: [v2.RandAugment()]),
    "none": ("none", list),
}


def build(settings: Settings) -> tuple[str, Iterator[torch.Tensor]]:
    """uint8 [batch, 3, size, size]; bilinear with antialias, torchvision's default."""
    description, make_augmentation = AUGMENTATIONS[settings.augment]
    transform = v2.Compose([v2.RandomResizedCrop(settings.size), v2.RandomHorizontalFlip(), *make_augmentation()])
    dataset = ImageFolder(settings.data_dir, transform, loader=lambda path: decode_image(path, mode=ImageReadMode.RGB))
    return description, endless_batches(dataset, settings)
