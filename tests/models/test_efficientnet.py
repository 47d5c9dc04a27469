"""The built networks are the published ones: counted, measured, and against keras.applications logit by logit."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu.models import complexity
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.models.stage_table import inline
from tests.support.mixed_network import MIXED
from tests.support.small_training import Training, draw_batch

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())
PUBLISHED = [name for name in GOLDEN if not name.startswith("_")]


def slow_but(*quick):
    """All published models; those not named take longer to build than a fast test may (L2 also takes two gigabytes)."""
    return [pytest.param(name, marks=() if name.endswith(quick) else pytest.mark.slow) for name in PUBLISHED]


@pytest.fixture(scope="module")
def efficientnet(tf):
    from efficientnet_tpu.models import efficientnet

    return efficientnet


@pytest.fixture(scope="module")
def nano(efficientnet):
    return efficientnet.build_model(build_architecture("efficientnet-nano", num_classes=7))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")


def batch_norms(model):
    from efficientnet_tpu.models.layers import BatchNormalization

    return [layer for layer in model.layers if isinstance(layer, BatchNormalization)]


def size(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize("name", slow_but("b0", "lite0"))
def test_published_parameters(tf, name):
    from efficientnet_tpu.models.build import build_model

    golden, architecture = GOLDEN[name], build_architecture(name)
    model = build_model(architecture)
    assert model.name == name
    assert size(model.trainable_weights) == golden["params_trainable"]
    assert size(model.weights) == model.count_params() == golden["params_total"]
    if "trainable_tensors" in golden:  # not published for Lite
        assert len(model.trainable_weights) == golden["trainable_tensors"]
        assert len(batch_norms(model)) == golden["bn_layers"]
    cost = complexity.count(architecture)
    assert (cost.trainable_params, cost.moving_params) == (
        size(model.trainable_weights),
        size(model.non_trainable_weights),
    )


@pytest.mark.slow
def test_networks_may_be_deeper_than_pythons_stack(tf):
    """As a whole, and the part of one that fine-tuning takes."""
    import keras

    from efficientnet_tpu.models.build import build_model

    model = build_model(build_architecture("efficientnet-nano", depth_coefficient=9.0))
    assert len(model.layers) > 1400
    part = keras.Model(model.inputs[0], model.layers[-3].output)
    assert len(part.layers) == len(model.layers) - 2


@pytest.mark.parametrize("name", slow_but("b0", "lite0"))
def test_features(efficientnet, name):
    import keras

    golden, architecture = GOLDEN[name], build_architecture(name)
    features = efficientnet.build_features(architecture)
    endpoints = features(keras.Input((architecture.resolution, architecture.resolution, 3)))
    widths = [golden["stage_widths"][stage - 1] for stage in (1, 2, 3, 5, 7)]
    assert list(endpoints) == [f"reduction_{level}" for level in range(1, 6)]
    assert [endpoint.shape for endpoint in endpoints.values()] == [
        (None, side, side, width) for side, width in zip(golden["reduction_hw"], widths, strict=True)
    ]
    classifier = (architecture.head_filters + 1) * 1000
    head = architecture.blocks[-1].filters * architecture.head_filters + 4 * architecture.head_filters
    assert features.count_params() == golden["params_total"] - classifier - head


# Sides of 224 pixels are even down to the last map; those of 300 are odd on the way (75, 19): SAME pads differently.
@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("efficientnet-b0", "EfficientNetB0"),
        pytest.param("efficientnet-b3", "EfficientNetB3", marks=pytest.mark.slow),
    ],
)
def test_logits_are_those_of_keras_applications(efficientnet, name, twin):
    import keras

    draw = np.random.default_rng(0)
    architecture = dataclasses.replace(build_architecture(name), batch_norm_momentum=0.0)
    side = architecture.resolution
    images = draw.uniform(0, 255, (2, side, side, 3)).astype("float32")
    ours = efficientnet.build_model(architecture)
    theirs = getattr(keras.applications, twin)(weights=None, classifier_activation=None, input_shape=(side, side, 3))
    # Every weight random, none zero or one; moving statistics near the true ones, so that the signal lives to the end.
    for weight in ours.weights:
        if weight.name in ("gamma", "beta", "bias"):
            weight.assign(draw.normal(1.0 if weight.name == "gamma" else 0.0, 0.2, weight.shape))
    ours(images, training=True)
    for weight in ours.non_trainable_weights:
        weight.assign(weight * draw.uniform(0.8, 1.25, weight.shape).astype("float32"))
    # Mean, variance and count of their normalisation come first; they do nothing.
    identity, weights = theirs.get_weights()[:3], ours.get_weights()
    theirs.set_weights(identity + weights)
    # They take images, divide by 255 and do not know the channels' statistics.
    normalised = 255 * (images - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    expected = theirs(normalised, training=False).numpy()
    np.testing.assert_allclose(ours(images, training=False), expected, rtol=1e-4, atol=1e-4 * expected.std())


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("efficientnet-b0", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ("efficientnet-lite0", [127.0] * 3, [128.0] * 3),
    ],
)
def test_images_are_normalised_inside(efficientnet, images, name, mean, std):
    import keras

    family = build_architecture(name)
    small = dataclasses.replace(build_architecture("efficientnet-nano"), mean=family.mean, std=family.std)
    model = efficientnet.build_model(small)
    normalised = keras.Model(model.input, model.get_layer("normalization").output)(images)
    np.testing.assert_allclose(normalised, (images - np.array(mean)) / np.array(std), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bfloat16"])
def test_images_of_any_number_type(tf, nano, images, dtype):
    expected = nano(images).numpy()
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(nano(tf.cast(images, dtype)), expected)


@pytest.mark.parametrize("sides", [(16, 16), (33, 33), (64, 40), (1, 1)])
def test_images_of_any_size(nano, sides):
    logits = nano(np.zeros((3, *sides, 3), "uint8"))
    assert logits.shape == (3, 7)
    assert np.isfinite(logits).all()


def test_dropout_where_the_recipe_has_it(efficientnet):
    from efficientnet_tpu.models.layers import Dropout

    model = efficientnet.build_model(build_architecture("efficientnet-b0", num_classes=10))
    *depth, last = [layer for layer in model.layers if isinstance(layer, Dropout)]
    expected = [(f"block_{block}_drop", rate) for block, rate in GOLDEN["efficientnet-b0"]["drop_rate_residual_blocks"]]
    assert [(layer.name, round(layer.rate, 8)) for layer in depth] == expected
    assert {layer.noise_shape for layer in depth} == {(None, 1, 1, 1)}
    assert (last.name, last.rate, last.noise_shape) == ("dropout", 0.2, None)
    names = [layer.name for layer in model.layers]
    assert names[-3:] == ["pool", "dropout", "classifier"]
    assert model.output_shape == (None, 10)


def test_no_dropout_no_layer(efficientnet):
    from efficientnet_tpu.models.layers import Dropout

    architecture = build_architecture("efficientnet-nano", dropout_rate=0.0, survival_prob=1.0, depth_coefficient=1.0)
    assert not [layer for layer in efficientnet.build_model(architecture).layers if isinstance(layer, Dropout)]


def test_batch_norm_takes_the_architectures_constants(efficientnet):
    architecture = dataclasses.replace(
        build_architecture("efficientnet-nano"), batch_norm_momentum=0.9, batch_norm_epsilon=1e-5
    )
    layers = batch_norms(efficientnet.build_model(architecture, batch_norm_group_size=8))
    assert {(layer.momentum, layer.epsilon, layer.group_size) for layer in layers} == {(0.9, 1e-5, 8)}


def test_bfloat16_is_for_activations_alone(tf, efficientnet):
    from efficientnet_tpu.hardware.distribution import precision
    from efficientnet_tpu.models.fused.connect import connect

    architecture = build_architecture("efficientnet-nano", depth_coefficient=0.5)
    with precision("mixed_bfloat16"):
        model = efficientnet.build_model(architecture)
    connect(model, architecture)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    # Traced, not run: not every processor multiplies bfloat16 right.
    specification = tf.TensorSpec((2, 32, 32, 3), tf.uint8)
    graph = tf.function(lambda images: model(images, training=True)).get_concrete_function(specification)
    assert [output.dtype for output in graph.outputs] == [tf.float32]
    operations = graph.graph.get_operations()
    dtypes = {
        kind: {operation.outputs[0].dtype for operation in operations if operation.type == kind}
        for kind in ("Conv2D", "DepthwiseConv2dNative", "FusedBatchNormV3", "MatMul", "Mean")
    }
    bfloat16, float32 = {tf.bfloat16}, {tf.float32}
    assert dtypes["Conv2D"] == dtypes["DepthwiseConv2dNative"] == bfloat16
    # Batch norm, pooling and the classifier.
    assert dtypes["FusedBatchNormV3"] == dtypes["Mean"] == dtypes["MatMul"] == float32


@pytest.fixture(scope="module")
def mixed():
    """A network of Fused-MBConv and MBConv blocks (EfficientNetV2's mixture)."""
    return build_architecture("", 5, stage_table=MIXED)


def test_counts_of_mixed_blocks_are_those_of_the_model(efficientnet, mixed):
    from efficientnet_tpu.paper.other_networks import count_model

    model, cost = efficientnet.build_model(mixed), complexity.count(mixed, 75)
    assert size(model.trainable_weights) == cost.trainable_params
    assert size(model.non_trainable_weights) == cost.moving_params
    assert count_model(model, 75).multiply_adds == cost.multiply_adds


@pytest.mark.slow
def test_a_network_of_mixed_blocks_trains_and_its_weights_are_stored(tf, efficientnet, mixed, tmp_path):
    from efficientnet_tpu.training import train_step

    training = Training(tf, train_step, mixed, draw_batch())
    before = training.values()["model"]
    training.run_eagerly(2)
    after = training.values()["model"]
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
    assert all(np.isfinite(weight).all() for weight in after)
    model = efficientnet.build_model(mixed)
    model.set_weights(after)
    model.save_weights(tmp_path / "mixed.weights.h5")
    other = efficientnet.build_model(mixed)
    images = draw_batch()[0]
    assert (other(images).numpy() != model(images).numpy()).any()
    other.load_weights(tmp_path / "mixed.weights.h5")
    np.testing.assert_array_equal(other(images), model(images))


# Tan & Le 2021, Table 4, as a table of stages.
V2_S = inline(str(Path(__file__).parents[1] / "golden" / "efficientnetv2-s.json"))


@pytest.mark.slow
def test_efficientnetv2_s_as_a_table_is_the_one_of_keras_applications(efficientnet):
    import keras

    draw = np.random.default_rng(0)
    architecture = build_architecture("", stage_table=V2_S, batch_norm_momentum=0.0, normalization="lite")
    images = draw.uniform(0, 255, (2, 96, 96, 3)).astype("float32")
    ours = efficientnet.build_model(architecture)
    theirs = keras.applications.EfficientNetV2S(
        weights=None, classifier_activation=None, include_preprocessing=False, input_shape=(96, 96, 3)
    )
    assert complexity.count(architecture).trainable_params == size(theirs.trainable_weights) == 21_458_488
    for weight in ours.weights:
        if weight.name in ("gamma", "beta", "bias"):
            weight.assign(draw.normal(1.0 if weight.name == "gamma" else 0.0, 0.2, weight.shape))
    ours(images, training=True)  # moving statistics become the batch's: the signal lives to the end
    theirs.set_weights(ours.get_weights())
    expected = theirs((images - 127) / 128, training=False).numpy()
    np.testing.assert_allclose(ours(images, training=False), expected, rtol=1e-4, atol=1e-4 * expected.std())
