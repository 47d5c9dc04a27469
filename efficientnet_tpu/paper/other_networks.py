"""Networks the paper compares itself with, counted from keras.applications, so that ratios are ours and not copied.

Building them takes a minute, hence a file, other_networks.json; `python -m efficientnet_tpu.paper.other_networks`
writes it.
"""

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

FILE = Path(__file__).parent / "other_networks.json"
# Image sides are those the accuracies in Table 2 were measured at.
RESOLUTIONS = {
    "ResNet50": 224,
    "ResNet152": 224,
    "DenseNet169": 224,
    "DenseNet264": 224,
    "InceptionV3": 299,
    "InceptionResNetV2": 299,
    "Xception": 299,
    "NASNetLarge": 331,
}
# Blocks of DenseNet-264 (Huang et al. 2017, Table 1), which keras.applications has no name for.
DENSENET_264 = (6, 12, 64, 48)


@functools.cache
def counts(name: str) -> tuple[int, int]:
    """Trainable parameters and multiply-adds of a network of RESOLUTIONS, from other_networks.json."""
    entry = json.loads(FILE.read_text())["models"][name]
    return entry["trainable_params"], entry["multiply_adds"]


def measure(name: str) -> dict[str, int]:
    """Builds a network with random weights and counts it."""
    from efficientnet_tpu.paper.keras_complexity import count_model

    cost = count_model(build(name), RESOLUTIONS[name])
    return {
        "resolution": RESOLUTIONS[name],
        "trainable_params": cost.trainable_params,
        "multiply_adds": cost.multiply_adds,
    }


def build(name: str) -> "keras.Model":
    """The Keras model of a name in RESOLUTIONS, randomly initialised."""
    import keras

    side = RESOLUTIONS[name]
    options = {"weights": None, "input_shape": (side, side, 3)}
    if name == "DenseNet264":
        from keras.src.applications.densenet import DenseNet  # no public name

        return DenseNet(DENSENET_264, **options)
    builders = {
        "ResNet50": keras.applications.ResNet50,
        "ResNet152": keras.applications.ResNet152,
        "DenseNet169": keras.applications.DenseNet169,
        "InceptionV3": keras.applications.InceptionV3,
        "InceptionResNetV2": keras.applications.InceptionResNetV2,
        "Xception": keras.applications.Xception,
        "NASNetLarge": keras.applications.NASNetLarge,
    }
    return builders[name](**options)


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
