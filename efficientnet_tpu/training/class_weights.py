"""Weights of the classes in the loss, for data in which some classes have few images: --class_weights.

The loss of an image is multiplied by the weight of its class, each part of a mixture by its own. The loss of a batch is
the sum over its images divided by their number, not by the sum of their weights: it does not depend on which images
share a batch, and the parts of a batch on devices and in micro-batches add up to it.
"""

import csv
import io
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.split import ImageData, Split
from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.texts.printable import shown

NONE, BALANCED = "none", "balanced"
_READERS = (".json", ".csv")
_LARGEST_FILE = 16 << 20  # bytes
_LARGEST_WEIGHT = 1e9  # of float32's 3e38: the sum over a batch is one too
_MOST_PRINTED = 10  # classes; of more, two are printed


def read_class_weights(flag: str, data: ImageData) -> np.ndarray | None:
    """Reads or computes --class_weights: float32 [num_classes] in the order of the labels; None for equal weights.

    Raises UserError where the numbers of images are not known, and for a file that does not fit the classes.
    """
    if flag == NONE:
        return None
    if flag == BALANCED:
        return balanced(_label_counts(data.train, len(data.label_names)), data.label_names)
    path = os.path.expanduser(flag)
    if not path.lower().endswith(_READERS):
        raise UserError(
            f"--class_weights={flag}: must be none, balanced, or a file ending in {' or '.join(_READERS)}."
            f"{nearest(flag, (NONE, BALANCED))}"
        )
    return _in_order(path, _read(path), data.label_names)


def balanced(counts: np.ndarray, label_names: Sequence[str]) -> np.ndarray:
    """Returns images / (classes * images of the class), float32 [num_classes], as scikit-learn's "balanced" weights.

    Their average over the images is 1, so that the learning rate keeps its meaning. counts: int [num_classes].
    """
    if not counts.all():
        missing = label_names[int(np.argmin(counts))]
        raise UserError(f"--class_weights=balanced: the class {shown(missing)} has no training images. Give it some.")
    return np.float32(counts.sum() / (len(counts) * counts))


def describe_class_weights(flag: str, weights: np.ndarray | None, label_names: Sequence[str]) -> str:
    """Returns a line that names the weights, of many classes the smallest and the largest; "" without weights.

    weights: float32 [num_classes].
    """
    if weights is None:
        return ""
    words = [f"{name} {weight:.3g}" for name, weight in zip(label_names, weights, strict=True)]
    if len(words) > _MOST_PRINTED:
        words = [words[int(weights.argmin())], "...", words[int(weights.argmax())]]
    return f"class weights in the loss ({flag}): {', '.join(words)}"


def _label_counts(split: Split, num_classes: int) -> np.ndarray:
    labels = split.labels()
    if labels is None:
        raise UserError(
            "--class_weights=balanced: how many images each class has is only known of a folder or a manifest, not of "
            "records before all are read. Write the weights into a file: --class_weights=FILE.json."
        )
    return np.bincount(labels.numpy(), minlength=num_classes)


def _read(path: str) -> dict[str, float]:
    """Reads a file: name of a class -> weight."""
    try:
        # A wrong path may be a file of images: refused before it is read into memory.
        if tf.io.gfile.stat(path).length > _LARGEST_FILE:
            raise ValueError(f"is larger than {_LARGEST_FILE:,} bytes")
        text = read_text(path, f"--class_weights={path}")
        pairs = _json_pairs(text) if path.lower().endswith(".json") else _csv_pairs(text)
    except tf.errors.OpError as error:
        raise UserError(f"--class_weights={path}: cannot be read: {error.message}") from error
    except UserError:  # a ValueError too
        raise
    except (ValueError, csv.Error) as error:
        raise UserError(f"--class_weights={path}: {error}. Wanted is an object or a table of names and weights.") from (
            error
        )
    weights: dict[str, float] = {}
    for name, value in pairs:
        if name in weights:
            raise UserError(f"--class_weights={path}: names the class {shown(name)} twice.")
        if not (0 < value <= _LARGEST_WEIGHT):
            raise UserError(
                f"--class_weights={path}: the weight of {shown(name)} is {value}; it must be greater than 0, and at "
                f"most {_LARGEST_WEIGHT:g}."
            )
        weights[name] = value
    return weights


def _json_pairs(text: str) -> list[tuple[str, float]]:
    content = read_json(text)
    if not isinstance(content, dict):
        raise ValueError("is not a JSON object")
    for name, value in content.items():
        # In Python a bool is an int.
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"the weight of {shown(name)} is {shown(repr(value))}, not a number")
    return [(name, float(value)) for name, value in content.items()]


def _csv_pairs(text: str) -> list[tuple[str, float]]:
    """Returns the columns label (or class) and weight."""
    head = text.partition("\n")[0]
    separator = next((one for one in ";\t" if one in head and "," not in head), ",")  # spreadsheets write all three
    rows = list(csv.reader(io.StringIO(text, newline=None), delimiter=separator, strict=True))
    names = [name.strip().lower() for name in rows[0]] if rows else []
    label = next((names.index(name) for name in ("label", "class") if name in names), None)
    if label is None or "weight" not in names:
        raise ValueError("its first line does not name the columns label and weight")
    weight = names.index("weight")
    pairs = []
    for number, row in enumerate(rows[1:], start=2):
        if row:
            try:
                pairs.append((row[label].strip(), float(row[weight])))
            except (IndexError, ValueError):
                raise ValueError(f"line {number} has no name and number") from None
    return pairs


def _in_order(path: str, weights: dict[str, float], label_names: Sequence[str]) -> np.ndarray:
    missing = [name for name in label_names if name not in weights]
    unexpected = [name for name in weights if name not in label_names]
    if missing or unexpected:
        classes = missing or unexpected
        first = shown(classes[0])
        what = f"has no weight for the class {first}" if missing else f"names {first}, which is no class"
        more = f" ({len(classes)} such)" if len(classes) > 1 else ""
        raise UserError(
            f"--class_weights={path}: {what}{more}.{nearest(classes[0], weights if missing else label_names)} "
            f"The classes are {', '.join(map(shown, label_names[:5]))}{', ...' if len(label_names) > 5 else ''}."
        )
    return np.array([weights[name] for name in label_names], np.float32)
