"""Durations in words."""

import pytest

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
