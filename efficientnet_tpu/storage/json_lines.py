"""Files of one JSON object a line, some lines of which a kill, a power cut or a bad disk may have damaged.

Each line ends with the checksum of the rest, by which a changed digit is found too. A file of an earlier version, or of
another program, has none.
"""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from efficientnet_tpu.storage import presence
from efficientnet_tpu.storage.text_file import read_bytes

T = TypeVar("T")
_SHOWN = 5  # numbers of lines in a message
_CHECKSUM = "crc32"
_CHECKED = re.compile(rb'(?P<entry>.*), "crc32": (?P<checksum>\d{1,10})\}')


@dataclass(frozen=True)
class JsonLines(Generic[T]):
    """The whole entries of such a file. damaged: the numbers, from 1, of the lines that are not."""

    entries: list[T]
    damaged: list[int]

    def damage(self, path: str) -> str:
        """Returns a line about what is damaged in the file at `path`, "" where all is whole."""
        if not self.damaged:
            return ""
        numbers = ", ".join(map(str, self.damaged[:_SHOWN])) + ", ..." * (len(self.damaged) > _SHOWN)
        if len(self.damaged) == 1:
            return f"{path}: line {numbers} is damaged, and left out"
        return f"{path}: {len(self.damaged):,} lines are damaged, and left out: {numbers}"


def line(entry: Mapping[str, object]) -> str:
    """Returns the line of a non-empty entry, with its end: JSON whose last value, `crc32`, is that of the others."""
    text = json.dumps({name: value for name, value in entry.items() if name != _CHECKSUM}, ensure_ascii=False)
    encoded = text.encode(errors="backslashreplace")  # halves of surrogate pairs, as JSON escapes them
    return f'{encoded.decode()[:-1]}, "{_CHECKSUM}": {zlib.crc32(encoded)}}}\n'


def parse(content: bytes, convert: Callable[[Any], T]) -> JsonLines[T]:
    """Returns what is whole in the bytes of a file.

    convert: makes an entry of the value in a line; raises ValueError, KeyError, TypeError, AttributeError or
    OverflowError for one that is of something else. It gets the value without its checksum. Zeros, which a file system
    leaves where it had not written, may stand before a whole value. Behind a line with a checksum, one without is
    damaged.
    """
    entries, damaged = [], []
    are_checked = False
    for number, line in enumerate(content.split(b"\n"), start=1):
        text = line.strip(b"\0 \t\r")
        if text != line.strip(b" \t\r"):
            damaged.append(number)
        if not text:
            continue
        try:
            checked = _CHECKED.fullmatch(text)
            are_checked = are_checked or checked is not None
            entries.append(convert(json.loads(_verified(checked) if are_checked else text)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            damaged.append(number)
    return JsonLines(entries, sorted(set(damaged)))


def _verified(checked: re.Match[bytes] | None) -> bytes:
    """Returns the JSON of a line without its checksum. Raises ValueError if it has none, or that of other content."""
    text = checked["entry"] + b"}" if checked else b""
    if not checked or zlib.crc32(text) != int(checked["checksum"]):
        raise ValueError("other content than was written")
    return text


def read(path: str, convert: Callable[[Any], T]) -> JsonLines[T]:
    """Returns what is whole in a file, local or gs://; nothing where there is none. See `parse`."""
    return parse(read_bytes(path, path), convert) if presence.exists(path, path) else JsonLines([], [])
