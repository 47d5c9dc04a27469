"""The 1x1 convolution with its batch norm, as TPUs train it: the same numbers and gradients as one after the other."""

import functools

import numpy as np
import pytest

from tests.support import fused_pieces
from tests.support.fused_pieces import REPLICAS, assert_close, results_of, statistics_of, with_odd_weights

N, CHANNELS = 4, 12
images = functools.partial(fused_pieces.uneven_images, N, 5, 5)


@pytest.fixture(scope="module")
def expand_conv_bn(tf):
    from efficientnet_tpu.models.fused import expand_conv_bn

    return expand_conv_bn


@pytest.fixture
def on_tpu(expand_conv_bn, monkeypatch):
    from efficientnet_tpu.models import layers

    return fused_pieces.as_on_tpu(monkeypatch, layers, "expand_and_normalise", expand_conv_bn)


def make_piece(group_size=1):
    """expand_bn as a model."""
    import keras

    from efficientnet_tpu.models.blocks import Style, expand_bn

    inputs = keras.Input((None, None, N))
    return with_odd_weights(
        keras.Model(inputs, expand_bn(inputs, CHANNELS, Style("silu", 0.9, 1e-2, group_size), "expand"))
    )


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


def test_weights_are_those_of_two_layers(tf, expand_conv_bn):
    piece = make_piece()
    assert [layer.name for layer in piece.layers[1:]] == ["expand_conv", "expand_bn"]
    assert [len(layer.weights) for layer in piece.layers[1:]] == [1, 4]
    twin = type(piece).from_config(piece.get_config())  # as from a file: computes the two apart
    twin.set_weights(piece.get_weights())
    x = tf.constant(images()[0])
    assert_close(results_of(tf, twin, x), results_of(tf, piece, x))


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
        return tf.nn.silu(expand_conv_bn.expand_and_normalise(*inputs, 1e-3, lambda moments: moments, "expand_conv")[0])

    errors = fused_pieces.rounding_errors(tf, (apart, together), apart, (x, kernel), (gamma, beta), upstream)
    for two_layers, one in zip(*errors, strict=True):
        assert one < 1.5 * two_layers < 0.015
