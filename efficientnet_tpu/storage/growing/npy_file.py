"""Rows of numbers in a .npy file that is written in pieces: at any time it holds what has come so far, and loads."""

import io

import numpy as np

_HEADER_BYTES = 128  # room for any number of rows, a multiple of 64 as the format wants it


class NpyWriter:
    """A writer of float32 [rows, columns], the format's version 1.0, which `numpy.load` and `numpy.memmap` read."""

    def __init__(self, file: io.RawIOBase) -> None:
        """file: open for writing, seekable, empty."""
        self._file = file
        self._num_rows = 0

    def write(self, rows: np.ndarray) -> None:
        """Adds rows, float32 [rows, columns]; the first decide how many columns there are."""
        if not self._num_rows:
            self._file.write(_header(0, rows.shape[1]))
        self._file.write(np.ascontiguousarray(rows, "<f4").tobytes())
        self._num_rows += len(rows)
        self._file.seek(0)
        self._file.write(_header(self._num_rows, rows.shape[1]))
        self._file.seek(0, io.SEEK_END)


def _header(num_rows: int, num_columns: int) -> bytes:
    facts = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({num_rows}, {num_columns}), }}"
    text = facts.ljust(_HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
