"""The memory that a training step's activations take, counted from the list of convolutions. No TensorFlow.

A step remembers what convolutions write, in bfloat16; the rest is computed again from it in passing. A TPU keeps an
array in tiles of 8 x 128: along the 128 it lays images or channels, whichever pads less.
"""

import functools
import itertools
from dataclasses import dataclass

from efficientnet_tpu.models.architecture import Architecture

_LANES, _SUBLANES, _BYTES = 128, 8, 2


@dataclass(frozen=True)
class Activation:
    """The output of one convolution for one image: so many positions of so many channels."""

    positions: int
    channels: int

    def padded_bytes(self, batch_size: int) -> int:
        """Returns the bytes of a batch, as a TPU keeps it."""
        channels, images = self.channels, batch_size
        by_images = _padded(images, _LANES) * _padded(channels, _SUBLANES)
        by_channels = _padded(channels, _LANES) * _padded(images, _SUBLANES)
        return _BYTES * self.positions * min(by_images, by_channels)


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def activation_bytes(architecture: Architecture, batch_size: int, rematerialize: str = "none") -> int:
    """Returns the bytes that a step holds at a time: what it keeps for the backward pass, and gradients of the largest
    block.

    With rematerialize "blocks", the outputs of blocks are kept, and all of the largest block while it is computed
    again. With "all", as without a backward pass: the largest block alone.
    """
    parts = _bytes_of_parts(architecture, batch_size)
    largest = max(map(sum, parts))
    if rematerialize == "all":
        return largest
    if rematerialize == "none":
        return sum(map(sum, parts)) + largest
    _, *blocks = parts  # the stem is computed again with the first block
    return sum(block[-1] for block in blocks) + 2 * largest


def written_bytes(architecture: Architecture, batch_size: int) -> int:
    """Returns what convolutions write in a forward pass, to which the traffic of a step is roughly proportional."""
    return sum(map(sum, _bytes_of_parts(architecture, batch_size)))


# A plan asks thousands of times for the same few dozen steps of the table.
@functools.cache
def _bytes_of_parts(architecture: Architecture, batch_size: int) -> list[list[int]]:
    """Returns the bytes that each convolution writes, in a list for the stem, for every block and for the head."""
    # Pooled maps are 1 x 1: squeeze-and-excitation and the classifier write next to nothing.
    rows = [row for row in architecture.convolutions() if row.convolution.writes != "pooled"]
    return [
        [Activation(row.output_size**2, row.convolution.filters).padded_bytes(batch_size) for row in part]
        for _, part in itertools.groupby(rows, key=lambda row: row.block)
    ]
