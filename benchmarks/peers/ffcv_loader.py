"""FFCV: its file of JPEGs of quality 95 with the pictures' own sizes, its decoder with random crop, and flips.

It has no AutoAugment: there it does less than the others.
"""

from collections.abc import Iterator
from typing import Any

from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip
from ffcv.writer import DatasetWriter
from peers.registry import Settings
from torchvision.datasets import ImageFolder


def build(settings: Settings) -> tuple[str, Iterator[Any]]:
    """uint8 [batch, size, size, 3]; area."""
    return "none; JPEGs of quality 95", batches(settings, None, 95)


def batches(settings: Settings, max_side: int | None, quality: int) -> Iterator[Any]:
    """Writes FFCV's file and reads it. max_side: of reduced copies; None: pictures keep their size."""
    path = f"{settings.folder}/images.beton"
    field = RGBImageField(write_mode="jpg", max_resolution=max_side, jpeg_quality=quality)
    dataset = ImageFolder(settings.data_dir)
    DatasetWriter(path, {"image": field, "label": IntField()}, num_workers=1).from_indexed_dataset(dataset)
    decoder = RandomResizedCropRGBImageDecoder((settings.size, settings.size), scale=(0.08, 1.0))
    loader = Loader(
        path,
        batch_size=settings.batch_size,
        num_workers=settings.workers,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=len(dataset) >= settings.batch_size,
        pipelines={"image": [decoder, RandomHorizontalFlip()], "label": None},
    )
    while True:
        for (images,) in loader:
            yield images
