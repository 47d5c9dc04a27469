"""Photographs of a telephone's size, made of others: mosaics of 4032 x 3024 pixels with a sensor's noise, 2.7 MB each.

A folder of real ones would do as well; few people may share theirs.
"""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

WIDTH, HEIGHT = 4032, 3024
FILE_BYTES = 2_700_000
NOISE = 4.0  # standard deviation in grey levels: a small sensor's by daylight
_TILES = 4  # a side: one is as large as an ImageNet photograph when the mosaic is reduced to a quarter or an eighth
_CLASSES = 4  # folders, as the pipelines want some


def build(source_dir: str, folder: str, count: int) -> str:
    """Writes `count` mosaics of the JPEGs below `source_dir`, and returns the folder that holds them.

    folder: mosaics of an earlier call with the same arguments are taken as they are.
    """
    paths = sorted(Path(source_dir).glob("*/*.jp*g"))
    if not paths:
        raise FileNotFoundError(f"{source_dir}: no FOLDER/<class>/*.jpg there")
    place = Path(folder) / f"phone-{count}-{len(paths)}"
    generator = np.random.default_rng(0)
    noise = generator.normal(0, NOISE, (HEIGHT, WIDTH, 1)).astype(np.float32)
    for number in range(count):
        chosen = generator.choice(len(paths), _TILES**2)
        path = place / f"class{number % _CLASSES}" / f"{number:05d}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(_encoded(_mosaic([paths[index] for index in chosen], np.roll(noise, 997 * number, 1))))
        os.replace(temporary, path)
    return str(place)


def _mosaic(paths: list[Path], noise: np.ndarray) -> Image.Image:
    """Enlarges photographs to tiles, crops what does not fit, and adds noise, float32 [HEIGHT, WIDTH, 1]."""
    mosaic = Image.new("RGB", (WIDTH, HEIGHT))
    width, height = WIDTH // _TILES, HEIGHT // _TILES
    for number, path in enumerate(paths):
        tile = ImageOps.fit(Image.open(path).convert("RGB"), (width, height), Image.Resampling.BICUBIC)
        mosaic.paste(tile, (number % _TILES * width, number // _TILES * height))
    levels = np.asarray(mosaic, np.float32) + noise
    return Image.fromarray(np.clip(levels + 0.5, 0, 255).astype(np.uint8))


def _encoded(image: Image.Image) -> bytes:
    """Encodes with the highest quality that FILE_BYTES allow."""
    low, high, best = 30, 98, b""
    while low <= high:
        quality = (low + high) // 2
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= FILE_BYTES:
            low, best = quality + 1, buffer.getvalue()
        else:
            high = quality - 1
    return best
