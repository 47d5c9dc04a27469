"""Matching of two lists of classes by name: those of a data set with those that a run or an import has learned.

A label is a place in a list, and lists of the same classes have other orders and spellings: folders are sorted, as text
or as numbers, labels.txt comes as it was written, and ImageNet's classes have WordNet numbers or words.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence

from efficientnet_tpu.data.sources.imagenet_classes import (
    are_imagenets,
    imagenet_classes,
    imagenet_names,
    same_classes,
)
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts.printable import shown

_SHOWN = 3  # names of each side in a message
_USE_OTHERS = "Use that data, or another --model_dir."
_WORDNET_NUMBER = re.compile(r"n\d{8}(?!\d)")


def match_classes(names: Sequence[str], known: Sequence[str]) -> tuple[int | None, ...]:
    """Returns for each of the classes `names` its label among the classes `known`; None for a class that is not there.

    Names are the same whose letters are, however Unicode composes them. Where all are numbers, 01 is 1. Where all of
    `known` are ImageNet's, a class may be called by its WordNet number or by its name. The reading by which most are
    found is taken for all of them, the plainest first.
    """
    if same_classes(names, known):
        return tuple(range(len(names)))
    # Records of ImageNet may have no names: their 1000 classes are ImageNet's in its order.
    named = imagenet_names() if are_imagenets(known) else known
    readings = (
        _matched(names, among, key) for among, key in ((known, _letters), (known, _number), (named, _imagenet_label))
    )
    return max(readings, key=lambda labels: len(labels) - labels.count(None))


def require_all(source: str, names: Sequence[str], run: str, known: Sequence[str]) -> tuple[int, ...]:
    """Returns the labels of `match_classes`. Raises UserError, with the names that differ, unless all are known.

    source, run: the flags that named the data and the run, with their values.
    """
    labels = match_classes(names, known)
    if None in labels:
        unknown = [name for name, label in zip(names, labels, strict=True) if label is None]
        advice = _USE_OTHERS
        if all(re.fullmatch(r"class \d+", name) for name in unknown):
            advice = "Records without names of classes take a labels.txt beside them: a name a line, by label."
        raise UserError(f"{source}: {_differences(unknown, names, labels, run, known)}. {advice}")
    return tuple(label for label in labels if label is not None)


def require_same(source: str, names: Sequence[str], run: str, known: Sequence[str]) -> tuple[int, ...]:
    """Returns the labels as `require_all`, and refuses data too that lack a class which is known."""
    labels = require_all(source, names, run, known)
    missing = [name for label, name in enumerate(known) if label not in labels]
    if missing:
        raise UserError(
            f"{source}: has {len(names):,} of the {len(known):,} classes of the run in {run}, and lacks "
            f"{_listed(missing)}. {_USE_OTHERS}"
        )
    return labels


def are_numbers(names: Sequence[str]) -> bool:
    """Tells whether classes have numbers in place of names, as 7, or "class 7" of records without names."""
    return all(_number(name.removeprefix("class ")) is not None for name in names)


def _differences(
    unknown: Sequence[str], names: Sequence[str], labels: Sequence[int | None], run: str, known: Sequence[str]
) -> str:
    others = [name for label, name in enumerate(known) if label not in labels]
    more = f", which also has {_listed(others)}" if others else ""
    return (
        f"{len(unknown):,} of its {len(names):,} classes ({_listed(unknown)}) are not among the {len(known):,} of the "
        f"run in {run}{more}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:_SHOWN])) + (f", ... ({len(names):,})" if len(names) > _SHOWN else "")


def _matched(
    names: Sequence[str], known: Sequence[str], key: Callable[[str], Hashable | None]
) -> tuple[int | None, ...]:
    """Matches by what `key` makes of a name, None where it makes nothing of it."""
    places = {key(name): label for label, name in enumerate(known)}
    labels = tuple(places.get(key(name)) for name in names)
    found = [label for label in labels if label is not None]
    # Classes that a reading does not tell apart, of either side, are not matched by it.
    if None in places or len(places) < len(known) or len(set(found)) < len(found):
        return (None,) * len(names)
    return labels


def _letters(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _number(name: str) -> float | None:
    return float(name) if re.fullmatch(r"-?\d+(\.\d+)?", name, re.ASCII) else None


def _imagenet_label(name: str) -> int | None:
    """Returns ImageNet's label for n01440764, "n01440764 tench", tench, Tench, great_white_shark or "tench, Tinca"."""
    number = _WORDNET_NUMBER.match(name)
    if number:
        return _imagenet_labels().get(number[0])
    words = name.replace("_", " ")
    first = words.partition(",")[0]
    spellings = (words, first, words.casefold(), first.casefold())
    return next((label for spelling in spellings if (label := _imagenet_labels().get(spelling)) is not None), None)


@functools.cache
def _imagenet_labels() -> dict[str, int]:
    labels = {number: label for label, (number, _) in enumerate(imagenet_classes())}
    labels |= {name: label for label, name in enumerate(imagenet_names())}
    small = [name.casefold() for name in imagenet_names()]
    # In small letters the dog Cardigan is the garment.
    return {name: label for label, name in enumerate(small) if small.count(name) == 1} | labels
