"""Image files with labels, in splits, as a folder or a manifest gives them, and the holding out of splits not given.

A hash of the name decides, so that an image stays in its split when others come or go.
"""

import hashlib
import zlib
from dataclasses import dataclass, field

import numpy as np

from efficientnet_tpu.errors import UserError

Example = tuple[str, int]  # path and 0-based label


@dataclass(frozen=True)
class LabelledFiles:
    """Class names in the order of the labels, and the sorted examples of the splits train, validation and, if asked
    for, minival. `left_out`: what was found and not taken, such as {".txt": 3}.
    """

    label_names: tuple[str, ...]
    splits: dict[str, tuple[Example, ...]]
    left_out: dict[str, int] = field(default_factory=dict)

    def left_out_line(self) -> str:
        """Returns 'left out: 1 .heic, 3 .txt', or nothing when nothing was."""
        counts = [f"{count:,} {what}" for what, count in self.left_out.items()]
        return f"left out: {', '.join(counts)}" if counts else ""


def hold_out_splits(
    splits: dict[str, tuple[Example, ...]], data_dir: str, base: str, validation_percent: int, minival_percent: float
) -> dict[str, tuple[Example, ...]]:
    """Adds what `splits` lack, a validation split and if asked for a minival split, out of the training images.

    The names that decide are the paths below the folder `base`. Raises UserError, naming `data_dir`, when no class has
    an image to spare.
    """

    def name_of(path: str) -> bytes:
        return path.removeprefix(base.rstrip("/") + "/").encode()

    def minival_hash(name: bytes) -> float:
        """Returns 0..100, independent of the other hash, which has chosen before."""
        return 100 * int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64

    splits, asked = dict(splits), []
    if "validation" not in splits:
        asked.append(("validation", validation_percent, lambda name: zlib.crc32(name) % 100, "validate on"))
    if minival_percent:
        asked.append(("minival", minival_percent, minival_hash, "hold out by --minival_percent"))
    for split, percent, hash_of, purpose in asked:
        examples = splits["train"]
        held_out = _held_out(examples, np.array([hash_of(name_of(path)) for path, _ in examples]), percent)
        if not held_out.any():
            raise UserError(
                f"--data_dir={data_dir}: {len(examples)} images, one of each class, leave none to {purpose}. Add "
                "images to the classes."
            )
        splits["train"] = tuple(example for example, out in zip(examples, held_out, strict=True) if not out)
        splits[split] = tuple(example for example, out in zip(examples, held_out, strict=True) if out)
    return splits


def _held_out(examples: tuple[Example, ...], hashes: np.ndarray, percent: float) -> np.ndarray:
    """Decides which examples to hold out, bool [examples]: those whose hash is below `percent`, but at least one of
    every class and never a class's last; of a class too small for the hash to decide, the image that it would take
    first.
    """
    labels = np.array([label for _, label in examples])
    by_class = np.lexsort((hashes, labels))  # stable: equal hashes in the order of the examples
    sizes = np.bincount(labels)
    below = np.bincount(labels, weights=hashes < percent).astype(int)
    chosen = np.minimum(np.maximum(below, 1), sizes - 1)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its class
    held_out = np.zeros(len(labels), bool)
    held_out[by_class] = rank < np.repeat(chosen, sizes)
    return held_out
