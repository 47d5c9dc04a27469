"""The forms in which predictions are printed, each image's as soon as it is known."""

import json
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TextIO

from efficientnet_tpu.texts.csv_text import begins_formula, csv_text
from efficientnet_tpu.texts.printable import escaped


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
    between: str = "\n"
    end: str = "\n"


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
    return "  ".join([f"{escaped(prediction.path):<{width}}", *words])


def _as_csv(prediction: Prediction, width: int) -> str:
    ranked = zip(prediction.classes, prediction.probabilities, strict=True)
    path = prediction.path
    if begins_formula(path) and not path.startswith("/") and "://" not in path:
        path = f"./{path}"  # the same file, and no formula
    rows = ([path, rank, name, f"{probability:.6f}"] for rank, (name, probability) in enumerate(ranked, start=1))
    return csv_text(rows).removesuffix("\n")


def _as_json(prediction: Prediction, width: int) -> str:
    return textwrap.indent(json.dumps(vars(prediction), indent=1), " ")


# The keys are config.commands.OUTPUT_FORMATS. The JSON is what json.dumps(list, indent=1) writes.
FORMS = {
    "text": OutputForm(_as_text),
    "csv": OutputForm(_as_csv, begin="path,rank,class,probability\n"),
    "json": OutputForm(_as_json, begin="[\n", between=",\n", end="\n]\n"),
}
