"""FFCV: its file of JPEGs, which it encodes anew, its decoder with random crop, and flip. It has no AutoAugment."""

from collections.abc import Iterator
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from peers.registry import Settings
from torchvision.datasets import ImageFolder

_EPOCHS = 1000  # in one: at an epoch's end, of a small set every few batches, its queues run empty


def build(settings: Settings) -> tuple[str, Iterator[torch.Tensor]]:
    """uint8 [batch, 3, size, size]; pictures of their own size, quality 95."""
    return "none; copies, quality 95", batches(settings, max_side=None, quality=95)


def batches(settings: Settings, max_side: int | None, quality: int) -> Iterator[torch.Tensor]:
    """Writes the file, whose longer sides have at most `max_side` pixels, and gives endless batches of it."""
    images = ImageFolder(settings.data_dir)
    with TemporaryDirectory() as folder:
        path = f"{folder}/images.beton"
        field = RGBImageField(write_mode="jpg", max_resolution=max_side, jpeg_quality=quality)
        writer = DatasetWriter(path, {"image": field, "label": IntField()}, num_workers=settings.workers)
        writer.from_indexed_dataset(images)
        size = (settings.size, settings.size)
        loader = Loader(
            path,
            settings.batch_size,
            num_workers=settings.workers,
            os_cache=True,
            order=OrderOption.RANDOM,
            indices=np.tile(np.arange(len(images)), _EPOCHS),
            pipelines={
                "image": [RandomResizedCropRGBImageDecoder(size), RandomHorizontalFlip(), ToTensor(), ToTorchImage()],
                "label": [IntDecoder(), ToTensor()],
            },
        )
        turns = iter(loader)
        yield next(turns)[0]  # what it has mapped stays when the folder is gone
    for pixels, _ in turns:
        yield pixels
