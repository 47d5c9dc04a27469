"""The forms in which predictions are printed or written into a file, each image's as soon as it is known."""

import contextlib
import importlib.util
import io
import json
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import install_command
from efficientnet_tpu.storage.growing.partial_file import partial_file
from efficientnet_tpu.storage.presence import require_folder
from efficientnet_tpu.texts.csv_text import begins_formula, csv_text
from efficientnet_tpu.texts.printable import escaped

_ROW_GROUP = 10_000  # rows of Parquet that are written together


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a file, in descending order, with their probabilities."""

    path: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class OutputForm:
    """The text before, between and after the predictions, and of one: (prediction, width of the longest path)."""

    text: Callable[[Prediction, int], str]
    begin: str = ""
    between: str = ""
    end: str = ""


class Writer(Protocol):
    """A destination of predictions."""

    def write(self, predictions: Sequence[Prediction]) -> None:
        """Takes predictions, in order."""
        ...

    def close(self) -> None:
        """Ends what was written."""
        ...


class PredictionWriter:
    """A printer of predictions. What it has printed is whole once it is closed, wherever it was stopped."""

    def __init__(self, form: OutputForm, width: int, file: TextIO) -> None:
        """width: of the longest path that may come."""
        self._form, self._width, self._file = form, width, file
        self._separator = form.begin
        self._has_begun = False

    def write(self, predictions: Iterable[Prediction]) -> None:
        """Prints predictions."""
        texts = []
        for prediction in predictions:
            texts.append(self._separator + self._form.text(prediction, self._width))
            self._separator = self._form.between
        if texts:
            self._has_begun = True
            print("".join(texts), end="", file=self._file, flush=True)

    def close(self) -> None:
        """Ends what was printed; prints nothing where nothing was."""
        if self._has_begun:
            print(self._form.end, end="", file=self._file, flush=True)


def _as_text(prediction: Prediction, width: int) -> str:
    ranked = zip(prediction.classes, prediction.probabilities, strict=True)
    words = (f"{escaped(name)} {probability:.1%}" for name, probability in ranked)
    return "  ".join([f"{escaped(prediction.path):<{width}}", *words]) + "\n"


def _as_csv(prediction: Prediction, width: int) -> str:
    ranked = zip(prediction.classes, prediction.probabilities, strict=True)
    path = prediction.path
    if begins_formula(path) and not path.startswith("/") and "://" not in path:
        path = f"./{path}"  # the same file, and no formula
    rows = ([path, rank, name, f"{probability:.6f}"] for rank, (name, probability) in enumerate(ranked, start=1))
    return csv_text(rows)


def _as_json(prediction: Prediction, width: int) -> str:
    return textwrap.indent(json.dumps(vars(prediction), indent=1), " ")


class ParquetWriter:
    """A writer of a Parquet file: path string, classes list of string, probabilities list of float."""

    def __init__(self, file: io.RawIOBase) -> None:
        import pyarrow
        from pyarrow import parquet

        text, number = pyarrow.string(), pyarrow.float32()
        columns = [("path", text), ("classes", pyarrow.list_(text)), ("probabilities", pyarrow.list_(number))]
        self._schema = pyarrow.schema(columns)
        self._parquet = parquet.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, object]] = []

    def write(self, predictions: Sequence[Prediction]) -> None:
        """Keeps predictions until they make a row group."""
        # Half of a surrogate pair, which stands for a byte that is not UTF-8, has no place in the format.
        self._rows += [{**vars(prediction), "path": escaped(prediction.path)} for prediction in predictions]
        if len(self._rows) >= _ROW_GROUP:
            self._write_rows()

    def close(self) -> None:
        """Writes the last row group and the file's end, without which nobody reads it."""
        self._write_rows()
        self._parquet.close()

    def _write_rows(self) -> None:
        import pyarrow

        if self._rows:
            self._parquet.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
            self._rows.clear()


def check_output(path: str, form: str) -> None:
    """Raises UserError for the path of a file, --output, that cannot be one, or with a --format too."""
    ending = os.path.splitext(path)[1]
    if ending not in FILE_WRITERS:
        raise UserError(f"--output={path}: must end with {', '.join([*FILE_WRITERS][:-1])} or {[*FILE_WRITERS][-1]}.")
    if form != "text":
        raise UserError(
            f"--format={form}: is for what is printed; of --output={path} the ending says it. Leave it out."
        )
    if ending == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"--output={path}: needs pyarrow, which is not installed: {install_command('parquet')}")
    require_folder(path, "output")


def check_embeddings(path: str) -> None:
    """Raises UserError for the path of a file, --embeddings, that cannot be one."""
    if not path.endswith(".npy"):
        raise UserError(f"--embeddings={path}: must end with .npy.")
    require_folder(path, "embeddings")


@contextlib.contextmanager
def opened_file(path: str) -> Iterator[Writer]:
    """Opens --output. The file has its name when the context ends, and is `partial_file` until then."""
    with partial_file(path, "output") as file:
        writer = FILE_WRITERS[os.path.splitext(path)[1]](file)
        try:
            yield writer
        finally:
            writer.close()


def _lines_in(file: io.RawIOBase, form: str) -> PredictionWriter:
    text = io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", newline="")
    return PredictionWriter(FORMS[form], 0, text)


# The keys are config.commands.OUTPUT_FORMATS. The JSON is what json.dumps(list, indent=1) writes.
FORMS = {
    "text": OutputForm(_as_text),
    "csv": OutputForm(_as_csv, begin="path,rank,class,probability\n"),
    "json": OutputForm(_as_json, begin="[\n", between=",\n", end="\n]\n"),
    "jsonl": OutputForm(lambda prediction, _: json.dumps(vars(prediction)) + "\n"),
}
FILE_WRITERS: dict[str, Callable[[io.RawIOBase], Writer]] = {  # by the ending of --output
    ".csv": lambda file: _lines_in(file, "csv"),
    ".jsonl": lambda file: _lines_in(file, "jsonl"),
    ".parquet": ParquetWriter,
}
