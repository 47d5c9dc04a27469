"""The end of an MBConv block, as TPUs train it: the same numbers and gradients as one layer after the other."""

import contextlib

import numpy as np
import pytest

from efficientnet_tpu.models.architecture import BlockSpec

REPLICAS = 4
# Expanded to 18 channels, gate of 2; with a residual.
BLOCK = BlockSpec(2, 3, 3, 5, 1, 6, 2, 0.0)


def make_block(tf, group_size=1, block=BLOCK, activation="silu"):
    """mbconv as a model, with weights and statistics unlike the initial ones."""
    import keras

    from efficientnet_tpu.models.blocks import Style, mbconv

    inputs = keras.Input((None, None, block.input_filters))
    piece = keras.Model(inputs, mbconv(inputs, block, Style(activation, 0.9, 1e-2, group_size), "block_3"))
    draw = np.random.default_rng(0)
    for weight in piece.weights:
        weight.assign(
            draw.uniform(0.5, 1.5, weight.shape) * draw.choice([-1, 1], weight.shape) ** ("var" not in weight.name)
        )
    return piece


def results_of(tf, piece, x, training=True, run=None):
    """gradients_of as one graph, as a training step is."""
    call = run or (lambda x: piece(x, training=training))
    return tf.function(lambda x: gradients_of(tf, piece, x, call))(x)


def gradients_of(tf, piece, x, call):
    """The output, and the gradients of an uneven function of it by the input and all weights that are trained."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x)
        loss = tf.reduce_sum(tf.sin(y) * tf.range(1.0, y.shape[-1] + 1))
    return [y, *tape.gradient(loss, [x, *(weight.value for weight in piece.trainable_variables)])]


@contextlib.contextmanager
def as_on_tpu(monkeypatch):
    """Layers choose what they do on TPUs; the list grows by one for every projection that is."""
    from efficientnet_tpu.models import layers, projection

    with monkeypatch.context() as patch:
        called = []
        together = projection.excite_and_project
        patch.setattr(projection, "excite_and_project", lambda *args: called.append(1) or together(*args))
        patch.setattr(layers, "on_tpu", lambda: True)
        yield called


def images(replicas=1):
    # Far from zero, where the terms of the gradient nearly cancel.
    draw = np.random.default_rng(1)
    return draw.normal(3, draw.uniform(0.5, 2, (replicas, 1, 1, 1, 3)), (replicas, 4, 7, 6, 3)).astype("float32")


def assert_close(actual, expected):
    for value, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize(
    "block",
    [BLOCK, BlockSpec(1, 3, 4, 3, 1, 1, 1, 0.0), BlockSpec(2, 3, 5, 3, 2, 6, 1, 0.0)],
    ids=["residual", "not expanded", "strided"],
)
def test_the_same_numbers_and_gradients(tf, monkeypatch, block):
    x = tf.constant(images()[0])
    apart, together = make_block(tf, block=block), make_block(tf, block=block)
    expected = results_of(tf, apart, x)
    with as_on_tpu(monkeypatch) as called:
        assert_close(results_of(tf, together, x), expected)
        assert called == [1]
        assert_close(results_of(tf, together, x, training=False), results_of(tf, apart, x, training=False))
        assert called == [1]  # in inference they are several
    statistics = [[weight.numpy() for weight in piece.non_trainable_variables] for piece in (apart, together)]
    assert_close(*statistics)


def test_the_gate_is_trained_or_not(tf, monkeypatch):
    """What is frozen has no gradient and stays as it is; the rest has the same."""
    x = tf.constant(images()[0])
    apart, together = make_block(tf), make_block(tf)
    for piece in (apart, together):
        for role in ("se_reduce", "project_conv"):
            piece.get_layer(f"block_3_{role}").trainable = False
    assert len(together.trainable_variables) == len(together.weights) - 6 - 3
    expected = results_of(tf, apart, x)
    with as_on_tpu(monkeypatch) as called:
        assert_close(results_of(tf, together, x), expected)
        assert called == [1]


def test_a_frozen_batch_norm_is_its_own(tf, monkeypatch):
    x = tf.constant(images()[0])
    apart, together = make_block(tf), make_block(tf)
    for piece in (apart, together):
        piece.get_layer("block_3_depthwise_bn").trainable = False
    expected = results_of(tf, apart, x)
    with as_on_tpu(monkeypatch) as called:
        assert_close(results_of(tf, together, x), expected)
        assert not called


@pytest.mark.parametrize("without", [{"activation": "relu6"}, {"block": BlockSpec(2, 3, 3, 5, 1, 6, 0, 0.0)}])
def test_other_blocks_are_layers_one_by_one(tf, monkeypatch, without):
    with as_on_tpu(monkeypatch) as called:
        results_of(tf, make_block(tf, **without), tf.constant(images()[0]))
        assert not called


def test_weights_are_those_of_the_layers(tf):
    block = make_block(tf)
    assert [len(block.get_layer(f"block_3_{role}").weights) for role in ("depthwise_bn", "project_conv")] == [4, 1]
    twin = type(block).from_config(block.get_config())  # as from a file: computes layer by layer
    twin.set_weights(block.get_weights())
    x = tf.constant(images()[0])
    assert_close(results_of(tf, twin, x), results_of(tf, block, x))


def test_recomputed_blocks_too(tf, monkeypatch):
    """With --rematerialize=blocks: the batch norm's variables are given, and its statistics asked for."""
    from efficientnet_tpu.models import rematerialization

    x = tf.constant(images()[0])
    apart, together = make_block(tf), make_block(tf)
    expected = results_of(tf, apart, x)
    with as_on_tpu(monkeypatch) as called:
        assert_close(results_of(tf, together, x, run=lambda x: rematerialization._recomputed(together, x)), expected)
        assert len(called) == 2  # forward, and again
    statistics = [[weight.numpy() for weight in piece.non_trainable_variables] for piece in (apart, together)]
    assert_close(*statistics)


@pytest.mark.slow
def test_statistics_of_all_replicas(tf, monkeypatch):
    """Each replica's gradients are its share of those of one that has all images."""
    from efficientnet_tpu.config import HardwareConfig
    from efficientnet_tpu.distribution import connect

    strategy = connect(HardwareConfig(virtual_replicas=REPLICAS))
    x = images(REPLICAS)
    y, dx, *gradients = results_of(tf, make_block(tf), tf.constant(x.reshape(-1, *x.shape[2:])))
    with strategy.scope():
        piece = make_block(tf, REPLICAS)

    @tf.function
    def run():
        def replica():
            rank = tf.distribute.get_replica_context().replica_id_in_sync_group
            return gradients_of(tf, piece, tf.gather(x, rank), lambda x: piece(x, training=True))

        return strategy.run(replica)

    with as_on_tpu(monkeypatch) as called:
        parts = [strategy.experimental_local_results(value) for value in run()]
        assert len(called) == REPLICAS
    assert_close([tf.concat(part, 0) for part in parts[:2]], [y, dx])
    assert_close([tf.add_n(part) for part in parts[2:]], gradients)


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_bfloat16_rounds_no_worse(tf, mean):
    """Error of the gradients in bfloat16 against float64, of both ways; also where the terms are large and cancel."""
    from efficientnet_tpu.models.norm_gradient import BatchNorm
    from efficientnet_tpu.models.projection import excite_and_project

    draw = np.random.default_rng(2)
    y = draw.normal(mean, 1, (8, 14, 14, 48)) + draw.normal(size=(8, 1, 1, 48))
    upstream = draw.normal(size=(8, 14, 14, 16))
    kernel, reduce, expand = (draw.normal(0, 0.3, (1, 1, *shape)) for shape in ((48, 16), (48, 4), (4, 48)))
    gamma, beta = draw.uniform(0.5, 1.5, 48), draw.normal(size=48)
    # What both start from is what bfloat16 can hold.
    y, kernel, reduce, expand, upstream = (tf.cast(x, tf.bfloat16) for x in (y, kernel, reduce, expand, upstream))

    def gate(mean, reduce, expand):
        mean = tf.cast(mean, reduce.dtype)
        return tf.sigmoid(tf.nn.conv2d(tf.nn.silu(tf.nn.conv2d(mean, reduce, 1, "SAME")), expand, 1, "SAME"))

    def apart(y, gamma, beta, kernel, reduce, expand, wide=tf.float32):
        x = tf.cast(y, wide)
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        scale = tf.math.rsqrt(variance + 1e-3) * gamma
        x = tf.nn.silu(tf.cast(x * scale + (beta - mean * scale), y.dtype))
        excited = x * gate(tf.reduce_mean(tf.cast(x, wide), [1, 2], keepdims=True), reduce, expand)
        return tf.nn.conv2d(excited, kernel, 1, "SAME")

    def together(y, gamma, beta, kernel, reduce, expand):
        norm = BatchNorm(gamma, beta, *tf.nn.moments(tf.cast(y, tf.float32), [0, 1, 2]), 1e-3, lambda moments: moments)
        return excite_and_project(y, norm, gate, [reduce, expand], kernel, "block_3_project_conv")

    def gradients(function, compute, parameters, **options):
        arrays, vectors = [(tf.cast(x, compute)) for x in (y, kernel, reduce, expand)], (gamma, beta)
        first, *rest = arrays
        inputs = [first, *(tf.cast(vector, parameters) for vector in vectors), *rest]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(tf.cast(function(*inputs, **options), tf.float64) * tf.cast(upstream, tf.float64))
        return [np.float64(tf.cast(gradient, tf.float64)) for gradient in tape.gradient(loss, inputs)]

    exact = gradients(apart, tf.float64, tf.float64, wide=tf.float64)
    errors = [
        [np.linalg.norm(part - truth) / np.linalg.norm(truth) for part, truth in zip(found, exact, strict=True)]
        for found in (gradients(apart, tf.bfloat16, tf.float32), gradients(together, tf.bfloat16, tf.float32))
    ]
    for layers, one in zip(*errors, strict=True):
        assert one < 1.5 * layers < 0.05
