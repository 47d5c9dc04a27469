"""The 1x1 convolution with its batch norm, as TPUs train it: the same numbers and gradients as one after the other."""

import contextlib

import numpy as np
import pytest

REPLICAS = 4
N, CHANNELS = 4, 12


@pytest.fixture(scope="module")
def expansion(tf):
    from efficientnet_tpu.models import expansion

    return expansion


def make_piece(tf, group_size):
    """expand_bn as a model, with weights and statistics unlike the initial ones."""
    import keras

    from efficientnet_tpu.models.blocks import Style, expand_bn

    inputs = keras.Input((None, None, N))
    piece = keras.Model(inputs, expand_bn(inputs, CHANNELS, Style("silu", 0.9, 1e-2, group_size), "expand"))
    draw = np.random.default_rng(0)
    for weight in piece.weights:
        weight.assign(
            draw.uniform(0.5, 1.5, weight.shape) * draw.choice([-1, 1], weight.shape) ** ("var" not in weight.name)
        )
    return piece


def results_of(tf, piece, x, training=True):
    """The output, and the gradients of an uneven function of it by the input and all weights that are trained."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = piece(x, training=training)
        loss = tf.reduce_sum(tf.sin(y) * tf.range(1.0, CHANNELS + 1))
    return [y, *tape.gradient(loss, [x, *(weight.value for weight in piece.trainable_variables)])]


@contextlib.contextmanager
def as_on_tpu(monkeypatch, expansion):
    from efficientnet_tpu.models import layers

    with monkeypatch.context() as patch:
        called = []
        together = layers.expand_and_normalise
        patch.setattr(layers, "expand_and_normalise", lambda *args: called.append(1) or together(*args))
        for module in (expansion, layers):
            patch.setattr(module, "on_tpu", lambda: True)
        yield called


def images(replicas=1):
    # Far from zero, where the terms of the gradient nearly cancel.
    draw = np.random.default_rng(1)
    return draw.normal(3, draw.uniform(0.5, 2, (replicas, 1, 1, 1, N)), (replicas, 4, 5, 5, N)).astype("float32")


def assert_close(actual, expected):
    for value, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


def test_the_same_numbers_and_gradients(tf, expansion, monkeypatch):
    x = tf.constant(images()[0])
    apart, together = make_piece(tf, 1), make_piece(tf, 1)
    expected = results_of(tf, apart, x)
    with as_on_tpu(monkeypatch, expansion) as called:
        assert_close(results_of(tf, together, x), expected)
        assert called == [1]
        assert_close(results_of(tf, together, x, training=False), results_of(tf, apart, x, training=False))
        assert called == [1]  # in inference they are two
    statistics = [[weight.numpy() for weight in piece.non_trainable_variables] for piece in (apart, together)]
    assert_close(*statistics)


def test_weights_are_those_of_two_layers(tf, expansion):
    piece = make_piece(tf, 1)
    assert [layer.name for layer in piece.layers[1:]] == ["expand_conv", "expand_bn"]
    assert [len(layer.weights) for layer in piece.layers[1:]] == [1, 4]
    twin = type(piece).from_config(piece.get_config())  # as from a file: computes the two apart
    twin.set_weights(piece.get_weights())
    x = tf.constant(images()[0])
    assert_close(results_of(tf, twin, x), results_of(tf, piece, x))


@pytest.mark.slow
def test_statistics_of_all_replicas(tf, expansion, monkeypatch):
    """Each replica's gradients are its share of those of one that has all images."""
    from efficientnet_tpu.config import HardwareConfig
    from efficientnet_tpu.distribution import connect

    strategy = connect(HardwareConfig(virtual_replicas=REPLICAS))
    x = images(REPLICAS)
    y, dx, *gradients = results_of(tf, make_piece(tf, 1), tf.constant(x.reshape(-1, *x.shape[2:])))
    with strategy.scope():
        piece = make_piece(tf, REPLICAS)

    @tf.function
    def run():
        def replica():
            rank = tf.distribute.get_replica_context().replica_id_in_sync_group
            return results_of(tf, piece, tf.gather(x, rank))

        return strategy.run(replica)

    with as_on_tpu(monkeypatch, expansion) as called:
        parts = [strategy.experimental_local_results(value) for value in run()]
        assert len(called) == REPLICAS
    assert_close([tf.concat(part, 0) for part in parts[:2]], [y, dx])
    assert_close([tf.add_n(part) for part in parts[2:]], gradients)


@pytest.mark.parametrize("mean", [0.5, 3.0])
def test_bfloat16_rounds_no_worse(tf, expansion, mean):
    """Error of the gradients in bfloat16 against float64, of both ways; also where the terms are large and cancel."""
    draw = np.random.default_rng(2)
    x, upstream = (draw.normal(mean, 1, (8, 14, 14, size)) for mean, size in ((mean, 16), (0, 96)))
    kernel, gamma, beta = draw.normal(0, 0.35, (1, 1, 16, 96)), draw.uniform(0.5, 1.5, 96), draw.normal(size=96)
    # What both start from is what bfloat16 can hold.
    x, upstream, kernel = (tf.cast(part, tf.bfloat16) for part in (x, upstream, kernel))

    def apart(x, kernel, gamma, beta, moments=tf.float32):
        y = tf.cast(tf.nn.conv2d(x, kernel, 1, "SAME"), moments)
        mean, variance = tf.nn.moments(y, [0, 1, 2])
        scale = tf.math.rsqrt(variance + 1e-3) * gamma
        return tf.cast(y * scale + (beta - mean * scale), x.dtype)

    def gradients(function, compute, parameters, **options):
        inputs = [*(tf.cast(part, compute) for part in (x, kernel)), *(tf.cast(p, parameters) for p in (gamma, beta))]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            z = tf.cast(tf.nn.silu(function(*inputs, **options)), tf.float64)
            loss = tf.reduce_sum(z * tf.cast(upstream, tf.float64))
        return [np.float64(tf.cast(gradient, tf.float64)) for gradient in tape.gradient(loss, inputs)]

    def together(*inputs):
        return expansion.expand_and_normalise(*inputs, 1e-3, lambda moments: moments, "expand_conv")[0]

    exact = gradients(apart, tf.float64, tf.float64, moments=tf.float64)
    errors = [
        [np.linalg.norm(part - truth) / np.linalg.norm(truth) for part, truth in zip(found, exact, strict=True)]
        for found in (gradients(apart, tf.bfloat16, tf.float32), gradients(together, tf.bfloat16, tf.float32))
    ]
    for two_layers, one in zip(*errors, strict=True):
        assert one < 1.5 * two_layers < 0.015
