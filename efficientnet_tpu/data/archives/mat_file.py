"""Structures in a MATLAB file of level 5, as ImageNet's devkit has one: numbers and texts, no more.

The format is MathWorks' "MAT-File Level 5 File Format". scipy, which reads such files, would be 40 MB for this one.
"""

import math
import struct
import zlib
from collections.abc import Iterator

_HEADER = 128  # bytes
_COMPRESSED, _MATRIX = 15, 14
_STRUCT, _CHARACTERS = 2, 4  # classes of matrices
# Types of numbers -> their letters in `struct`; texts have numbers or one of UTF-8 and UTF-16.
_LETTERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_TEXTS = {16: "utf-8", 17: "utf-16-le"}
_LARGEST = 64_000_000  # bytes, uncompressed

Value = float | str | None


def read_structures(content: bytes, name: str) -> list[dict[str, Value]]:
    """Returns the structures of the array `name`: field -> a number, a text, or None for anything else.

    Raises ValueError for what is no such file, or holds no such array.
    """
    try:
        if content[126:128] != b"IM":
            raise ValueError("is no MATLAB file of level 5")
        for kind, element in _elements(content[_HEADER:]):
            if kind == _COMPRESSED:
                inflated = zlib.decompressobj().decompress(element, _LARGEST)
                kind, element = next(_elements(inflated))  # noqa: PLW2901 - what was packed
            if kind == _MATRIX and _Matrix(element).name == name:
                return _Matrix(element).structures()
    except (struct.error, zlib.error, IndexError, StopIteration, UnicodeDecodeError, OverflowError) as error:
        raise ValueError("is damaged") from error
    raise ValueError(f"holds no array {name}")


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields types and contents of data elements. A short one has its length in the upper half of its type."""
    at = 0
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<II", content, at)
        if kind >> 16:
            kind, length, begin, at = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            begin = at + 8
            at = begin + (length if kind == _COMPRESSED else -(-length // 8) * 8)
        if begin + length > len(content):
            raise IndexError(begin)
        yield kind, content[begin : begin + length]


class _Matrix:
    """One array: its class, its number of values, its name, and the elements behind these."""

    def __init__(self, content: bytes) -> None:
        elements = _elements(content)
        self._class = next(elements)[1][0]
        dimensions = next(elements)[1]
        self._count = math.prod(struct.unpack(f"<{len(dimensions) // 4}i", dimensions))
        self.name = next(elements)[1].decode()
        self._elements = elements

    def structures(self) -> list[dict[str, Value]]:
        """Returns the structures of an array of them."""
        if self._class != _STRUCT:
            raise ValueError(f"{self.name} is no array of structures")
        (length,) = struct.unpack("<i", next(self._elements)[1])
        names = next(self._elements)[1]
        fields = [names[at : at + length].partition(b"\0")[0].decode() for at in range(0, len(names), length)]
        values = [_Matrix(element).value() for _, element in self._elements]
        if len(values) != self._count * len(fields):
            raise IndexError(len(values))
        return [
            dict(zip(fields, values[at : at + len(fields)], strict=True)) for at in range(0, len(values), len(fields))
        ]

    def value(self) -> Value:
        """Returns a single number or a text; None for anything else."""
        if self._class == _STRUCT:
            return None
        kind, content = next(self._elements, (0, b""))
        if self._class == _CHARACTERS and kind in _TEXTS:
            return content.decode(_TEXTS[kind])
        if kind not in _LETTERS:
            return None
        size = struct.calcsize(_LETTERS[kind])
        numbers = struct.unpack(f"<{len(content) // size}{_LETTERS[kind]}", content)
        if self._class == _CHARACTERS:
            return "".join(map(chr, numbers))
        return numbers[0] if len(numbers) == 1 else None
