"""The 1x1 convolution with its batch norm, as TPUs train it: the same numbers and gradients as one after the other."""

import functools

import numpy as np
import pytest

from efficientnet_tpu.models.architecture import MBConvSpec
from tests.support import fused_pieces
from tests.support.fused_pieces import REPLICAS, assert_close, block_model, results_of, statistics_of

N, CHANNELS = 4, 12
images = functools.partial(fused_pieces.uneven_images, N, 5, 5)


@pytest.fixture(scope="module")
def expand_conv_bn(tf):
    from efficientnet_tpu.models.fused import expand_conv_bn

    return expand_conv_bn


@pytest.fixture
def on_tpu(expand_conv_bn, monkeypatch):
    return fused_pieces.as_on_tpu(monkeypatch, expand_conv_bn, "expand_and_normalize")


def make_piece(group_size=1):
    """Builds the first layers of an MBConv block as a model."""
    import keras

    block = block_model(MBConvSpec(2, N, 1, 3, 1, CHANNELS // N, 0, 0.0), "relu6", group_size)
    return keras.Model(block.inputs[0], block.get_layer("block_0_expand_bn").output)


def test_the_same_numbers_and_gradients(tf, on_tpu):
    x = tf.constant(images()[0])
    apart, together = make_piece(), make_piece()
    expected = results_of(tf, apart, x)
    with on_tpu as called:
        assert_close(results_of(tf, together, x), expected)
        assert called == [1]
        assert_close(results_of(tf, together, x, training=False), results_of(tf, apart, x, training=False))
        assert called == [1]  # in inference they are two
    assert_close(statistics_of(apart), statistics_of(together))


def test_weights_are_those_of_two_layers(tf):
    piece = make_piece()
    assert [layer.name for layer in piece.layers[1:]] == ["block_0_expand_conv", "block_0_expand_bn"]
    assert [len(layer.weights) for layer in piece.layers[1:]] == [1, 4]


@pytest.mark.slow
def test_statistics_of_all_replicas(tf, on_tpu):
    fused_pieces.assert_shares_of_one(tf, make_piece, on_tpu, images(REPLICAS))


@pytest.mark.parametrize("mean", [0.5, 3.0])
def test_bfloat16_rounds_no_worse(tf, expand_conv_bn, mean):
    """Error of the gradients in bfloat16 against float64, of both ways; also where the terms are large and cancel."""
    draw = np.random.default_rng(2)
    x, upstream = (draw.normal(mean, 1, (8, 14, 14, size)) for mean, size in ((mean, 16), (0, 96)))
    kernel, gamma, beta = draw.normal(0, 0.35, (1, 1, 16, 96)), draw.uniform(0.5, 1.5, 96), draw.normal(size=96)

    def apart(x, kernel, gamma, beta):
        y = tf.cast(tf.nn.conv2d(x, kernel, 1, "SAME"), gamma.dtype)
        mean, variance = tf.nn.moments(y, [0, 1, 2])
        scale = tf.math.rsqrt(variance + 1e-3) * gamma
        return tf.nn.silu(tf.cast(y * scale + (beta - mean * scale), x.dtype))

    def together(*inputs):
        z, _, _ = expand_conv_bn.expand_and_normalize(*inputs, 1e-3, lambda moments: moments, "expand_conv")
        return tf.nn.silu(z)

    errors = fused_pieces.rounding_errors(tf, (apart, together), apart, (x, kernel), (gamma, beta), upstream)
    for two_layers, one in zip(*errors, strict=True):
        # 0.008 to 0.012 where a CPU sums bfloat16 in float32, up to 0.066 where it sums in bfloat16.
        assert one < 1.5 * two_layers < 0.15
