"""The display on a terminal: a pseudo-terminal stands for it."""

import contextlib
import os
import pty
import sys

import pytest

from efficientnet_tpu.display.live_display import is_live_terminal, live_display
from efficientnet_tpu.texts.printable_output import PrintableStream


@pytest.fixture
def terminal(monkeypatch):
    """Puts a pseudo-terminal in place of stdout when called; returns a function that reads what it was sent."""
    main, other = pty.openpty()
    os.set_blocking(main, False)
    stream = open(other, "w", encoding="utf-8")  # noqa: SIM115 - closed below
    for name, value in (("TERM", "xterm"), ("COLUMNS", "80"), ("LINES", "24")):
        monkeypatch.setenv(name, value)

    def attach():  # in the test itself: pytest puts a stream of its own there when that begins
        monkeypatch.setattr(sys, "stdout", PrintableStream(stream))
        return read

    def read():
        sent = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += os.read(main, 1 << 16)
        return sent.decode()

    yield attach
    stream.close()
    os.close(main)


def test_lines_scroll_above_and_the_display_is_taken_away(terminal):
    read = terminal()
    with live_display(lambda columns: [f"{columns} columns"]):
        print("a line")
        print("of \x1b[31m others")
    sent = read()
    assert "80 columns" in sent
    assert "a line" in sent
    assert "\x1b[31m" not in sent  # escaped before it came here
    assert "\\x1b[31m others" in sent
    assert sent.rstrip().endswith("\x1b[2K") or sent.rstrip().endswith("\x1b[?25h")


def test_stdout_is_what_it_was_when_the_context_raises(terminal):
    terminal()
    before = sys.stdout
    with pytest.raises(KeyError), live_display(lambda columns: []):
        raise KeyError
    assert sys.stdout is before


def test_a_terminal_is_one_unless_it_is_dumb_or_narrow(terminal, monkeypatch):
    terminal()
    assert is_live_terminal()
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live_terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    assert not is_live_terminal()


def test_a_file_is_no_terminal(capsys):
    assert not is_live_terminal()
