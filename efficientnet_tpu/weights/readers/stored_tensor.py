"""Tensors in other programs' files: shape and type are known first, numbers are read on demand."""

import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

# The errors that reading a damaged file may raise, whatever the format.
READ_ERRORS = (
    *(ValueError, OSError, LookupError, ArithmeticError, RuntimeError, EOFError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
# The types that a weight may be stored as; all become float32.
FLOAT_TYPES = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file; `read` returns an array of exactly this shape.

    Nothing of that size is allocated before, so a file's claims about sizes cost nothing until they have been compared
    with a model's.
    """

    shape: tuple[int, ...]
    dtype: str  # NumPy's name of it, or bfloat16
    read: Callable[[], np.ndarray]


StoredTensors = Mapping[str, StoredTensor]


def in_memory(array: np.ndarray) -> StoredTensor:
    """Returns a stored tensor for an array of any type, [...], that is in memory already."""
    return StoredTensor(array.shape, array.dtype.name, lambda: array)


def decode_numbers(raw: bytes | memoryview, dtype: str) -> np.ndarray:
    """Decodes little-endian bytes of the named type.

    Returns [count]: the stored type, or float32 for bfloat16, which NumPy has no name for.
    """
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
