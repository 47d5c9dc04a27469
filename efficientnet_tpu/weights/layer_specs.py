"""Records of all layers with weights, from which each naming scheme derives the tensor names of a foreign file.

No TensorFlow: a file can be compared with a model before one is built.
"""

from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Architecture

Shape = tuple[int, ...]
# WeightedLayer.kind by Convolution.kind.
LAYER_KINDS = {
    "stem": "conv",
    "convolution": "conv",
    "depthwise": "depthwise",
    "squeeze_excite": "biased_conv",
    "classifier": "dense",
}


@dataclass(frozen=True)
class Place:
    """The position of a block; all numbers from 0."""

    block: int  # in the network
    stage: int
    in_stage: int
    expands: bool  # whether it has an expand_conv


@dataclass(frozen=True)
class WeightedLayer:
    """A layer with weights. `role` is its name in the block: expand_conv, depthwise_bn, se_reduce, ...

    `kind` decides which variables it has: conv, biased_conv, depthwise, batch_norm or dense.
    """

    role: str
    kind: str
    shapes: dict[str, Shape]  # by variable, in Keras' order and layout
    place: Place | None = None  # None: stem, head and classifier

    @property
    def name(self) -> str:
        """Returns the name of the layer in our models."""
        return self.role if self.place is None else f"block_{self.place.block}_{self.role}"


def weighted_layers(architecture: Architecture) -> tuple[WeightedLayer, ...]:
    """Returns the layers in the order in which data passes through them.

    Raises UserError for a network with blocks of another kind than MBConv, which no naming scheme knows.
    """
    if any(block.kind != "mbconv" for block in architecture.blocks):
        raise UserError(f"--model={architecture.name}: weights can be imported for EfficientNets only.")
    places = block_places(architecture)
    layers = []
    for row in architecture.convolutions():
        convolution, place = row.convolution, None if row.block is None else places[row.block]
        shapes: dict[str, Shape] = {"kernel": convolution.kernel_shape}
        if convolution.use_bias:
            shapes["bias"] = (convolution.filters,)
        layers.append(WeightedLayer(convolution.name, LAYER_KINDS[convolution.kind], shapes, place))
        if convolution.batch_norm:
            variables = ("gamma", "beta", "moving_mean", "moving_variance")
            role = convolution.name.replace("_conv", "_bn")
            layers.append(WeightedLayer(role, "batch_norm", dict.fromkeys(variables, (convolution.filters,)), place))
    return tuple(layers)


def block_places(architecture: Architecture) -> list[Place]:
    """Returns the place of every block of the network."""
    places = []
    for number, block in enumerate(architecture.blocks):
        starts_stage = not number or architecture.blocks[number - 1].stage != block.stage
        in_stage = 0 if starts_stage else places[-1].in_stage + 1
        expands = any(convolution.name == "expand_conv" for convolution in block.convolutions())
        places.append(Place(number, block.stage - 1, in_stage, expands))
    return places


def target_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Returns the shape of every weight of our model, by layer/variable."""
    return {
        f"{layer.name}/{variable}": shape
        for layer in weighted_layers(architecture)
        for variable, shape in layer.shapes.items()
    }
