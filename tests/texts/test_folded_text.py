import pytest

from efficientnet_tpu.texts.folded_text import folded


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("short", "short"),
        ("", ""),
        ("one two three four", "one two\n  three\n  four"),
        ("   one two three", "   one two\n     three"),
        ("see `a b c d e f g` now", "see\n  `a b c d e f g`\n  now"),
        ("averyveryverylongword x", "averyveryverylongword\n  x"),
        ("a table  of columns", "a table  of columns"),
    ],
)
def test_lines_break_at_words(line, expected):
    assert folded(line, 10) == expected


def test_nothing_is_lost_at_any_width():
    line = "the run says so before it starts, with `python main.py --flagfile=finetune` as the command that would serve"
    for columns in range(1, 120):
        lines = folded(line, columns).split("\n")
        assert " ".join(part.strip() for part in lines) == line
        words = [part for part in lines if len(part) > columns]
        assert all(" " not in part.strip() or part.strip().startswith("`") for part in words)
