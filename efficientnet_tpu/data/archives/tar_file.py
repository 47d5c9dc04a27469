"""Tar files, read in place: where each file in one begins, and how long it is. Nothing is unpacked."""

import os
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from efficientnet_tpu.errors import UserError

BLOCK = 512
_LONG_NAME = b"L"  # GNU's: the next file's name


class TarMember(NamedTuple):
    """A file in a tar file: its name without folders, and its content's place."""

    name: str
    offset: int
    size: int


class TarFile:
    """An open tar file that is not compressed, on a local disk. Threads may share it."""

    def __init__(self, path: str, named: str) -> None:
        """named: begins messages. Raises UserError where the file cannot be opened."""
        self.path, self._named = path, named
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"{named}: cannot be opened: {error.strerror}.") from error
        self.num_bytes = os.fstat(self._descriptor).st_size

    def __enter__(self) -> "TarFile":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Returns `size` bytes from `offset` on; fewer behind the end."""
        return os.pread(self._descriptor, size, offset)

    def require_end(self) -> None:
        """Raises UserError unless the file ends as tar files do, in a block of zeros: a broken-off copy does not."""
        if self.num_bytes % BLOCK or any(self.read(self.num_bytes - BLOCK, BLOCK)):
            raise self._cut_off(f"of its {self.num_bytes:,} bytes, the last are no end of an archive")

    def members(self, within: TarMember | None = None) -> Iterator[TarMember]:
        """Yields the files in order, without folders and links. within: a tar file inside this one, whose files they
        then are.

        Raises UserError for what is no tar file, is damaged, or is cut off.
        """
        begin, end = (0, self.num_bytes) if within is None else (within.offset, within.offset + within.size)
        inside = f" in {within.name}" if within else ""
        at, long_name = begin, ""
        while True:
            block = self.read(at, BLOCK) if at + BLOCK <= end else b""
            if not block:
                raise self._cut_off(f"no end of an archive at byte {at:,}{inside}")
            if not any(block):
                return
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                if header.size < 0:
                    raise tarfile.HeaderError("a size below 0")
            except tarfile.HeaderError as error:
                problem = "is no tar file" if at == 0 else f"is damaged at byte {at:,}{inside}"
                raise UserError(f"{self._named}: {problem}. Copy or download it again.") from error
            content = at + BLOCK
            at = content + -(-header.size // BLOCK) * BLOCK
            if at > end:
                raise self._cut_off(f"{header.name}{inside} ends behind byte {end:,}")
            if header.type == _LONG_NAME:
                long_name = self.read(content, header.size).rstrip(b"\0").decode(errors="replace")
                continue
            if header.isreg():
                yield TarMember((long_name or header.name).rpartition("/")[2], content, header.size)
            long_name = ""

    def _cut_off(self, where: str) -> UserError:
        return UserError(f"{self._named}: is cut off: {where}. Copy or download it again.")
