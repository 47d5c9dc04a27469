"""Of a file of JSON lines what is whole is taken, and the other lines are named."""

import json
import random

import pytest

from efficientnet_tpu.storage import json_lines


def _number(value):
    return float(value["number"])


def _content(*numbers):
    return b"".join(json.dumps({"number": number}).encode() + b"\n" for number in numbers)


@pytest.mark.parametrize(
    "damage",
    [b'{"number": 7', b"{}\n", b"[1]\n", b"null\n", b"7\n", b'"text"\n', b"\xff\xfe\n", b'{"number": "x"}\n',
     b'{"number": 1' + b"0" * 400 + b"}\n", b'{"number": 1' + b"0" * 5000 + b"}\n", b"[" * 10**5 + b"\n",
     b"\0" * 9 + b"\n"],
)  # fmt: skip
def test_a_damaged_line_is_left_out_and_named(damage):
    found = json_lines.parse(_content(1, 2) + damage, _number)
    assert (found.entries, found.damaged) == ([1, 2], [3])
    assert found.damage("a.jsonl") == "a.jsonl: line 3 is damaged, and left out"


def test_zeros_before_a_whole_line_cost_nothing_else():
    found = json_lines.parse(_content(1) + b"\0" * 4096 + _content(2, 3), _number)
    assert (found.entries, found.damaged) == ([1, 2, 3], [2])


def test_many_damaged_lines_are_counted():
    found = json_lines.parse(b"x\n" * 1234, _number)
    assert found.damage("a.jsonl") == "a.jsonl: 1,234 lines are damaged, and left out: 1, 2, 3, 4, 5, ..."
    assert json_lines.parse(b"\n\r\n", _number).damage("a.jsonl") == ""


def test_a_line_is_json_and_is_read_back():
    entry = {"number": 7, "name": "漢字 \udcff", "rate": 0.1}
    line = json_lines.line(entry)
    assert json.loads(line).keys() - entry.keys() == {"crc32"}
    assert "漢字" in line
    assert json_lines.line(json.loads(line)) == line  # by an earlier version, which keeps all that it reads
    assert json_lines.parse(line.encode(), dict) == json_lines.JsonLines([entry], [])


@pytest.mark.parametrize("bit", range(8))
def test_every_changed_bit_of_a_checked_line_is_found(bit):
    lines = [json_lines.line({"number": number}).encode() for number in (1.5, 2.5, 3.5)]
    for position in range(len(lines[1]) - 1):
        changed = bytearray(lines[1])
        changed[position] ^= 1 << bit
        found = json_lines.parse(lines[0] + bytes(changed) + lines[2], _number)
        assert found.entries == [1.5, 3.5], changed
        assert found.damaged[0] == 2


def test_lines_of_an_earlier_version_stand_before_those_with_checksums():
    checked = json_lines.line({"number": 2}).encode()
    assert json_lines.parse(_content(1) + checked, _number) == json_lines.JsonLines([1, 2], [])
    assert json_lines.parse(checked + _content(1), _number) == json_lines.JsonLines([2], [2])


def test_any_bytes_are_read():
    draw = random.Random(0)
    whole = _content(*range(50))
    for _ in range(1000):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        found = json_lines.parse(bytes(damaged[: draw.randrange(len(damaged))]), _number)
        assert all(isinstance(entry, float) for entry in found.entries)
