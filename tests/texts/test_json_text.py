import pytest

from efficientnet_tpu.texts.json_text import read_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"a":' * 100_000, "is nested too deeply"),
        ('{"a": 1, "b": 2, "a": 3}', "says a twice"),
        ("[NaN]", "has NaN, which is no number"),
        ("[-Infinity]", "has -Infinity, which is no number"),
        ("[1e400]", "has a number out of range, 1e400"),
        (f"[{'9' * 401}]", "has a number out of range"),
        (f"[{'9' * 100_000}]", "has a number out of range"),
        (r'["\ud800"]', r"holds half of a surrogate pair, \\ud800"),
        (r'{"\udfff": 1}', r"holds half of a surrogate pair, \\udfff"),
        ("\ufeff{}", "is not JSON"),
    ],
    ids=range(13),
)
def test_what_is_wrong_is_one_line(text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_json(text)
    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


def test_what_is_right_is_read():
    content = r'{"a": [1, -2.5, true, null, "\ud83d\ude00", "größe"], "b": {"a": {}}}'
    assert read_json(content) == {"a": [1, -2.5, True, None, "\U0001f600", "größe"], "b": {"a": {}}}
