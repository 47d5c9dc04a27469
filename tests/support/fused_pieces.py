"""What the tests of pieces that TPUs train as one have in common: weights, gradients, comparisons."""

import contextlib
import dataclasses

import numpy as np

REPLICAS = 4


def with_odd_weights(piece):
    """The piece, with weights and statistics unlike the initial ones."""
    draw = np.random.default_rng(0)
    for weight in piece.weights:
        weight.assign(
            draw.uniform(0.5, 1.5, weight.shape) * draw.choice([-1, 1], weight.shape) ** ("var" not in weight.name)
        )
    return piece


def results_of(tf, piece, x, training=True, call=None):
    """`gradients_of`, as one graph, as a training step is. call: if not the piece itself."""
    call = call or (lambda x: piece(x, training=training))
    return tf.function(lambda x: gradients_of(tf, piece, x, call))(x)


def gradients_of(tf, piece, x, call):
    """The output, and the gradients of an uneven function of it by the input and all weights that are trained."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x)
        loss = tf.reduce_sum(tf.sin(y) * tf.range(1.0, y.shape[-1] + 1))
    return [y, *tape.gradient(loss, [x, *(weight.value for weight in piece.trainable_variables)])]


def statistics_of(piece):
    return [weight.numpy() for weight in piece.non_trainable_variables]


@contextlib.contextmanager
def as_on_tpu(monkeypatch, module, name):
    """Makes layers choose what they do on TPUs; the list grows by one for every call of `name` in `module`."""
    from efficientnet_tpu.hardware import placement

    with monkeypatch.context() as patch:
        called = []
        together = getattr(module, name)
        patch.setattr(module, name, lambda *args: called.append(1) or together(*args))
        patch.setattr(placement, "on_tpu", lambda: True)
        yield called


def block_model(block, activation="silu", group_size=1, fused=True):
    """Builds one MBConv block, block_0, as a model with odd weights; fused: connected for training."""
    import keras

    from efficientnet_tpu.models.blocks import Style, mbconv
    from efficientnet_tpu.models.compound_scaling import build_architecture
    from efficientnet_tpu.models.fused.connect import connect

    inputs = keras.Input((None, None, block.input_filters))
    model = keras.Model(inputs, mbconv(inputs, block, Style(activation, 0.9, 1e-2, group_size), "block_0"))
    if fused:
        nano = build_architecture("efficientnet-nano")
        connect(model, dataclasses.replace(nano, blocks=(block,), activation=activation))
    return with_odd_weights(model)


def uneven_images(channels, height, width, replicas=1):
    """float32 [replicas, 4, height, width, channels], far from zero, where the terms of the gradient nearly cancel."""
    draw = np.random.default_rng(1)
    scale = draw.uniform(0.5, 2, (replicas, 1, 1, 1, channels))
    return draw.normal(3, scale, (replicas, 4, height, width, channels)).astype("float32")


def assert_close(actual, expected):
    for value, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


def assert_shares_of_one(tf, make_piece, on_tpu, x):
    """Each of four replicas' gradients is its share of those of one that has all images. x: of `uneven_images`."""
    from efficientnet_tpu.config.run import HardwareConfig
    from efficientnet_tpu.hardware.distribution import connect

    strategy = connect(HardwareConfig(virtual_replicas=REPLICAS))
    y, dx, *gradients = results_of(tf, make_piece(1), tf.constant(x.reshape(-1, *x.shape[2:])))
    with strategy.scope():
        piece = make_piece(REPLICAS)

    @tf.function
    def run():
        def replica():
            rank = tf.distribute.get_replica_context().replica_id_in_sync_group
            return gradients_of(tf, piece, tf.gather(x, rank), lambda x: piece(x, training=True))

        return strategy.run(replica)

    with on_tpu as called:
        parts = [strategy.experimental_local_results(value) for value in run()]
        assert len(called) == REPLICAS
    assert_close([tf.concat(part, 0) for part in parts[:2]], [y, dx])
    assert_close([tf.add_n(part) for part in parts[2:]], gradients)


def rounding_errors(tf, functions, exact, arrays, vectors, upstream):
    """Of each function's gradients in bfloat16, relative to those that `exact` has in float64.

    Called with arrays, then vectors, which stay float32 beside bfloat16. What all start from is what bfloat16 can hold.
    """
    arrays, upstream = [tf.cast(array, tf.bfloat16) for array in arrays], tf.cast(upstream, tf.bfloat16)

    def gradients(function, compute, parameters):
        inputs = [*(tf.cast(array, compute) for array in arrays), *(tf.cast(part, parameters) for part in vectors)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(tf.cast(function(*inputs), tf.float64) * tf.cast(upstream, tf.float64))
        return [np.float64(tf.cast(gradient, tf.float64)) for gradient in tape.gradient(loss, inputs)]

    truths = gradients(exact, tf.float64, tf.float64)
    return [
        [
            np.linalg.norm(found - truth) / np.linalg.norm(truth)
            for found, truth in zip(gradients(function, tf.bfloat16, tf.float32), truths, strict=True)
        ]
        for function in functions
    ]
