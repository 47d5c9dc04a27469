"""Keras files compute here what they do in Keras: with heads and pixels of their owners' own, nested or flat."""

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.applications import efficientnet as keras_efficientnet

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run import run_record
from tests.support.importing import import_weights, imported_logits

SIZE = (40, 40)
WAYS = ("model.keras", "model.h5", "only.weights.h5")


@pytest.fixture
def backbone(weight_files):
    """A function: whether with ImageNet's statistics -> keras.applications' tiny network without its head."""
    keras.utils.set_random_seed(0)  # of heads too: an initializer draws its seed when its layer is made

    def build(imagenet=False):
        model = keras_efficientnet.EfficientNet(
            weight_files.WIDTH, weight_files.DEPTH, 224, name="tiny", weights=None, include_top=False,
            input_shape=(*SIZE, 3),
        )  # fmt: skip
        weight_files.randomise(model)
        if imagenet:
            normalization = next(layer for layer in model.layers if isinstance(layer, layers.Normalization))
            normalization.adapt_mean.assign(weight_files.MEAN)
            normalization.adapt_variance.assign(weight_files.STD)
            normalization.finalize_state()
        return model

    return build


def _flat(body, *head):
    x = layers.GlobalAveragePooling2D()(body.output)
    for layer in head:
        x = layer(x)
    return keras.Model(body.input, x)


def _nested(body, *head):
    images = keras.Input((*SIZE, 3))
    x = layers.GlobalAveragePooling2D()(body(layers.RandomFlip()(images), training=False))
    for layer in head:
        x = layer(x)
    return keras.Model(images, x)


def _sequence(body, *head):
    augmentation = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)])
    return keras.Sequential([keras.Input((*SIZE, 3)), augmentation, body, layers.GlobalAveragePooling2D(), *head])


def _save(model, path):
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    return path


ARRANGEMENTS = [
    pytest.param(_flat, "model.keras", marks=pytest.mark.slow),
    (_nested, "only.weights.h5"),
    *(pytest.param(_nested, name, marks=pytest.mark.slow) for name in WAYS if name != "only.weights.h5"),
    pytest.param(_sequence, "only.weights.h5", marks=pytest.mark.slow),
    pytest.param(_flat, "model.h5", marks=pytest.mark.slow),
    pytest.param(_flat, "only.weights.h5", marks=pytest.mark.slow),
    pytest.param(_sequence, "model.keras", marks=pytest.mark.slow),
    pytest.param(_sequence, "model.h5", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arrangement", "name"), ARRANGEMENTS)
def test_a_head_of_ones_own_is_the_classifier(backbone, weight_files, tmp_path, arrangement, name):
    dense = layers.Dense(5, bias_initializer="random_normal", name="flowers")
    model = arrangement(backbone(), layers.Dropout(0.2), dense)
    pixels = weight_files.images(size=SIZE)
    expected = model(pixels.astype(np.float32), training=False).numpy()
    dense.activation = keras.activations.softmax  # stored so; the logits are compared
    facts = import_weights(_save(model, tmp_path / name), tmp_path / "out", *weight_files.TINY_FLAGS)
    assert facts["num_classes"] == 5
    assert run_record.load(f"{tmp_path}/out").config.model.normalization == "unit"
    np.testing.assert_allclose(imported_logits(tmp_path / "out", pixels), expected, atol=1e-4 * abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 0.02
    assert "classifier/kernel  <-  flowers/kernel" in (tmp_path / "out" / "mapping.txt").read_text()
    if name != "only.weights.h5":
        # Keras itself has loaded the file, and the whole of it.
        assert facts["parity"]["difference"] <= facts["parity"]["accepted"]
        assert facts["preprocessing"]["resolution"] == SIZE[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.keras", "only.weights.h5"])
def test_what_a_file_computes_with_imagenets_statistics(backbone, weight_files, tmp_path, name):
    """The published files hold the deviation as variance, which another layer corrects. A model without it does not."""
    path = _save(_nested(backbone(imagenet=True), layers.Dense(3)), tmp_path / name)
    import_weights(path, tmp_path / "out", *weight_files.TINY_FLAGS)
    stated = run_record.load(f"{tmp_path}/out").config.model.normalization
    assert stated == ("model" if name == "only.weights.h5" else "imagenet-sqrt-std")


@pytest.mark.slow
def test_the_layer_that_corrects_the_statistics_counts(backbone, weight_files, tmp_path):
    body = backbone(imagenet=True)
    # As keras.applications builds a network with weights="imagenet", between normalization and stem.
    images = keras.Input((*SIZE, 3))
    x = images
    for layer in body.layers[1:3]:
        x = layer(x)
    x = layers.Rescaling((1 / np.sqrt(weight_files.STD)).tolist())(x)
    rest = keras.Model(body.layers[3].input, body.output, name="rest")
    model = keras.Model(
        images, layers.Dense(3, bias_initializer="random_normal")(layers.GlobalAveragePooling2D()(rest(x)))
    )
    import_weights(_save(model, tmp_path / "model.keras"), tmp_path / "out", *weight_files.TINY_FLAGS)
    assert run_record.load(f"{tmp_path}/out").config.model.normalization == "model"
    pixels = weight_files.images(size=SIZE)
    expected = model(pixels.astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(imported_logits(tmp_path / "out", pixels), expected, atol=1e-4 * abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.keras", "only.weights.h5"])
def test_one_output_of_a_sigmoid_is_two_classes(backbone, weight_files, tmp_path, name):
    model = _nested(backbone(), layers.Dense(1, activation="sigmoid", bias_initializer="random_normal"))
    facts = import_weights(_save(model, tmp_path / name), tmp_path / "out", *weight_files.TINY_FLAGS)
    assert facts["num_classes"] == 2
    pixels = weight_files.images(size=SIZE)
    logits = imported_logits(tmp_path / "out", pixels)
    expected = model(pixels.astype(np.float32), training=False).numpy()[:, 0]
    np.testing.assert_allclose(keras.ops.softmax(logits)[:, 1], expected, atol=1e-5)


HEADS = {
    "two layers": lambda: (layers.Dense(16, activation="relu"), layers.Dense(5)),
    "batch norm": lambda: (layers.BatchNormalization(), layers.Dense(5)),
    "another activation": lambda: (layers.Dense(5, activation="tanh"),),
    "a layer behind it": lambda: (layers.Dense(5), layers.Rescaling(2.0)),
}


@pytest.mark.parametrize(
    "head", [pytest.param(head, marks=() if head == "two layers" else pytest.mark.slow) for head in HEADS]
)
def test_any_other_head_is_left_to_init_from(backbone, weight_files, tmp_path, capsys, head):
    from efficientnet_tpu.config.config import Config, with_options
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.weights.assign_weights import weights_by_name
    from efficientnet_tpu.weights.warm_start import start_from

    body = backbone()
    path = _save(_nested(body, *HEADS[head]()), tmp_path / "model.keras")
    with pytest.raises(UserError, match=f"no classifier that this program knows.* --init_from={path}"):
        import_weights(path, tmp_path / "out", *weight_files.TINY_FLAGS)
    said = capsys.readouterr().out
    assert "the head of the file is not one Dense layer over the 128 pooled features" in said
    tiny = {"width_coefficient": weight_files.WIDTH, "depth_coefficient": weight_files.DEPTH}
    architecture = weight_files.tiny(classes=4)
    model, average = build_model(architecture), build_model(architecture)
    said = start_from(str(path), model, average, with_options(Config(), tiny), ("a", "b", "c", "d"))
    assert "the classifier of 4 classes is new" in said
    kernel = weights_by_name(model)["stem_conv/kernel"].numpy()
    np.testing.assert_array_equal(kernel, body.get_layer("stem_conv").kernel.numpy())


def test_pooling_by_the_maximum_is_no_average(backbone, weight_files, tmp_path):
    body = backbone()
    model = keras.Model(body.input, layers.Dense(5)(layers.GlobalMaxPooling2D()(body.output)))
    with pytest.raises(UserError, match="no classifier that this program knows"):
        import_weights(_save(model, tmp_path / "model.keras"), tmp_path / "out", *weight_files.TINY_FLAGS)


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (lambda: layers.Rescaling(1 / 127.5, offset=-1), "normalised as"),
        (layers.UnitNormalization, "UnitNorm"),
    ],
    ids=["scaled twice", "an unknown layer"],
)
def test_pixels_that_have_no_name_here_are_refused(backbone, weight_files, tmp_path, before, message):
    images = keras.Input((*SIZE, 3))
    model = keras.Model(images, layers.Dense(5)(layers.GlobalAveragePooling2D()(backbone()(before()(images)))))
    with pytest.raises(UserError, match=message):
        import_weights(_save(model, tmp_path / "model.keras"), tmp_path / "out", *weight_files.TINY_FLAGS)


def test_layers_of_others_are_not_executed(backbone, weight_files, tmp_path, monkeypatch):

    path = _save(_nested(backbone(), layers.Dropout(0.1), layers.Dense(3)), tmp_path / "plain.keras")
    from efficientnet_tpu.weights import keras_applications
    from efficientnet_tpu.weights.readers import hdf5_reader, keras_graph

    text = hdf5_reader.model_description(str(path)).decode()
    assert keras_graph.read_graph(text).is_plain
    for stranger in (
        text.replace('"class_name": "Dropout"', '"class_name": "Lambda"'),
        text.replace('"module": "keras.layers", "class_name": "Dropout"', '"module": "os", "class_name": "Dropout"'),
        text.replace('"registered_name": "Functional"', '"registered_name": "strangers>Functional"'),
    ):
        assert stranger != text
        assert not keras_graph.read_graph(stranger).is_plain
    monkeypatch.setattr(keras_applications, "load_whole", lambda *_: pytest.fail("it was loaded"))
    monkeypatch.setattr(keras_graph, "_PLAIN", set())
    facts = import_weights(path, tmp_path / "out", *weight_files.TINY_FLAGS)
    assert "would have to be executed" in facts["parity"]["note"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"class_name": "Functional", "config": {"layers": [{}]}}',
        '{"class_name": "Sequential", "config": 3}',
    ],
)
def test_damaged_descriptions(tf, text):
    from efficientnet_tpu.weights.readers import keras_graph
    from efficientnet_tpu.weights.readers.stored_tensor import READ_ERRORS

    with pytest.raises(READ_ERRORS):
        keras_graph.read_graph(text)
