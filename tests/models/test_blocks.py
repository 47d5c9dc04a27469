"""The pieces are the reference's: initializers, squeeze-and-excitation, the order of a block and its residual."""

import numpy as np
import pytest

from efficientnet_tpu.models.architecture import FusedMBConvSpec, MBConvSpec
from efficientnet_tpu.models.compound_scaling import build_architecture


@pytest.fixture(scope="module")
def blocks(tf):
    from efficientnet_tpu.models import blocks

    return blocks


@pytest.fixture(scope="module")
def style(blocks):
    return blocks.Style(activation="silu", batch_norm_momentum=0.9, batch_norm_epsilon=1e-2, batch_norm_group_size=1)


def block_spec(**fields):
    defaults = {
        "stage": 2, "input_filters": 8, "filters": 8, "kernel_size": 3, "strides": 1, "expand_ratio": 2,
        "se_filters": 2, "drop_rate": 0.0,
    }  # fmt: skip
    return MBConvSpec(**(defaults | fields))


def build(function, input_filters, *arguments):
    """A model of one piece on images of 6 x 6 pixels."""
    import keras

    inputs = keras.Input((6, 6, input_filters))
    return keras.Model(inputs, function(inputs, *arguments))


def random_images(model, batch_size=4):
    return np.random.default_rng(0).normal(size=(batch_size, *model.input_shape[1:])).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("piece", "input_filters", "arguments", "layer", "fan_out"),
    [
        ("conv_bn", 64, (128, 3, 1), "x_conv", 9 * 128),
        ("conv_bn", 128, (512, 1, 1), "x_conv", 512),
        # The last axis of a depthwise kernel is its multiplier, 1: the filters do not count.
        ("depthwise_bn_act", 4096, (3, 1), "x_conv", 9),
        ("depthwise_bn_act", 2048, (5, 2), "x_conv", 25),
        ("squeeze_excite", 512, (128,), "x_reduce", 128),
        ("squeeze_excite", 512, (128,), "x_expand", 512),
    ],
)
def test_kernels_are_normal_with_variance_2_over_fan_out(
    blocks, style, piece, input_filters, arguments, layer, fan_out
):
    model = build(getattr(blocks, piece), input_filters, *arguments, style, "x")
    kernel = model.get_layer(layer).kernel.numpy()
    std = np.sqrt(2 / fan_out)
    # Every kernel here has 36,864 or more elements: the sample's deviation is within 2 % of the distribution's.
    assert kernel.size >= 36_864
    assert kernel.std() == pytest.approx(std, rel=0.02)
    assert abs(kernel.mean()) < 5 * std / np.sqrt(kernel.size)
    # Not truncated (Keras' own truncates at 2.27 of these): of 36,864 normal numbers 99 are beyond 3.
    assert (abs(kernel) > 3 * std).sum() > 36


def test_only_squeeze_and_excitation_has_biases(blocks, style):
    model = build(blocks.mbconv, 8, block_spec(), style, "x")
    biased = {layer.name: layer.bias for layer in model.layers if getattr(layer, "bias", None) is not None}
    assert set(biased) == {"x_se_reduce", "x_se_expand"}
    assert all((bias.numpy() == 0).all() for bias in biased.values())


def test_batch_norm_starts_as_identity_with_the_networks_constants(blocks, style):
    bn = style.norm("x")
    bn.build((None, 6, 6, 8))
    assert [weight.numpy().tolist() for weight in bn.weights] == [[1.0] * 8, [0.0] * 8, [0.0] * 8, [1.0] * 8]
    assert (bn.momentum, bn.epsilon, bn.group_size) == (0.9, 1e-2, 1)


@pytest.mark.parametrize("num_classes", [10, 1000])
def test_classifier_is_uniform(blocks, num_classes):
    kernel = np.asarray(blocks.classifier_initializer()((1280, num_classes)))
    bound = 1 / np.sqrt(num_classes)
    assert 0.99 * bound < abs(kernel).max() <= bound
    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


def test_layers_start_from_different_numbers(blocks, style):
    import keras

    inputs = keras.Input((6, 6, 8))
    x = blocks.mbconv(inputs, block_spec(), style, "a")
    model = keras.Model(inputs, blocks.mbconv(x, block_spec(), style, "b"))
    for name in ("expand_conv", "depthwise_conv", "se_reduce", "se_expand", "project_conv"):
        first, second = (model.get_layer(f"{block}_{name}").kernel.numpy() for block in "ab")
        assert first.shape == second.shape
        assert (first != second).mean() > 0.99


def test_squeeze_excite_formula(blocks, style):
    model = build(blocks.squeeze_excite, 8, 3, style, "x")
    draw = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(draw.normal(size=weight.shape))
    reduce_kernel, reduce_bias, expand_kernel, expand_bias = (weight.numpy() for weight in model.weights)
    images = random_images(model)
    reduced = images.mean((1, 2)) @ reduce_kernel[0, 0] + reduce_bias
    gate = sigmoid(reduced * sigmoid(reduced) @ expand_kernel[0, 0] + expand_bias)
    np.testing.assert_allclose(model(images), images * gate[:, np.newaxis, np.newaxis], rtol=1e-5, atol=1e-6)


FULL_BLOCK = [
    "x_expand_conv", "x_expand_bn", "x_expand_activation", "x_depthwise_conv", "x_depthwise_bn",
    "x_depthwise_activation", "x_se_squeeze", "x_se_reduce", "x_se_expand", "x_se_excite", "x_project_conv",
    "x_project_bn", "x_drop", "x_add",
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, ()),
        ({"expand_ratio": 1}, ("x_expand",)),
        ({"se_filters": 0}, ("x_se",)),
        ({"drop_rate": 0.0}, ("x_drop",)),
        ({"filters": 16}, ("x_drop", "x_add")),
        ({"strides": 2}, ("x_drop", "x_add")),
    ],
)
def test_order_and_names_of_a_block(blocks, style, fields, missing):
    model = build(blocks.mbconv, 8, block_spec(**{"drop_rate": 0.1} | fields), style, "x")
    _, *layers = [layer.name for layer in model.layers]
    assert layers == [name for name in FULL_BLOCK if not name.startswith(missing)]


def test_widths_of_a_block(blocks, style):
    model = build(blocks.mbconv, 8, block_spec(expand_ratio=6, filters=24, strides=2, kernel_size=5), style, "x")
    kernels = {layer.name: layer.kernel.shape for layer in model.layers if hasattr(layer, "kernel")}
    assert kernels == {
        "x_expand_conv": (1, 1, 8, 48), "x_depthwise_conv": (5, 5, 48, 1), "x_se_reduce": (1, 1, 48, 2),
        "x_se_expand": (1, 1, 2, 48), "x_project_conv": (1, 1, 48, 24),
    }  # fmt: skip
    assert model.output_shape == (None, 3, 3, 24)


@pytest.mark.parametrize(
    ("strides", "filters", "residual"), [(1, 8, True), (2, 8, False), (1, 16, False), (2, 16, False)]
)
def test_residual_only_between_equal_shapes(blocks, style, strides, filters, residual):
    model = build(blocks.mbconv, 8, block_spec(strides=strides, filters=filters), style, "x")
    images = random_images(model)
    # With the last batch norm silenced, what is left of the block is its residual.
    model.get_layer("x_project_bn").gamma.assign(np.zeros(filters))
    left = model(images).numpy()
    np.testing.assert_array_equal(left, images if residual else np.zeros_like(left))


def test_no_activation_after_the_projection(blocks, style):
    model = build(blocks.mbconv, 8, block_spec(filters=16), style, "x")
    bn = model.get_layer("x_project_bn")
    bn.gamma.assign(np.zeros(16))
    bn.beta.assign(np.full(16, -5.0))
    np.testing.assert_array_equal(model(random_images(model)), np.full((4, 6, 6, 16), -5.0))


def test_stochastic_depth_leaves_the_residual_of_dropped_samples(tf, blocks, style):
    from efficientnet_tpu.models.layers import dropout_seed

    model = build(blocks.mbconv, 8, block_spec(drop_rate=0.5), style, "x")
    images = random_images(model, batch_size=64)
    with dropout_seed(tf.constant([0, 0])):
        branch = model(images, training=True).numpy() - images
    whole = build(blocks.mbconv, 8, block_spec(), style, "x")
    whole.set_weights(model.get_weights())
    survived = (branch != 0).any((1, 2, 3))
    assert 16 < survived.sum() < 48
    expected = 2 * (whole(images, training=True).numpy() - images)
    np.testing.assert_allclose(branch[survived], expected[survived], rtol=1e-4, atol=1e-5)


def test_style_is_the_architectures(blocks):
    lite = build_architecture("efficientnet-lite0")
    assert blocks.Style.of(lite, 16) == blocks.Style("relu6", 0.99, 1e-3, 16)
    model = build(blocks.mbconv, 8, block_spec(se_filters=0), blocks.Style.of(lite, 16), "x")
    for name in ("x_expand_activation", "x_depthwise_activation"):
        assert model.get_layer(name).activation.__name__ == "relu6"
    assert model.get_layer("x_project_bn").group_size == 16


@pytest.mark.parametrize(
    ("layer", "part"),
    [("stem_bn", "stem"), ("block_0_add", "block_0"), ("block_12_se_reduce", "block_12"), ("classifier", "classifier")],
)
def test_part_of_a_layer(blocks, layer, part):
    assert blocks.part_of(layer) == part


FUSED_BLOCK = [
    "x_expand_conv", "x_expand_bn", "x_expand_activation", "x_se_squeeze", "x_se_reduce", "x_se_expand", "x_se_excite",
    "x_project_conv", "x_project_bn", "x_project_activation", "x_drop", "x_add",
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, ("x_project_activation",)),
        ({"expand_ratio": 1}, ("x_expand",)),
        ({"se_filters": 0}, ("x_se", "x_project_activation")),
        ({"strides": 2}, ("x_project_activation", "x_drop", "x_add")),
    ],
)
def test_order_and_names_of_a_fused_block(blocks, style, fields, missing):
    block = FusedMBConvSpec(**vars(block_spec(**{"drop_rate": 0.1} | fields)))
    model = build(blocks.fused_mbconv, 8, block, style, "x")
    _, *layers = [layer.name for layer in model.layers]
    assert layers == [name for name in FUSED_BLOCK if not name.startswith(missing)]


def test_a_fused_block_strides_and_looks_around_in_its_first_convolution(blocks, style):
    for expand_ratio, kernels in ((4, {"x_expand_conv": (5, 5, 8, 32), "x_project_conv": (1, 1, 32, 24)}),
                                  (1, {"x_project_conv": (5, 5, 8, 24)})):  # fmt: skip
        block = block_spec(expand_ratio=expand_ratio, filters=24, strides=2, kernel_size=5, se_filters=0)
        model = build(blocks.fused_mbconv, 8, FusedMBConvSpec(**vars(block)), style, "x")
        assert {layer.name: layer.kernel.shape for layer in model.layers if hasattr(layer, "kernel")} == kernels
        assert model.output_shape == (None, 3, 3, 24)


@pytest.mark.parametrize("kind", ["mbconv", "fused_mbconv"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("skip", ["identity", "pool", "none"])
def test_what_a_block_adds(tf, blocks, style, kind, strides, skip):
    """The output of a block whose last batch norm multiplies by 0 is what was added to it."""
    fields = vars(block_spec(strides=strides, skip=skip))
    block = {"mbconv": MBConvSpec, "fused_mbconv": FusedMBConvSpec}[kind](**fields)
    model = build(getattr(blocks, kind), 8, block, style, "x")
    model.get_layer("x_project_bn").gamma.assign(np.zeros(8))
    images = random_images(model)
    added = {
        "identity": images if strides == 1 else np.zeros((4, 3, 3, 8)),
        "pool": tf.nn.avg_pool2d(images, 3, strides, "SAME"),
        "none": np.zeros((4, 6 // strides, 6 // strides, 8)),
    }
    np.testing.assert_allclose(model(images), added[skip], atol=1e-6)
    assert block.has_residual == (skip == "pool" or (skip == "identity" and strides == 1))


def test_nothing_is_added_where_the_widths_differ():
    for skip in ("identity", "pool", "none"):
        assert not block_spec(filters=16, skip=skip).has_residual
