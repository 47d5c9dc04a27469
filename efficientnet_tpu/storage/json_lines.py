"""Files of one JSON object a line, some lines of which a kill, a power cut or a bad disk may have damaged."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from efficientnet_tpu.storage import presence
from efficientnet_tpu.storage.text_file import read_bytes

T = TypeVar("T")
_SHOWN = 5  # numbers of lines in a message


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


def parse(content: bytes, convert: Callable[[Any], T]) -> JsonLines[T]:
    """Returns what is whole in the bytes of a file.

    convert: makes an entry of the value in a line; raises ValueError, KeyError, TypeError, AttributeError or
    OverflowError for one that is of something else. Zeros, which a file system leaves where it had not written, may
    stand before a whole value.
    """
    entries, damaged = [], []
    for number, line in enumerate(content.split(b"\n"), start=1):
        text = line.strip(b"\0 \t\r")
        if text != line.strip(b" \t\r"):
            damaged.append(number)
        if not text:
            continue
        try:
            entries.append(convert(json.loads(text)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            damaged.append(number)
    return JsonLines(entries, sorted(set(damaged)))


def read(path: str, convert: Callable[[Any], T]) -> JsonLines[T]:
    """Returns what is whole in a file, local or gs://; nothing where there is none. See `parse`."""
    return parse(read_bytes(path, path), convert) if presence.exists(path, path) else JsonLines([], [])
