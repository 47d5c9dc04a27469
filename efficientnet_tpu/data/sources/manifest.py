"""A manifest: a CSV or JSON Lines file that lists image files with their labels, wherever the files are.

The columns (keys) are path, label and, if the file decides, split: train or validation. Paths are absolute, gs:// too,
or relative to the manifest. Labels are sorted by name, as numbers when all are.
"""

import csv
import itertools
import json
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from efficientnet_tpu.data.sources.labelled_files import SPLIT_WORDS, Example, LabelledFiles, sorted_names, split_of
from efficientnet_tpu.errors import UserError

EXTENSIONS = (".csv", ".jsonl")
# Names that a column may have; of several in a file the first here is taken.
_COLUMNS = {"path": ("path", "file", "filename", "image"), "label": ("label", "class"), "split": ("split",)}


class _Row(NamedTuple):
    path: str
    label: str
    split: str | None  # None: the manifest has no such column
    line: int

    def check(self, first: "_Row") -> None:
        """Raises ValueError when a value is missing or wrong; what `first` has, all must have."""
        if (self.split is None) != (first.split is None):
            found = "no split, the lines before have one" if self.split is None else "a split, the lines before none"
            raise ValueError(f"line {self.line}: has {found}.")
        if not self.path or not self.label or self.split == "":
            empty = next(column for column in _COLUMNS if getattr(self, column) == "")
            raise ValueError(f"line {self.line}: the {empty} is empty.")
        if self.split is not None and split_of(self.split) is None:
            raise ValueError(f"line {self.line}: the split is {self.split}; it must be {', '.join(SPLIT_WORDS)}.")


def is_manifest(data_dir: str) -> bool:
    """Tells by the name whether it is a manifest."""
    return data_dir.lower().endswith(EXTENSIONS)


def manifest_folder(manifest: str) -> str:
    """Returns the folder that relative paths begin in: absolute, however the manifest was named."""
    return os.path.dirname(manifest if "://" in manifest else os.path.abspath(manifest))


def read(manifest: str, validation_percent: int, minival_percent: float = 0) -> LabelledFiles:
    """Reads the images that the file lists. Without a split column, holds out `validation_percent` of them.

    Raises UserError, naming the line, for what cannot be understood. It does not check whether the images exist.
    """
    rows = sorted(_rows(manifest))
    if not rows:
        raise UserError(f"--data_dir={manifest}: lists no image. The first line names the columns path and label.")
    for row, other in itertools.pairwise(rows):
        if row.path == other.path and (row.label, row.split) != (other.label, other.split):
            first, second = (one.label if one.split is None else f"{one.label} in {one.split}" for one in (row, other))
            raise UserError(
                f"--data_dir={manifest}: lines {row.line} and {other.line} disagree on {row.path}: "
                f"{first} or {second}. An image has one label and one split."
            )
    label_names = sorted_names(row.label for row in rows)
    labels = {name: label for label, name in enumerate(label_names)}
    splits: dict[str, list[Example]] = {}
    for row in rows:
        splits.setdefault(row.split or "train", []).append((row.path, labels[row.label]))
    unexpected = {label for _, label in splits.get("validation", [])} - {label for _, label in splits.get("train", [])}
    if "train" in splits and unexpected:
        name = label_names[min(unexpected)]
        raise UserError(f"--data_dir={manifest}: the label {name} has validation images and no training image.")
    files = LabelledFiles(label_names, {name: tuple(examples) for name, examples in splits.items()})
    return files.with_held_out(manifest, manifest_folder(manifest), validation_percent, minival_percent)


def _rows(manifest: str) -> Iterator[_Row]:
    """Yields the rows of the manifest, checked one by one, paths joined to its folder."""
    import tensorflow as tf

    read_rows = _csv_rows if manifest.lower().endswith(".csv") else _json_rows
    base = manifest_folder(manifest)
    last = first = None
    try:
        with tf.io.gfile.GFile(manifest) as file:
            # Spreadsheets put a byte order mark at the start of a file.
            for row in read_rows(itertools.chain([next(file, "").removeprefix("\ufeff")], file)):
                first, last = first or row, row
                row.check(first)
                path = row.path if row.path.startswith("/") or "://" in row.path else os.path.join(base, row.path)
                split = split_of(row.split) if row.split else None
                yield _Row(path, sys.intern(row.label), split, row.line)
    except tf.errors.OpError as error:
        raise UserError(f"--data_dir={manifest}: cannot be read: {error.message}") from error
    except UnicodeDecodeError as error:
        line = last.line + 1 if last else 1
        raise UserError(f"--data_dir={manifest}: line {line} or later is not UTF-8. Save the file as that.") from error
    except ValueError as error:
        raise UserError(f"--data_dir={manifest}: {error}") from error


def _csv_rows(file: Iterator[str]) -> Iterator[_Row]:
    reader = csv.reader(file, skipinitialspace=True, strict=True)
    header = [name.strip().lower() for name in next(reader, [])]
    columns = _columns(header, "line 1: the header", header)
    path, label = header.index(columns["path"]), header.index(columns["label"])
    split = header.index(columns["split"]) if "split" in columns else None
    try:
        for values in reader:
            if not values:
                continue
            if len(values) > len(header):
                raise ValueError(
                    f"line {reader.line_num}: {len(values)} values for the {len(header)} columns of the header. Put "
                    "quotes around a value that has a comma."
                )
            values.extend([""] * (len(header) - len(values)))
            split_word = None if split is None else values[split].strip()
            yield _Row(values[path].strip(), values[label].strip(), split_word, reader.line_num)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}.") from error


def _json_rows(file: Iterator[str]) -> Iterator[_Row]:
    """Yields the rows of JSON Lines, in which a label may be a whole number."""
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ValueError(f"line {line}: is not JSON: {error}.") from error
        if not isinstance(content, dict):
            raise ValueError(f"line {line}: is not a JSON object with the keys path and label.")
        named = {name.strip().lower(): value for name, value in content.items()}
        values = {}
        for column, name in _columns(list(named), f"line {line}", list(content)).items():
            value = named[name]
            if column == "label" and type(value) is int:
                value = str(value)
            if not isinstance(value, str):
                raise ValueError(f"line {line}: the {column} is {json.dumps(value)}; it must be a text.")
            values[column] = value.strip()
        yield _Row(values["path"], values["label"], values.get("split"), line)


def _columns(names: list[str], where: str, found: list[str]) -> dict[str, str]:
    """Returns column -> its name in the file. Raises ValueError when path or label is missing."""
    columns = {}
    for column, allowed in _COLUMNS.items():
        name = next((name for name in allowed if name in names), None)
        if name is not None:
            columns[column] = name
        elif column != "split":
            raise ValueError(f"{where} has no {' or '.join(allowed)}; found: {', '.join(found) or 'nothing'}.")
    return columns
