"""How much memory a training step's activations take, counted from the network's records. No TensorFlow.

What a step remembers is what convolutions write, in bfloat16; the rest is computed again from it in passing. A TPU
keeps an array in tiles of 8 x 128: along the 128 it lays images or channels, whichever pads less.
"""

from dataclasses import dataclass

from efficientnet_tpu.models.architecture import Architecture, BottleneckSpec, MBConvSpec, SeparableSpec
from efficientnet_tpu.models.complexity import output_size

_LANES, _SUBLANES, _BYTES = 128, 8, 2


@dataclass(frozen=True)
class Activation:
    """What one convolution writes for an image: so many positions of so many channels."""

    positions: int
    channels: int

    def padded_bytes(self, batch_size: int) -> int:
        """Of a batch, as a TPU keeps it."""
        channels, images = self.channels, batch_size
        by_images = _padded(images, _LANES) * _padded(channels, _SUBLANES)
        by_channels = _padded(channels, _LANES) * _padded(images, _SUBLANES)
        return _BYTES * self.positions * min(by_images, by_channels)


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def activation_bytes(architecture: Architecture, batch_size: int, rematerialize: str = "none") -> int:
    """What a step holds at a time: what is kept for the backward pass, and gradients of the largest block.

    With rematerialize blocks, what blocks put out is kept, and all of the largest block while it is computed again.
    With all, as without a backward pass: the largest block alone.
    """
    stem, *blocks = _activations(architecture)
    parts = [_bytes(part, batch_size) for part in (stem, *blocks)]
    if rematerialize == "all":
        return max(parts)
    if rematerialize == "none":
        return sum(parts) + max(parts)
    return sum(_bytes(block[-1:], batch_size) for block in blocks) + 2 * max(parts)


def written_bytes(architecture: Architecture, batch_size: int) -> int:
    """What convolutions write in a forward pass, to which the traffic of a step is roughly proportional."""
    return sum(_bytes(part, batch_size) for part in _activations(architecture))


def _bytes(activations: list[Activation], batch_size: int) -> int:
    return sum(activation.padded_bytes(batch_size) for activation in activations)


def _activations(architecture: Architecture) -> list[list[Activation]]:
    """Of the stem, every block and the head, in the order of their writing."""
    size = output_size(architecture.resolution, 2)
    parts = [[Activation(size**2, architecture.stem_filters)]]
    size = output_size(size, 2) if architecture.stem_pool else size
    for block in architecture.blocks:
        after = output_size(size, block.strides)
        parts.append(_of_block(block, size**2, after**2))
        size = after
    if architecture.head_filters:
        parts.append([Activation(size**2, architecture.head_filters)])
    return parts


def _of_block(block: MBConvSpec | SeparableSpec | BottleneckSpec, before: int, after: int) -> list[Activation]:
    match block:
        case MBConvSpec():
            expanded = [Activation(before, block.expanded_filters)] if block.expand_ratio != 1 else []
            return [*expanded, Activation(after, block.expanded_filters), Activation(after, block.filters)]
        case SeparableSpec():
            return [Activation(after, block.input_filters), Activation(after, block.filters)]
        case BottleneckSpec():
            inner = [Activation(before, block.inner_filters), Activation(after, block.inner_filters)]
            shortcut = [Activation(after, block.filters)] if block.has_projection else []
            return [*inner, *shortcut, Activation(after, block.filters)]
