"""A few lines at the bottom of a terminal that change in place, while what is printed scrolls above them.

The text of others passes through `printable_output` before it comes here; rich interprets none of it.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from efficientnet_tpu.texts.printable_output import PrintableStream

REFRESHES_PER_SECOND = 2
_NARROWEST = 40


def is_live_terminal() -> bool:
    """Returns whether stdout is a terminal on which lines can change in place."""
    if not sys.stdout.isatty():
        return False
    from rich.console import Console

    console = Console(file=_terminal())
    return console.is_terminal and not console.is_dumb_terminal and console.width >= _NARROWEST


@contextlib.contextmanager
def live_display(render: Callable[[int], list[Any]]) -> Iterator[None]:
    """Shows what `render` returns in this context, a line each, and takes it away at its end.

    render: (columns) -> renderables of rich, each of at most one line. It is called twice a second by a thread.
    """
    from rich.console import Console, Group
    from rich.live import Live

    terminal = _terminal()
    console = Console(file=terminal, highlight=False, markup=False, emoji=False)
    before = sys.stdout, sys.stderr
    with Live(
        get_renderable=lambda: Group(*render(console.width)),
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    ):
        sys.stdout = PrintableStream(_LinesAbove(console, terminal))
        if sys.stderr.isatty():
            sys.stderr = PrintableStream(_LinesAbove(console, sys.stderr))
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = before


def _terminal() -> Any:
    """Returns the stream behind stdout, which takes a terminal's control sequences."""
    stream = sys.stdout
    return stream.unescaped if isinstance(stream, PrintableStream) else stream


class _LinesAbove:
    """A stream whose lines are printed above the display. For the rest it is the stream that it stands for."""

    def __init__(self, console: Any, stream: TextIO) -> None:
        self._console, self._stream = console, stream
        self._rest = ""

    def write(self, text: str) -> int:
        """Prints the lines that are whole."""
        from rich.text import Text

        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._console.print(Text("\n".join(lines)))
        return len(text)

    def flush(self) -> None:
        """Prints what is no whole line: none comes from print()."""
        if self._rest:
            self.write("\n")
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
