"""Image files in batches, for prediction: how many fit is a matter of their bytes and pixels too, not of numbers alone.

256 photographs of 24 megapixels are 2 GB as files and 18 GB decoded. Threads read ahead, so that a disk or a network is
not waited for; what they hold is limited too.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from efficientnet_tpu.data.decoding.image_format import MAX_PIXELS
from efficientnet_tpu.data.decoding.image_header import read_header
from efficientnet_tpu.data.decoding.unreadable_reason import read_image_file
from efficientnet_tpu.data.parallel_map import READERS, in_order
from efficientnet_tpu.storage.regular_file import size_of

# Of the files of a batch together; one larger file is a batch of its own. Pixels as many as one file may have: 512 MiB.
MOST_BYTES, MOST_PIXELS = 64 << 20, MAX_PIXELS
MOST_BYTES_AHEAD = 16 << 20  # of a file that is read before its turn, one of READERS
_SECONDS_PER_BATCH = 1.0


class BatchSize:
    """The most images of a batch: few at first, so that results come early, and more while a batch takes little time.

    Attributes:
        now: of the next batch.
    """

    def __init__(self, first: int, largest: int) -> None:
        self.now, self._largest = min(first, largest), largest

    def grow(self, seconds: float) -> None:
        """Doubles the size, up to the largest, if a batch took less than a second."""
        if seconds < _SECONDS_PER_BATCH:
            self.now = min(2 * self.now, self._largest)


def read_batches(
    paths: Iterable[str], size: BatchSize, on_unreadable: Callable[[str], None], decodes: bool = True
) -> Iterator[list[tuple[str, bytes]]]:
    """Yields batches of (path, content) of the files that can be decoded, in order, of at most `size.now` files.

    on_unreadable: gets 'path: reason' for each other file. decodes: see `read_image_file`. No batch is kept here.
    """
    batch: list[tuple[str, bytes]] = []
    num_bytes = num_pixels = 0
    for path, content, reason in _read_ahead(paths, decodes):
        if reason:
            on_unreadable(f"{path}: {reason}")
            continue
        header = read_header(content)
        num_bytes, num_pixels = num_bytes + len(content), num_pixels + header.width * header.height
        if batch and (len(batch) >= size.now or num_bytes > MOST_BYTES or num_pixels > MOST_PIXELS):
            yield _emptied(batch)
            num_bytes, num_pixels = len(content), header.width * header.height
        batch.append((path, content))
    if batch:
        yield _emptied(batch)


def _read_ahead(paths: Iterable[str], decodes: bool) -> Iterator[tuple[str, bytes, str]]:
    """Yields path, content and the reason of `read_image_file`, in order. Each file is read once."""

    def read(path: str) -> tuple[str, tuple[bytes, str] | None]:
        return path, read_image_file(path, decodes) if size_of(path) <= MOST_BYTES_AHEAD else None

    with ThreadPoolExecutor(READERS) as pool:
        for path, found in in_order(pool, read, paths, READERS):
            content, reason = found or read_image_file(path, decodes)
            yield path, content, reason


def _emptied(batch: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Returns a copy of a batch, and empties it, so that only whoever gets the copy keeps the contents."""
    taken = batch.copy()
    batch.clear()
    return taken
