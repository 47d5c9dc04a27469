"""The rows of a list of images: CSV with any usual separator, or JSON Lines; columns as many programs call them.

Needs a path and a label in each row, and takes a split. A label may also be spread over columns with a 1 in one of
them, as Roboflow and some competitions write it.
"""

import csv
import io
import itertools
import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from efficientnet_tpu.data.sources.labelled_files import SPLIT_WORDS, split_of
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.texts.printable import shown

EXTENSIONS = (".csv", ".tsv", ".jsonl")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# Names that a column may have, in small letters without spaces and underscores; of several the first here is taken.
_COLUMNS = {
    "path": (
        "path", "paths", "file", "filename", "filenames", "filepath", "filepaths", "image", "images", "imagepath",
        "imagefile", "imagename", "imageid", "img", "imgpath", "imgname", "imgid", "photo", "picture", "photoid", "id",
    ),
    "label": (
        "label", "class", "category", "labelname", "classname", "categoryname", "target", "labels", "classes",
        "targets", "categories", "labelid", "classid", "categoryid", "predictionstring",
    ),
    "split": ("split", "splits", "set", "subset", "partition", "dataset"),
}  # fmt: skip
_SURE_SPLITS = ("split", "splits")  # the others are splits only where the first row has a word for one
_ILSVRC_BOXES = "predictionstring"  # of Kaggle's ImageNet: n01978287 85 1 499 272
_LARGEST = 4 << 30  # bytes of a list: some 40 million images
_LONGEST_PATH = 4096  # Linux's
_ZERO_OR_ONE = re.compile(r"[01](\.0*)?")


class Row(NamedTuple):
    """A row: an image's path as it is written, its label, and its split if the list names splits."""

    path: str
    label: str
    split: str | None
    line: int

    def check(self, first: "Row") -> None:
        """Raises ValueError when a value is missing or wrong; what `first` has, all must have."""
        if (self.split is None) != (first.split is None):
            found = "no split, the lines before have one" if self.split is None else "a split, the lines before none"
            raise ValueError(f"line {self.line}: has {found}.")
        if self.split and split_of(self.split) is None:
            words = ", ".join(SPLIT_WORDS)
            raise ValueError(f"line {self.line}: the split is {shown(self.split)}; it must be {words}.")
        if not self.path or self.split == "" or (not self.label and self.in_split != "test"):
            empty = next(column for column in _COLUMNS if getattr(self, column) == "")
            raise ValueError(f"line {self.line}: the {empty} is empty.")
        if len(self.path) > _LONGEST_PATH or "\0" in self.path:
            raise ValueError(f"line {self.line}: the path is {shown(self.path)}, which no file can be called.")

    @property
    def in_split(self) -> str:
        """Returns the split: train, validation or test. What a list does not split, training may use."""
        return split_of(self.split or "") or "train"

    @property
    def class_name(self) -> str:
        """Returns the label in composed Unicode, as the names of class folders."""
        return self.label if self.label.isascii() else unicodedata.normalize("NFC", self.label)


def require_one_label(named: str, rows: Sequence[Row]) -> None:
    """Raises UserError for an image with two labels or in two splits. rows: sorted by their paths."""
    for row, other in itertools.pairwise(rows):
        if row.path == other.path and (row.class_name, row.in_split) != (other.class_name, other.in_split):
            first, second = (one.label if one.split is None else f"{one.label} in {one.split}" for one in (row, other))
            raise UserError(
                f"{named}: lines {row.line} and {other.line} disagree on {shown(row.path)}: {shown(first)} or "
                f"{shown(second)}. An image has one label and one split."
            )


def read(path: str, named: str, has_header: bool = True) -> list[Row]:
    """Reads a list, each row checked. has_header: otherwise the columns are path, label and others, with tabs between.

    named: how messages begin. Raises UserError, naming the line, for what cannot be understood.
    """
    text = read_text(path, named, _LARGEST)
    try:
        is_json = path.lower().endswith(".jsonl")
        rows = list(_json_rows(text) if is_json else _csv_rows(text, has_header))
        for row in rows:
            row.check(rows[0])
    except ValueError as error:
        raise UserError(f"{named}: {error}") from error
    return rows


@dataclass(frozen=True)
class _Columns:
    """The columns of a list by their names in it. classes: those of which one has a 1, in place of a label. has_boxes:
    numbers stand behind a label.
    """

    path: str
    label: str | None
    split: str | None
    classes: tuple[str, ...]
    has_boxes: bool

    @classmethod
    def find(cls, names: Sequence[str], first: Mapping[str, object], where: str) -> "_Columns":
        """Finds them among names; first: the first row's values. Raises ValueError when path or label is missing."""
        by_word = {_word(name): name for name in reversed(names) if name.strip()}
        path, label, split = (
            next((by_word[word] for word in words if word in by_word), None) for words in _COLUMNS.values()
        )
        if split and _word(split) not in _SURE_SPLITS and split_of(str(first.get(split, "")).strip()) is None:
            split = None
        others = [name for name in names if name.strip() and name not in (path, split)]
        classes: tuple[str, ...] = ()
        if path and not label:
            ones = [name for name in others if _ZERO_OR_ONE.fullmatch(str(first.get(name, "")).strip())]
            if len(others) == 1:
                label = others[0]  # image_id and breed, say
            elif others and ones == others:
                classes = tuple(others)
        if not path or not (label or classes):
            missing = "path (or file, filename, image, image_id)" if not path else "label (or class, category, target)"
            found = shown(", ".join(map(str, names)) or "nothing")
            raise ValueError(f"{where} has no column {missing}; found: {found}. Name the columns path and label.")
        return cls(path, label, split, classes, label is not None and _word(label) == _ILSVRC_BOXES)

    def row(self, values: Mapping[str, str], line: int) -> Row:
        """Returns the row that a line's values are. Raises ValueError when not one class is marked."""
        split = None if self.split is None else values[self.split]
        if self.label is not None:
            label = values[self.label]
            label = label.partition(" ")[0] if self.has_boxes else label
        else:
            marked = [name for name in self.classes if values[name].rstrip("0").rstrip(".") == "1"]
            if len(marked) != 1:
                raise ValueError(
                    f"line {line}: {len(marked)} classes have a 1 ({shown(', '.join(marked))}); wanted is one."
                )
            label = marked[0].strip()
        return Row(values[self.path], sys.intern(label), split, line)


def _word(name: str) -> str:
    """Returns a column's name as in _COLUMNS."""
    return re.sub(r"[\s_-]", "", str(name)).lower()


def _separator(head: str) -> str:
    """Returns the separator between the names of a header: the one that makes a path of one of them."""
    for separator in _SEPARATORS:
        names = {_word(name.strip().strip('"')) for name in head.split(separator)}
        if len(names) > 1 and not names.isdisjoint(_COLUMNS["path"]):
            return separator
    return ","


def _csv_rows(text: str, has_header: bool) -> Iterator[Row]:
    """Yields the rows of CSV."""
    head, _, rest = text.partition("\n")
    tells = has_header and head.lower().startswith("sep=")  # a line for Excel, before the header
    separator = _separator(rest.partition("\n")[0] if tells else head) if has_header else "\t"
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        if tells:
            next(reader)
        header = [name.strip() for name in next(reader, [])] if has_header else ["path", "label"]
        rows = ((reader.line_num, values) for values in reader if any(values))
        first = next(rows, None)
        example = dict(zip(header, first[1], strict=False)) if first else {}
        columns = _Columns.find(header, example, f"line {2 if tells else 1}: the header")
        for line, values in itertools.chain([first] if first else [], rows):
            if len(values) > len(header) and has_header:
                raise ValueError(
                    f"line {line}: {len(values)} values for the {len(header)} columns of the header. Put quotes around "
                    f"a value that has a {_SEPARATORS[separator]}."
                )
            padded = itertools.chain(map(str.strip, values), itertools.repeat(""))
            yield columns.row(dict(zip(header, padded, strict=False)), line)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}.") from error


def _json_rows(text: str) -> Iterator[Row]:
    """Yields the rows of JSON Lines, in which a label may be a number."""
    columns, names = None, []
    for line, words in enumerate(text.split("\n"), start=1):
        if not words.strip():
            continue
        try:
            content = read_json(words)
        except ValueError as error:
            raise ValueError(f"line {line}: {error}.") from error
        if not isinstance(content, dict):
            raise ValueError(f"line {line}: is not a JSON object with the keys path and label.")
        if columns is None or list(content) != names:
            names = list(content)
            columns = _Columns.find(names, content, f"line {line}")
        values = {}
        for name in filter(None, (columns.path, columns.label, columns.split, *columns.classes)):
            value = content[name]
            # A path may be a number too: {"image_id": 7}.
            if type(value) is int or (type(value) is float and name != columns.path):
                value = str(value)
            if not isinstance(value, str):
                raise ValueError(f"line {line}: the {shown(name)} is {shown(json.dumps(value))}; it must be a text.")
            values[name] = value.strip()
        yield columns.row(values, line)
