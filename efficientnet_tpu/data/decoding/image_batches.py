"""Image files in batches, for prediction: how many fit is a matter of their bytes and pixels too, not of numbers alone.

256 photographs of 24 megapixels are 2 GB as files and 18 GB decoded.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

from efficientnet_tpu.data.decoding.image_format import MAX_PIXELS
from efficientnet_tpu.data.decoding.image_header import read_header
from efficientnet_tpu.data.decoding.unreadable_reason import read_image_file

# Of the files of a batch together; one larger file is a batch of its own. Pixels as many as one file may have: 512 MiB.
MOST_BYTES, MOST_PIXELS = 64 << 20, MAX_PIXELS
_SECONDS_PER_BATCH = 1.0  # batches grow while the caller takes less for one


def read_batches(
    paths: Iterable[str], first_size: int, largest_size: int, on_unreadable: Callable[[str], None]
) -> Iterator[list[tuple[str, bytes]]]:
    """Yields batches of (path, content) of the files that can be decoded, in order.

    The first has up to `first_size` files. on_unreadable: gets 'path: reason' for each other file. A batch is emptied
    before the next is read: its content is gone then.
    """
    size = first_size
    batch: list[tuple[str, bytes]] = []
    num_bytes = num_pixels = 0
    for path in itertools.chain(paths, [None]):
        content, reason = read_image_file(path) if path is not None else (b"", "")
        if reason:
            on_unreadable(f"{path}: {reason}")
            continue
        header = read_header(content)
        num_bytes, num_pixels = num_bytes + len(content), num_pixels + header.width * header.height
        is_full = len(batch) >= size or num_bytes > MOST_BYTES or num_pixels > MOST_PIXELS
        if batch and (is_full or path is None):
            started = time.monotonic()
            yield batch
            if time.monotonic() - started < _SECONDS_PER_BATCH:
                size = min(2 * size, largest_size)
            batch.clear()
            num_bytes, num_pixels = len(content), header.width * header.height
        if path is not None:
            batch.append((path, content))
