"""Compares every augmentation operation with its oracle on photographs.

python -m tests.support.op_exactness FOLDER [COUNT] prints a table: of each operation and semantics, how many images
were compared, and how many of them differ in any bit. FOLDER holds images, in folders or not; COUNT of them (10) are
taken, at 224 x 224 and cut to 200 x 300, with every argument of the published tables.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientnet_tpu.data.augment import image_ops
from efficientnet_tpu.data.augment.operations import OPERATIONS
from tests.support import image_op_oracles as oracles
from tests.support.op_inputs import ARGUMENTS, SEMANTICS


def main(folder: str, count: str = "10") -> int:
    """Returns the exit status: 1 when an image differs."""
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chosen = files[:: max(len(files) // int(count), 1)][: int(count)]
    images = [image for path in chosen for image in _sizes(Image.open(path).convert("RGB"))]
    print(f"{len(chosen)} photographs, {len(images)} images\n\n| operation | semantics | arguments | images | differ |")
    print("|---|---|---|---|---|")
    total = 0
    for name in OPERATIONS:
        for semantics in SEMANTICS:
            differ = sum(not _is_exact(name, image, value, semantics) for image in images for value in ARGUMENTS[name])
            arguments = len(ARGUMENTS[name])
            print(f"| {name} | {semantics} | {arguments} | {arguments * len(images):,} | {differ} |", flush=True)
            total += differ
    return int(total > 0)


def _sizes(photograph: Image.Image) -> list[np.ndarray]:
    wide = photograph.resize((max(photograph.width, 300), max(photograph.height, 200)))
    return [np.asarray(photograph.resize((224, 224))), np.asarray(wide.crop((0, 0, 300, 200)))]


def _is_exact(name: str, image: np.ndarray, argument: float, semantics: str) -> bool:
    center = np.array([0.3, 0.8], np.float32)
    result = image_ops.apply(name, tf.constant(image), argument, semantics, tf.constant(center))
    return np.array_equal(result, oracles.apply(name, image, argument, semantics, center))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
