"""The search space that the paper names: MnasNet's factorized hierarchical one, over the stages of EfficientNet-B0.

MnasNet calls a stage a block. Six things are chosen for each block, all of whose layers are alike. That makes 432
choices for a block, as MnasNet states, and 432^7 networks of seven blocks. MnasNet does not list the expansion as a
choice; with separable, MBConv3 and MBConv6 among the operations the product is its 432.

Source: Tan et al. 2019 (MnasNet), section 4.1. No TensorFlow.
"""

import functools
import itertools
import math
import operator
import random
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import (
    NUM_IMAGENET_CLASSES,
    VARIANTS,
    PlacedConvolution,
    Skip,
    Stage,
    Variant,
    output_size,
    placed_convolutions,
)
from efficientnet_tpu.models.complexity import Complexity, count_convolution
from efficientnet_tpu.models.scaling import FILTER_DIVISOR, scale, scale_stage, scaled_repeats

# The kind of the layers and their expansion, by operation. A separable convolution is an MBConv without expansion, a
# convolution a Fused-MBConv without expansion.
OPERATIONS = {
    "conv": ("fused_mbconv", 1),
    "separable": ("mbconv", 1),
    "mbconv3": ("mbconv", 3),
    "mbconv6": ("mbconv", 6),
}


@dataclass(frozen=True)
class BlockChoice:
    """The choices for a block. filters: a factor of the skeleton's filters. layers: added to the skeleton's layers."""

    operation: str
    kernel_size: int
    se_ratio: float
    skip: Skip
    filters: float
    layers: int


# The values of each field of BlockChoice.
CHOICES: dict[str, tuple[Any, ...]] = {
    "operation": tuple(OPERATIONS),
    "kernel_size": (3, 5),
    "se_ratio": (0.0, 0.25),
    "skip": ("identity", "none", "pool"),
    "filters": (0.75, 1.0, 1.25),
    "layers": (-1, 0, 1),
}
CHOICES_PER_BLOCK = math.prod(map(len, CHOICES.values()))

Network = tuple[BlockChoice, ...]  # a point of the space: a choice for each block


@dataclass(frozen=True)
class Cost:
    """The cost of a network: trainable parameters, and multiply-adds of one image."""

    params: int
    multiply_adds: int


class SearchSpace:
    """All networks that the choices make of the stages of a skeleton.

    Attributes: `skeleton`, the network whose stages are changed, with its coefficients; `num_values`, the number of
    values of each token of a network.
    """

    def __init__(
        self, skeleton: Variant = VARIANTS["efficientnet-b0"], num_classes: int = NUM_IMAGENET_CLASSES
    ) -> None:
        self.skeleton = skeleton
        self.num_values = tuple(map(len, CHOICES.values())) * len(skeleton.baseline.stages)
        self._unchanged = scale("skeleton", skeleton, num_classes)
        self._stem_cost = _cost(self._unchanged.stem(skeleton.resolution))
        # A search asks for the cost of very many networks, which have most of their blocks in common.
        self._block_cost = functools.cache(self._count_block)
        self._head_cost = functools.cache(self._count_head)

    @property
    def num_networks(self) -> int:
        """Returns the number of points. Some are one network: a block of one layer cannot lose it."""
        return math.prod(self.num_values)

    def skeleton_network(self) -> Network:
        """Returns the point that is the skeleton. Raises ValueError where the space does not hold it."""
        return tuple(_choice_of(stage, self.skeleton.se_ratio) for stage in self.skeleton.baseline.stages)

    def sample(self, generator: random.Random) -> Network:
        """Returns a point; all have the same probability."""
        return from_tokens([generator.randrange(number) for number in self.num_values])

    def mutate(self, network: Network, generator: random.Random) -> Network:
        """Returns a point that differs in one choice."""
        tokens = list(to_tokens(network))
        place = generator.randrange(len(tokens))
        tokens[place] = (tokens[place] + generator.randrange(1, self.num_values[place])) % self.num_values[place]
        return from_tokens(tokens)

    def crossover(self, first: Network, second: Network, generator: random.Random) -> Network:
        """Returns a point each of whose blocks is the first's or the second's."""
        return tuple(generator.choice(pair) for pair in zip(first, second, strict=True))

    def stages(self, network: Network) -> tuple[Stage, ...]:
        """Returns the network's table of stages, before scaling."""
        return tuple(_stage(row, choice) for row, choice in zip(self.skeleton.baseline.stages, network, strict=True))

    def variant(self, network: Network) -> Variant:
        """Returns the network with the skeleton's coefficients."""
        return replace(self.skeleton, baseline=replace(self.skeleton.baseline, stages=self.stages(network)))

    def cost(self, network: Network) -> Cost:
        """Returns what `complexity.count` counts; the costs of blocks are kept."""
        size = self._unchanged.resolution
        costs, size = [self._stem_cost], self._unchanged.stem_output_size(size)
        filters = self._unchanged.stem_filters
        for index, choice in enumerate(network):
            cost, filters, size = self._block_cost(index, _without_skip(choice), filters, size)
            costs.append(cost)
        costs.append(self._head_cost(filters, size))
        return Cost(sum(cost.params for cost in costs), sum(cost.multiply_adds for cost in costs))

    def _count_block(self, index: int, choice: BlockChoice, filters: int, size: int) -> tuple[Cost, int, int]:
        """Returns the cost of block `index`, and the channels and the side of the map that it writes."""
        baseline = self.skeleton.baseline
        stages = list(baseline.stages)
        stages[index] = stage = _stage(stages[index], choice)
        variant = replace(self.skeleton, baseline=replace(baseline, stages=tuple(stages)))
        rows: list[PlacedConvolution] = []
        for layer in scale_stage(index + 1, stage, scaled_repeats(variant)[index], filters, variant):
            rows += placed_convolutions(layer, 0, size)
            filters, size = layer.filters, output_size(size, layer.strides)
        return _cost(*rows), filters, size

    def _count_head(self, filters: int, size: int) -> Cost:
        return _cost(*self._unchanged.head(filters, size))


def to_tokens(network: Network) -> tuple[int, ...]:
    """Returns the place of each choice among its values, six for each block."""
    return tuple(
        values.index(value)
        for choice in network
        for value, values in zip(astuple(choice), CHOICES.values(), strict=True)
    )


def from_tokens(tokens: Sequence[int]) -> Network:
    """Returns the network that `to_tokens` gives these tokens for."""
    return tuple(
        _choices()[tuple(tokens[first : first + len(CHOICES)])] for first in range(0, len(tokens), len(CHOICES))
    )


def encode(network: Network) -> str:
    """Returns a name of the network: its tokens as digits, block by block, as in 100101-310110."""
    digits = "".join(map(str, to_tokens(network)))
    return "-".join(digits[first : first + len(CHOICES)] for first in range(0, len(digits), len(CHOICES)))


def decode(text: str, space: SearchSpace) -> Network:
    """Returns the network that `encode` gives this name. Raises UserError for a text that is none."""
    tokens = [int(digit) for digit in text if digit.isdecimal()]
    if len(tokens) != len(space.num_values) or any(map(operator.ge, tokens, space.num_values)):
        raise _not_a_name(text, space)
    network = from_tokens(tokens)
    if encode(network) != text:
        raise _not_a_name(text, space)
    return network


def _not_a_name(text: str, space: SearchSpace) -> UserError:
    blocks = len(space.num_values) // len(CHOICES)
    limits = ", ".join(f"{name} below {len(values)}" for name, values in CHOICES.items())
    return UserError(
        f"{text[:80]}: names no network of the search space: {blocks} blocks of six digits with - between ({limits})."
    )


@functools.cache
def _choices() -> dict[tuple[int, ...], BlockChoice]:
    """Returns the choices for a block by their tokens."""
    places = itertools.product(*(range(len(values)) for values in CHOICES.values()))
    return {
        tokens: BlockChoice(*(values[token] for token, values in zip(tokens, CHOICES.values(), strict=True)))
        for tokens in places
    }


@functools.cache
def _without_skip(choice: BlockChoice) -> BlockChoice:
    """Returns a choice of the same cost: what is added to a block's output is not counted."""
    return replace(choice, skip="none")


def _stage(row: Stage, choice: BlockChoice) -> Stage:
    """Returns the row of a table of stages that a choice makes of the skeleton's row."""
    kind, expand_ratio = OPERATIONS[choice.operation]
    return Stage(
        repeats=max(1, row.repeats + choice.layers),
        kernel_size=choice.kernel_size,
        strides=row.strides,
        expand_ratio=expand_ratio,
        filters=scaled_filters(row.filters, choice.filters),
        block=kind,
        se_ratio=choice.se_ratio,
        skip=choice.skip,
    )


def scaled_filters(filters: int, factor: float) -> int:
    """Returns filters * factor as the nearest multiple of 8; another than `filters` unless the factor is 1."""
    if factor == 1:
        return filters
    found = math.floor(filters * factor / FILTER_DIVISOR + 0.5) * FILTER_DIVISOR
    if found == filters:
        found += FILTER_DIVISOR if factor > 1 else -FILTER_DIVISOR
    return max(FILTER_DIVISOR, found)


def _choice_of(row: Stage, se_ratio: float) -> BlockChoice:
    """Returns the choice that leaves a row of the skeleton as it is. Raises ValueError where there is none."""
    operations = {made: operation for operation, made in OPERATIONS.items()}
    choice = BlockChoice(
        operations.get((row.block, row.expand_ratio), ""),
        row.kernel_size,
        se_ratio if row.se_ratio is None else row.se_ratio,
        row.skip,
        filters=1.0,
        layers=0,
    )
    to_tokens((choice,))
    return choice


def _cost(*rows: PlacedConvolution) -> Cost:
    counted = sum(map(count_convolution, rows), start=Complexity())
    return Cost(counted.trainable_params, counted.multiply_adds)
