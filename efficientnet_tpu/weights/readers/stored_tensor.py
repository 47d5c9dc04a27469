"""A tensor in somebody else's file: known by shape and type first, read when it is wanted."""

import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

# What reading a damaged file may raise, whatever the format.
READ_ERRORS = (
    *(ValueError, OSError, LookupError, ArithmeticError, RuntimeError, EOFError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
# Numbers a weight may be stored as; all become float32.
FLOAT_TYPES = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class StoredTensor:
    """`read` returns an array of exactly this shape. Nothing of that size exists before, so that a file's claims about
    sizes cost nothing until they were compared with a model's.
    """

    shape: tuple[int, ...]
    dtype: str  # NumPy's name of it, or bfloat16
    read: Callable[[], np.ndarray]


Tensors = Mapping[str, StoredTensor]


def in_memory(array: np.ndarray) -> StoredTensor:
    """A tensor that is there already."""
    return StoredTensor(array.shape, array.dtype.name, lambda: array)


def widened(raw: bytes | memoryview, dtype: str) -> np.ndarray:
    """float32 [n] (or the stored type, of integers) from little-endian bytes of the named type."""
    if dtype == "bfloat16":  # the upper half of a float32, which NumPy has no name for
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
