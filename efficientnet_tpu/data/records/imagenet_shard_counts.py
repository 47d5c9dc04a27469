"""Finds how many images each ImageNet TFRecord shard holds, by the few shards that tell the converters apart.

Both widespread converters write 1024 and 128 shards without saying what is in them. The reference's
(imagenet_to_gcs.py) fills shards up, so that the last is short; the older one (build_imagenet_data.py) cuts the images
into a range for each of its threads, and the ranges into equal shards.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

_THREADS = (1, 2, 4, 8, 16, 32, 64)  # of the older converter; 8 unless told otherwise


def shard_counts(num_images: int, num_shards: int, count: Callable[[int], int]) -> tuple[int, ...] | None:
    """Returns the images in each shard; None when no known converter wrote them. count(index) reads and counts one."""
    size = -(-num_images // num_shards)
    candidates = {tuple(max(0, min(size, num_images - index * size)) for index in range(num_shards))}  # filled up
    for threads in _THREADS:
        if num_shards % threads == 0:
            # The older converter's own arithmetic: floats, cut off.
            ranges = np.linspace(0, num_images, threads + 1).astype(int)
            per_thread = num_shards // threads
            equal = [np.diff(np.linspace(begin, end, per_thread + 1).astype(int)) for begin, end in pairwise(ranges)]
            candidates.add(tuple(np.concatenate(equal).tolist()))
    while len(candidates) > 1:
        table = np.array(sorted(candidates))
        # The last of the shards that tell most of them apart: of a short one there is little to read.
        kinds = np.array([len(np.unique(column)) for column in table.T])
        telling = num_shards - 1 - int(np.argmax(kinds[::-1]))
        found = count(telling)
        candidates = {counts for counts in candidates if counts[telling] == found}
    return candidates.pop() if candidates else None
