"""NVIDIA DALI on the CPU: its file reader, decoder with random crop, and automatic augmentations."""

from collections.abc import Iterator
from typing import Any

from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.auto_aug import auto_augment, rand_augment
from peers.registry import Settings

DESCRIPTIONS = {
    "autoaugment": "auto_augment_image_net",
    "randaugment": "rand_augment(2, 9 of 31)",
    "none": "none",
}


def build(settings: Settings) -> tuple[str, Iterator[Any]]:
    """uint8 [batch, size, size, 3]; bilinear."""
    return DESCRIPTIONS[settings.augment], _batches(settings)


@pipeline_def(enable_conditionals=True)
def _pipeline(settings: Settings) -> Any:
    encoded, labels = fn.readers.file(file_root=settings.data_dir, random_shuffle=True, name="reader")
    images = fn.decoders.image_random_crop(
        encoded, device="cpu", random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
    )
    images = fn.resize(images, size=[settings.size, settings.size], interp_type=types.INTERP_LINEAR)
    images = fn.flip(images, horizontal=fn.random.coin_flip())
    shape = [settings.size, settings.size]
    if settings.augment == "autoaugment":
        images = auto_augment.auto_augment_image_net(images, shape=shape)
    elif settings.augment == "randaugment":
        images = rand_augment.rand_augment(images, n=2, m=9, shape=shape)
    return images, labels


def _batches(settings: Settings) -> Iterator[Any]:
    pipeline = _pipeline(settings, batch_size=settings.batch_size, num_threads=settings.workers, device_id=None)
    pipeline.build()
    while True:
        images, _ = pipeline.run()
        yield images.as_array()  # one contiguous array, as a framework takes it
