"""The layers of our network that hold weights, as records: what every naming of other people's files is told from.

Pure: an architecture in, names and shapes out, so that a file can be compared with a model before one is built.
"""

from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Architecture, MBConvSpec

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where a block stands; all numbers from 0."""

    block: int  # in the network
    stage: int
    in_stage: int
    expands: bool  # whether it has an expansion


@dataclass(frozen=True)
class WeightedLayer:
    """A layer with weights. `role` is its name in the block: expand_conv, depthwise_bn, se_reduce, ...

    `kind` says which variables it has: conv, biased_conv, depthwise, batch_norm or dense.
    """

    role: str
    kind: str
    shapes: dict[str, Shape]  # by variable, in Keras' order and layout
    place: Place | None = None  # None: stem, head and classifier

    @property
    def name(self) -> str:
        """In our models."""
        return self.role if self.place is None else f"block_{self.place.block}_{self.role}"


def weighted_layers(architecture: Architecture) -> tuple[WeightedLayer, ...]:
    """In the order data passes through them. Raises UserError for a network of another kind of block."""
    stem, head = architecture.stem_filters, architecture.head_filters
    last = architecture.blocks[-1].filters
    layers = [_conv("stem_conv", 3, 3, stem), _batch_norm("stem_bn", stem)]
    in_stage = 0
    for number, block in enumerate(architecture.blocks):
        if not isinstance(block, MBConvSpec):
            raise UserError(f"--model={architecture.name}: weights can be imported for EfficientNets only.")
        in_stage = in_stage + 1 if number and architecture.blocks[number - 1].stage == block.stage else 0
        layers += _block_layers(block, Place(number, block.stage - 1, in_stage, block.expand_ratio != 1))
    layers += [_conv("head_conv", 1, last, head), _batch_norm("head_bn", head)]
    shapes = {"kernel": (head, architecture.num_classes), "bias": (architecture.num_classes,)}
    return (*layers, WeightedLayer("classifier", "dense", shapes))


def target_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Shape of every weight of our model, by layer/variable."""
    return {
        f"{layer.name}/{variable}": shape
        for layer in weighted_layers(architecture)
        for variable, shape in layer.shapes.items()
    }


def _block_layers(block: MBConvSpec, place: Place) -> list[WeightedLayer]:
    expanded = block.expanded_filters
    layers = []
    if place.expands:
        layers += [
            _conv("expand_conv", 1, block.input_filters, expanded, place),
            _batch_norm("expand_bn", expanded, place),
        ]
    size = block.kernel_size
    layers += [
        WeightedLayer("depthwise_conv", "depthwise", {"kernel": (size, size, expanded, 1)}, place),
        _batch_norm("depthwise_bn", expanded, place),
    ]
    if block.se_filters:
        layers += [
            _biased_conv("se_reduce", expanded, block.se_filters, place),
            _biased_conv("se_expand", block.se_filters, expanded, place),
        ]
    return [
        *layers,
        _conv("project_conv", 1, expanded, block.filters, place),
        _batch_norm("project_bn", block.filters, place),
    ]


def _conv(role: str, size: int, inputs: int, outputs: int, place: Place | None = None) -> WeightedLayer:
    return WeightedLayer(role, "conv", {"kernel": (size, size, inputs, outputs)}, place)


def _biased_conv(role: str, inputs: int, outputs: int, place: Place) -> WeightedLayer:
    return WeightedLayer(role, "biased_conv", {"kernel": (1, 1, inputs, outputs), "bias": (outputs,)}, place)


def _batch_norm(role: str, filters: int, place: Place | None = None) -> WeightedLayer:
    variables = ("gamma", "beta", "moving_mean", "moving_variance")
    return WeightedLayer(role, "batch_norm", dict.fromkeys(variables, (filters,)), place)
