"""MobileNetV1, MobileNetV2 and the ResNets: counted, built, and against keras.applications, which has them too."""

import dataclasses
import re

import numpy as np
import pytest

from efficientnet_tpu.models.baselines import BASELINES
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import build_architecture

# Trainable parameters and batch norm's moving statistics at 1000 classes. Those of the ResNets are also the ones of
# torchvision, whose convolutions have no bias either.
PARAMETERS = {
    "mobilenet-v1": (4_231_976, 21_888),
    "mobilenet-v2": (3_504_872, 34_112),
    "resnet-50": (25_557_032, 53_120),
    "resnet-101": (44_549_160, 105_344),
    "resnet-152": (60_192_808, 151_424),
}
TWINS = {
    "mobilenet-v1": "MobileNet",
    "mobilenet-v2": "MobileNetV2",
    "resnet-50": "ResNet50",
    "resnet-101": "ResNet101",
    "resnet-152": "ResNet152",
}
QUICK = ("mobilenet-v1", "mobilenet-v2", "resnet-50")
SMALLEST = [pytest.param(name, marks=() if name == QUICK[0] else pytest.mark.slow) for name in BASELINES]
BY_SPEED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in BASELINES]


@pytest.fixture(scope="module")
def build(tf):
    from efficientnet_tpu.models import build

    return build


def twin(name, **options):
    import keras

    return getattr(keras.applications, TWINS[name])(weights=None, classifier_activation=None, **options)


def size(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize("name", BASELINES)
def test_published_parameters(name):
    cost = count(build_architecture(name))
    assert (cost.trainable_params, cost.moving_params) == PARAMETERS[name]


@pytest.mark.parametrize("name", BY_SPEED)
def test_the_built_network_has_them(build, name):
    model = build.build_model(build_architecture(name))
    assert (size(model.trainable_weights), size(model.non_trainable_weights)) == PARAMETERS[name]


@pytest.mark.parametrize("name", SMALLEST)
def test_parameters_are_those_of_keras_applications(tf, name):
    theirs = twin(name)
    # Its ResNets add a bias before batch norm, which takes it away again.
    biases = [layer.bias for layer in theirs.layers if "conv" in layer.name and getattr(layer, "use_bias", False)]
    biases = biases if name.startswith("resnet") else []
    assert theirs.count_params() - size(biases) == sum(PARAMETERS[name])
    assert bool(biases) == name.startswith("resnet")


@pytest.mark.parametrize("name", [*QUICK[:2], pytest.param("resnet-50", marks=pytest.mark.slow)])
def test_what_is_counted_is_what_is_built(build, name):
    from efficientnet_tpu.paper.other_networks import count_model

    architecture = build_architecture(name, num_classes=10, resolution=96, width_coefficient=1.2, depth_coefficient=1.4)
    model, cost = build.build_model(architecture), count(architecture)
    assert size(model.trainable_weights) == cost.trainable_params
    assert size(model.non_trainable_weights) == cost.moving_params
    assert count_model(model, 96).multiply_adds == cost.multiply_adds


@pytest.mark.parametrize("name", ["mobilenet-v2", pytest.param("mobilenet-v1", marks=pytest.mark.slow)])
def test_logits_are_those_of_keras_applications(build, name):
    draw = np.random.default_rng(0)
    # Their batch norms differ in how fast statistics move; 0 makes them the batch's.
    architecture = dataclasses.replace(build_architecture(name), batch_norm_momentum=0.0)
    images = draw.uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    ours, theirs = build.build_model(architecture), twin(name)
    for weight in ours.weights:
        if "gamma" in weight.path or "beta" in weight.path:
            weight.assign(draw.uniform(0.5, 1.0, weight.shape))
    ours(images, training=True)
    # Their classifier is a 1x1 convolution in MobileNetV1, and normalises nothing.
    for own, their in zip(ours.weights, theirs.weights, strict=True):
        their.assign(np.reshape(own, their.shape))
    mean, std = np.float32(architecture.mean), np.float32(architecture.std)
    expected = theirs((images - mean) / std, training=False).numpy()
    np.testing.assert_allclose(ours(images, training=False), expected, rtol=1e-4, atol=1e-4 * expected.std())


def test_bottlenecks_are_those_of_keras_applications(build):
    """The first stage: behind it, strides stand in another convolution; before it, padding differs by a pixel."""
    import keras

    draw = np.random.default_rng(0)
    architecture = dataclasses.replace(build_architecture("resnet-50"), batch_norm_epsilon=1.001e-5)
    ours, theirs = build.build_model(architecture), twin("resnet-50")
    ours = keras.Model(ours.get_layer("stem_pool").output, ours.get_layer("block_2_activation").output)
    theirs = keras.Model(theirs.get_layer("pool1_pool").output, theirs.get_layer("conv2_block3_out").output)
    parts = {"0": "shortcut", "1": "reduce", "2": "spatial", "3": "expand"}
    convolutions = [layer for layer in theirs.layers if layer.name.endswith("_conv")]
    assert len(convolutions) == 10
    for layer in convolutions:  # conv2_block1_0_conv
        _, block, part, _ = layer.name.split("_")
        twin_name = f"block_{int(block.removeprefix('block')) - 1}_{parts[part]}_conv"
        layer.set_weights([ours.get_layer(twin_name).kernel, np.zeros(layer.bias.shape)])
    features = draw.uniform(0, 1, (1, 56, 56, 64)).astype("float32")
    expected = theirs(features, training=False).numpy()
    np.testing.assert_allclose(ours(features, training=False), expected, rtol=1e-4, atol=1e-4 * expected.std())


@pytest.mark.parametrize("name", ["mobilenet-v2", "resnet-50"])
def test_stochastic_depth_is_off_but_can_be_asked_for(build, name):
    assert {block.drop_rate for block in build_architecture(name).blocks} == {0}
    architecture = build_architecture(name, survival_prob=0.5, num_classes=3, depth_coefficient=0.5)
    rates = [block.drop_rate for block in architecture.blocks if block.has_residual]
    assert rates == sorted(rates)
    assert 0.35 < rates[-1] < 0.5
    layers = [layer for layer in build.build_model(architecture).layers if layer.name.endswith("_drop")]
    assert [layer.rate for layer in layers] == [rate for rate in rates if rate]


@pytest.mark.parametrize("name", BASELINES)
def test_one_is_the_table(name):
    architecture = build_architecture(name)
    stages = BASELINES[name].baseline.stages
    assert len(architecture.blocks) == sum(stage.repeats for stage in stages)
    assert architecture == build_architecture(name, width_coefficient=1.0, depth_coefficient=1.0, resolution=224)


@pytest.mark.slow
def test_trains_evaluates_and_exports(shapes, tiny_recipe, tmp_path, capsys):
    from efficientnet_tpu import cli

    for name in ("mobilenet-v1", "resnet-50"):
        run = f"--model_dir={tmp_path / name}"
        scale = ["--width_coefficient=0.25", "--depth_coefficient=0.2", "--resolution=32", "--train_epochs=2"]
        cli.main(["main.py", f"--data_dir={shapes}", run, *tiny_recipe, f"--model={name}", *scale])
        cli.main(["main.py", "evaluate", run])
        cli.main(["main.py", "export", run, f"--output_dir={tmp_path / name}-export"])
    rows = re.findall(r"^savedmodel +[\d.]+ +(\S+) +(\S+)% ", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == 2
    assert all(float(difference) < 1e-4 and float(same_top_1) == 100 for difference, same_top_1 in rows)
