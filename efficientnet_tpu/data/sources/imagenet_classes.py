"""The 1000 classes of ImageNet 2012 in the order of their labels: WordNet numbers, sorted, and a name for each.

imagenet_classes.txt has them. The names are the first of WordNet's words for each number, as the package timm
(Apache-2.0) lists them; four of them were made distinct: two cranes and two maillots.
"""

import os
from collections.abc import Sequence
from functools import cache

from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES

_FILE = "imagenet_classes.txt"


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Returns (WordNet number, name) of every class: ("n01440764", "tench"), ..."""
    with open(os.path.join(os.path.dirname(__file__), _FILE), encoding="utf-8") as file:
        numbers_and_names = [line.rstrip("\n").partition(" ") for line in file]
    return tuple((number, name) for number, _, name in numbers_and_names)


def imagenet_names() -> tuple[str, ...]:
    """Returns the names of the classes: tench, goldfish, ..."""
    return tuple(name for _, name in imagenet_classes())


def same_classes(names: Sequence[str], others: Sequence[str]) -> bool:
    """Tells whether two lists of label names mean the same classes in the same order."""
    return tuple(names) == tuple(others) or (are_imagenets(names) and are_imagenets(others))


def are_imagenets(label_names: Sequence[str]) -> bool:
    """Tells whether labels are ImageNet's, in any of the ways in which data sets name them.

    They are names, WordNet numbers (TFDS, folders), or 1000 numbers (shards without labels.txt).
    """
    numbers = tuple(number for number, _ in imagenet_classes())
    unnamed = tuple(f"class {index}" for index in range(NUM_IMAGENET_CLASSES))
    return tuple(label_names) in (imagenet_names(), numbers, unnamed)
