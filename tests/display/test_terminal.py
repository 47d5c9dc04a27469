"""Durations in words, lines of progress."""

import sys

import pytest

from efficientnet_tpu.display import terminal
from efficientnet_tpu.display.terminal import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (0.4, "0 s"), (45, "45 s"), (59.6, "1 min 0 s"), (60, "1 min 0 s"), (185, "3 min 5 s"),
        (3599, "59 min 59 s"), (3600, "1 h 0 min"), (7620, "2 h 7 min"), (86399, "23 h 59 min"), (86400, "1 d 0 h"),
        (3 * 86400 + 4 * 3600 + 1800, "3 d 4 h"), (350 * 86400, "350 d 0 h"),
    ],
)  # fmt: skip
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_a_line_of_progress_at_most_every_few_seconds(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    progress = terminal.ImageProgress("train:", 2000)
    for now, count, unreadable in ((104.9, 100, 0), (105.0, 100, 1), (109.9, 1, 0), (110.0, 299, 0)):  # noqa: B007
        progress.advance(count, unreadable)
    assert capsys.readouterr().out.splitlines() == [
        "train: 200/2,000 images  1 unreadable  40 images/s  45 s to go",
        "train: 500/2,000 images  1 unreadable  50 images/s  30 s to go",
    ]


def test_slow_progress_has_a_decimal_and_may_go_elsewhere(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    progress = terminal.ImageProgress("predicted", 5, sys.stderr)
    now = 10.0
    progress.advance(2)
    assert capsys.readouterr() == ("", "predicted 2/5 images  0.2 images/s  15 s to go\n")
