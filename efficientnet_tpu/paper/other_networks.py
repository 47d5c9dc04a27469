"""The networks that the paper compares itself with, counted from keras.applications so that ratios are our own.

ResNet-50, which is also a model here, has that one's count, in Table 3 too.

Building them takes a minute, so the counts are stored in other_networks.json, which
`python -m efficientnet_tpu.paper.other_networks` writes.
"""

import functools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientnet_tpu.models.complexity import Complexity, count
from efficientnet_tpu.models.compound_scaling import build_architecture

if TYPE_CHECKING:
    import keras

FILE = Path(__file__).parent / "other_networks.json"
# The image sides at which the accuracies in Table 2 were measured.
RESOLUTIONS = {
    "ResNet152": 224,
    "DenseNet169": 224,
    "DenseNet264": 224,
    "InceptionV3": 299,
    "InceptionResNetV2": 299,
    "Xception": 299,
    "NASNetLarge": 331,
}
BUILT_HERE = {"ResNet50": "resnet-50"}  # models of ours
# Blocks of DenseNet-264 (Huang et al. 2017, Table 1), which keras.applications has no name for.
DENSENET_264 = (6, 12, 64, 48)


@functools.cache
def counts(name: str) -> tuple[int, int]:
    """Returns trainable parameters and multiply-adds of a network in BUILT_HERE or, stored, in RESOLUTIONS."""
    if name in BUILT_HERE:
        cost = count(build_architecture(BUILT_HERE[name]))
        return cost.trainable_params, cost.multiply_adds
    entry = json.loads(FILE.read_text())["models"][name]
    return entry["trainable_params"], entry["multiply_adds"]


def measure(name: str) -> dict[str, int]:
    """Builds a network with random weights and returns its entry for other_networks.json."""
    cost = count_model(build(name), RESOLUTIONS[name])
    return {
        "resolution": RESOLUTIONS[name],
        "trainable_params": cost.trainable_params,
        "multiply_adds": cost.multiply_adds,
    }


def build(name: str) -> "keras.Model":
    """Builds the Keras model of a name in RESOLUTIONS with random weights."""
    import keras

    side = RESOLUTIONS[name]
    options = {"weights": None, "input_shape": (side, side, 3)}
    if name == "DenseNet264":
        from keras.src.applications.densenet import DenseNet  # no public name

        return DenseNet(DENSENET_264, **options)
    builders = {
        "ResNet152": keras.applications.ResNet152,
        "DenseNet169": keras.applications.DenseNet169,
        "InceptionV3": keras.applications.InceptionV3,
        "InceptionResNetV2": keras.applications.InceptionResNetV2,
        "Xception": keras.applications.Xception,
        "NASNetLarge": keras.applications.NASNetLarge,
    }
    return builders[name](**options)


def count_model(model: "keras.Model", resolution: int) -> Complexity:
    """Counts any Keras model by the rules of `complexity`, layer by layer: convolutions and dense layers.

    resolution: the image side in pixels. All multiply-adds count as those of convolutions. Raises ValueError at a layer
        that has weights and is of no known kind.
    """
    import keras

    # A clone for images of this side, so that Keras knows the size of every map.
    inputs = keras.Input((resolution, resolution, 3))
    fixed = keras.models.clone_model(model, input_tensors=inputs)
    multiply_adds = sum(_count_multiply_adds(layer) for layer in fixed.layers)
    trainable = sum(math.prod(weight.shape) for weight in fixed.trainable_weights)
    return Complexity(trainable, fixed.count_params() - trainable, conv_multiply_adds=multiply_adds)


def _count_multiply_adds(layer: Any) -> int:
    from keras import layers

    def is_a(*kinds: type) -> bool:
        return isinstance(layer, kinds)

    if is_a(layers.SeparableConv2D):
        kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        return math.prod(layer.output.shape[1:3]) * kernels
    if is_a(layers.Conv2D, layers.DepthwiseConv2D):
        return math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
    if is_a(layers.Dense):
        return math.prod(layer.kernel.shape)
    if layer.weights and "normalization" not in type(layer).__name__.lower():
        raise ValueError(f"{layer.name}: cannot count a {type(layer).__name__}")
    return 0


def main() -> None:
    """Writes other_networks.json."""
    import keras

    models = {}
    for name in RESOLUTIONS:
        models[name] = measure(name)
        keras.backend.clear_session()
        print(name, models[name], flush=True)
    note = (
        f"Counted from keras.applications {keras.__version__} by `python -m efficientnet_tpu.paper.other_networks`, at "
        "1000 classes; multiply_adds of one image: convolutions and dense layers."
    )
    FILE.write_text(json.dumps({"_source": note, "models": models}, indent=1) + "\n")


if __name__ == "__main__":
    main()
