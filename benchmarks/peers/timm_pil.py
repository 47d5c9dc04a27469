"""timm: its training transform on PIL images (of Pillow or pillow-simd) and its fast_collate, DataLoader."""

from collections.abc import Iterator

import PIL
import torch
from peers.registry import Settings
from peers.torch_loader import endless_batches
from timm.data import ImageDataset, create_transform
from timm.data.loader import fast_collate

POLICIES = {"autoaugment": "original", "randaugment": "rand-m9-mstd0.5", "none": None}


def build(settings: Settings) -> tuple[str, Iterator[torch.Tensor]]:
    """uint8 [batch, 3, size, size], as timm's own loader hands it to the device, which normalises; bilinear."""
    return build_policy(settings, POLICIES[settings.augment])


def build_policy(settings: Settings, policy: str | None) -> tuple[str, Iterator[torch.Tensor]]:
    """The same with an augmentation in timm's notation."""
    transform = create_transform(
        settings.size,
        is_training=True,
        use_prefetcher=True,  # leaves normalisation to the device
        color_jitter=None,
        auto_augment=policy,
        interpolation="bilinear",
    )
    dataset = ImageDataset(settings.data_dir, transform=transform)
    return f"{policy or 'none'} (PIL {PIL.__version__})", endless_batches(dataset, settings, fast_collate)
