"""The end of an MBConv block, as TPUs train it: the same numbers and gradients as one layer after the other."""

import functools

import numpy as np
import pytest

from efficientnet_tpu.models.architecture import MBConvSpec
from tests.support import fused_pieces
from tests.support.fused_pieces import REPLICAS, assert_close, block_model, results_of, statistics_of

# Expanded to 18 channels, gate of 2; with a residual.
BLOCK = MBConvSpec(2, 3, 3, 5, 1, 6, 2, 0.0)
images = functools.partial(fused_pieces.uneven_images, 3, 7, 6)


@pytest.fixture
def on_tpu(tf, monkeypatch):
    from efficientnet_tpu.models.fused import excite_project

    return fused_pieces.as_on_tpu(monkeypatch, excite_project, "excite_and_project")


def make_block(group_size=1, block=BLOCK, activation="silu"):
    return block_model(block, activation, group_size)


@pytest.mark.parametrize(
    "block",
    [BLOCK, MBConvSpec(1, 3, 4, 3, 1, 1, 1, 0.0), MBConvSpec(2, 3, 5, 3, 2, 6, 1, 0.0)],
    ids=["residual", "not expanded", "strided"],
)
def test_the_same_numbers_and_gradients(tf, on_tpu, block):
    x = tf.constant(images()[0])
    apart, together = make_block(block=block), make_block(block=block)
    expected = results_of(tf, apart, x)
    with on_tpu as called:
        assert_close(results_of(tf, together, x), expected)
        assert called == [1]
        assert_close(results_of(tf, together, x, training=False), results_of(tf, apart, x, training=False))
        assert called == [1]  # in inference they are several
    assert_close(statistics_of(apart), statistics_of(together))


def test_the_gate_is_trained_or_not(tf, on_tpu):
    """What is frozen has no gradient and stays as it is; the rest has the same."""
    x = tf.constant(images()[0])
    apart, together = make_block(), make_block()
    for piece in (apart, together):
        for role in ("se_reduce", "project_conv"):
            piece.get_layer(f"block_0_{role}").trainable = False
    assert len(together.trainable_variables) == len(together.weights) - 6 - 3
    expected = results_of(tf, apart, x)
    with on_tpu as called:
        assert_close(results_of(tf, together, x), expected)
        assert called == [1]


def test_a_frozen_batch_norm_is_its_own(tf, on_tpu):
    x = tf.constant(images()[0])
    apart, together = make_block(), make_block()
    for piece in (apart, together):
        piece.get_layer("block_0_depthwise_bn").trainable = False
    expected = results_of(tf, apart, x)
    with on_tpu as called:
        assert_close(results_of(tf, together, x), expected)
        assert not called


@pytest.mark.parametrize("without", [{"activation": "relu6"}, {"block": MBConvSpec(2, 3, 3, 5, 1, 6, 0, 0.0)}])
def test_other_blocks_are_layers_one_by_one(tf, on_tpu, without):
    with on_tpu as called:
        results_of(tf, make_block(**without), tf.constant(images()[0]))
        assert not called


def test_weights_are_those_of_the_layers(tf):
    block = make_block()
    assert [len(block.get_layer(f"block_0_{role}").weights) for role in ("depthwise_bn", "project_conv")] == [4, 1]
    twin = type(block).from_config(block.get_config())  # as from a file: computes layer by layer
    assert [type(layer) for layer in twin.layers] == [type(layer) for layer in block.layers]
    plain = block_model(BLOCK, fused=False)
    assert [weight.path for weight in block.weights] == [weight.path for weight in plain.weights]
    x = tf.constant(images()[0])
    assert_close(results_of(tf, block, x), results_of(tf, plain, x))


def test_recomputed_blocks_too(tf, on_tpu):
    """With --rematerialize=blocks: the batch norm's variables are given, and its statistics asked for."""
    from efficientnet_tpu.training import rematerialization

    x = tf.constant(images()[0])
    apart, together = make_block(), make_block()
    expected = results_of(tf, apart, x)
    with on_tpu as called:
        assert_close(results_of(tf, together, x, call=lambda x: rematerialization._recomputed(together, x)), expected)
        assert len(called) == 2  # forward, and again
    assert_close(statistics_of(apart), statistics_of(together))


@pytest.mark.slow
def test_statistics_of_all_replicas(tf, on_tpu):
    fused_pieces.assert_shares_of_one(tf, make_block, on_tpu, images(REPLICAS))


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_bfloat16_rounds_no_worse(tf, mean):
    """Error of the gradients in bfloat16 against float64, of both ways; also where the terms are large and cancel."""
    from efficientnet_tpu.models.fused.batch_norm_gradient import BatchStatistics
    from efficientnet_tpu.models.fused.excite_project import excite_and_project

    draw = np.random.default_rng(2)
    y = draw.normal(mean, 1, (8, 14, 14, 48)) + draw.normal(size=(8, 1, 1, 48))
    upstream = draw.normal(size=(8, 14, 14, 16))
    kernel, reduce, expand = (draw.normal(0, 0.3, (1, 1, *shape)) for shape in ((48, 16), (48, 4), (4, 48)))
    gamma, beta = draw.uniform(0.5, 1.5, 48), draw.normal(size=48)

    def gate(mean, reduce, expand):
        mean = tf.cast(mean, reduce.dtype)
        return tf.sigmoid(tf.nn.conv2d(tf.nn.silu(tf.nn.conv2d(mean, reduce, 1, "SAME")), expand, 1, "SAME"))

    def apart(y, kernel, reduce, expand, gamma, beta):
        x = tf.cast(y, gamma.dtype)
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        scale = tf.math.rsqrt(variance + 1e-3) * gamma
        x = tf.nn.silu(tf.cast(x * scale + (beta - mean * scale), y.dtype))
        excited = x * gate(tf.reduce_mean(tf.cast(x, gamma.dtype), [1, 2], keepdims=True), reduce, expand)
        return tf.nn.conv2d(excited, kernel, 1, "SAME")

    def together(y, kernel, reduce, expand, gamma, beta):
        moments = tf.nn.moments(tf.cast(y, tf.float32), [0, 1, 2])
        statistics = BatchStatistics(gamma, beta, *moments, 1e-3, lambda moments: moments)
        return excite_and_project(y, statistics, gate, [reduce, expand], kernel, ("squeeze", "project"))

    arrays = (y, kernel, reduce, expand)
    errors = fused_pieces.rounding_errors(tf, (apart, together), apart, arrays, (gamma, beta), upstream)
    for layers, one in zip(*errors, strict=True):
        assert one < 1.5 * layers < 0.05
