"""Prints what the program says without control characters of others, and without their secrets."""

import contextlib
import shutil
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TextIO

from efficientnet_tpu.texts.folded_text import folded
from efficientnet_tpu.texts.printable import escaped_lines
from efficientnet_tpu.texts.secrets import masked


class PrintableStream:
    """A stream for text that stands before another: names and messages of others cannot speak to the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text, escaped and without secrets, on a terminal with its lines broken at words; returns its own
        length, as whoever wrote it expects.
        """
        printable = escaped_lines(masked(text))
        if columns := self._columns():
            printable = "\n".join(folded(line, columns) for line in printable.split("\n"))
        self._stream.write(printable)
        return len(text)

    def _columns(self) -> int:
        """Returns the width of the terminal, 0 where the stream goes elsewhere."""
        return shutil.get_terminal_size().columns if self._stream.isatty() else 0

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    @property
    def unescaped(self) -> TextIO:
        """The stream itself, for a program's own control sequences."""
        return self._stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Puts a PrintableStream before stdout and stderr in this context.

    Python's own report of an error that nobody expected, which comes later, is printed in the same way.
    """
    before = {name: stream for name in ("stdout", "stderr") if (stream := getattr(sys, name)) is not None}
    for name, stream in before.items():
        setattr(sys, name, PrintableStream(stream))
    try:
        yield
    except Exception:
        sys.excepthook = _report
        raise
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    PrintableStream(sys.stderr).writelines(traceback.format_exception(kind, error, trace))
