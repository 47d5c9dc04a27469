"""Batch norm and dropout on one replica and on four: against Keras, against their definitions, and by statistics."""

import numpy as np
import pytest

from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.errors import UserError

REPLICAS = 4


@pytest.fixture(scope="module")
def layers(tf):
    from efficientnet_tpu.models import layers

    return layers


@pytest.fixture(scope="module")
def strategy(tf):
    from efficientnet_tpu.hardware.distribution import connect

    return connect(HardwareConfig(virtual_replicas=REPLICAS))


def in_replicas(tf, strategy, function, values):
    """Runs function(one of the values) in every replica; what each returned, as numpy."""

    @tf.function
    def run():
        def replica():
            context = tf.distribute.get_replica_context()
            return function(tf.gather(tf.stack(values), context.replica_id_in_sync_group))

        return strategy.run(replica)

    return [
        tf.nest.map_structure(lambda value, rank=rank: strategy.experimental_local_results(value)[rank].numpy(), result)
        for result in [run()]
        for rank in range(strategy.num_replicas_in_sync)
    ]


def forward_and_gradients(tf, layer, x, training=True):
    """The output, and the gradients of an uneven function of it: by the input, gamma and beta."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        loss = tf.reduce_sum(tf.sin(y) * tf.range(1.0, y.shape[-1] + 1))
    gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
    return {"y": y, "x": gradients[0], "gamma": gradients[1], "beta": gradients[2]}


def random_state(layer, draw):
    """Sets gamma, beta and moving statistics to random values; returns them."""
    values = [draw.normal(1, 0.3, 3), draw.normal(size=3), draw.normal(size=3), draw.uniform(0.5, 2, 3)]
    for weight, value in zip((layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance), values, strict=True):
        weight.assign(value)
    return values


def batches(draw):
    """Input of every replica, [4, 5, 5, 3] each, drawn from distributions of their own."""
    means, stds = draw.normal(size=(REPLICAS, 1, 1, 1, 3)), draw.uniform(0.5, 2, (REPLICAS, 1, 1, 1, 3))
    return (means + stds * draw.normal(size=(REPLICAS, 4, 5, 5, 3))).astype("float32")


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_on_one_replica_is_keras(tf, layers, training):
    import keras

    draw = np.random.default_rng(0)
    ours = layers.BatchNormalization(momentum=0.9, epsilon=1e-2)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-2)
    for layer in (ours, theirs):
        layer.build((None, None, None, 3))
    theirs.set_weights(random_state(ours, draw))
    x = tf.constant(batches(draw)[0])
    expected = forward_and_gradients(tf, theirs, x, training)
    for name, value in forward_and_gradients(tf, ours, x, training).items():
        # The gradients by gamma and beta are sums of 100 terms.
        close(value, expected[name], 1e-4 if name in ("gamma", "beta") else 1e-5)
    close(ours.moving_mean.numpy(), theirs.moving_mean.numpy())
    close(ours.moving_variance.numpy(), theirs.moving_variance.numpy())


@pytest.mark.parametrize("group_size", [1, 2, 4, 8])
def test_batch_norm_over_groups_of_replicas(tf, layers, strategy, group_size):
    draw = np.random.default_rng(1)
    with strategy.scope():
        layer = layers.BatchNormalization(momentum=0.9, epsilon=1e-2, group_size=group_size)
        layer.build((None, None, None, 3))
    gamma, beta, moving_mean, moving_variance = random_state(layer, draw)
    x = batches(draw)
    results = in_replicas(tf, strategy, lambda x: forward_and_gradients(tf, layer, x), x)

    size = min(group_size, REPLICAS)
    means, variances = [], []
    for first in range(0, REPLICAS, size):
        group, outputs = np.concatenate(x[first : first + size]), results[first : first + size]
        # The definition: mean and biased variance of the group's images together.
        mean, variance = group.mean((0, 1, 2)), group.var((0, 1, 2))
        y = (group - mean) / np.sqrt(variance + 1e-2) * gamma + beta
        close(np.concatenate([output["y"] for output in outputs]), y)
        means.append(mean)
        variances.append(variance)
        # Gradients: those of one replica that holds the whole group.
        alone = layers.BatchNormalization(momentum=0.9, epsilon=1e-2)
        alone.build((None, None, None, 3))
        alone.set_weights([gamma, beta, moving_mean, moving_variance])
        expected = forward_and_gradients(tf, alone, tf.constant(group))
        close(np.concatenate([output["x"] for output in outputs]), expected["x"], 2e-5)
        # Every replica has its own share of the weights' gradients; the optimizer sums them.
        for name in ("gamma", "beta"):
            close(sum(output[name] for output in outputs), expected[name], 1e-4)
    # Groups are of the same size, so the mean over groups is the mean over replicas.
    close(layer.moving_mean.numpy(), 0.9 * moving_mean + 0.1 * np.mean(means, 0))
    close(layer.moving_variance.numpy(), 0.9 * moving_variance + 0.1 * np.mean(variances, 0))


def test_checkpoints_hold_the_mean_of_the_moving_statistics(tf, layers, strategy, tmp_path):
    with strategy.scope():
        layer = layers.BatchNormalization(momentum=0.0)
        layer.build((None, None, None, 3))
    x = batches(np.random.default_rng(2))
    in_replicas(tf, strategy, lambda x: layer(x, training=True), x)
    own_means = x.mean((1, 2, 3))
    copies = strategy.experimental_local_results(layer.moving_mean.value)
    close([copy.numpy() for copy in copies], own_means)

    path = tf.train.Checkpoint(layer=layer).save(tmp_path / "checkpoint")
    alone = layers.BatchNormalization()
    alone.build((None, None, None, 3))
    tf.train.Checkpoint(layer=alone).restore(path).assert_consumed()
    close(alone.moving_mean.numpy(), own_means.mean(0))
    close(alone.moving_variance.numpy(), x.var((1, 2, 3)).mean(0))


def test_batch_norm_computes_in_float32_whatever_the_input(tf, layers):
    draw = np.random.default_rng(3)
    layer = layers.BatchNormalization(momentum=0.0, dtype="mixed_bfloat16")
    x = tf.cast(draw.normal(8, 1, (64, 16, 16, 3)), tf.bfloat16)
    y = layer(x, training=True)
    assert y.dtype == tf.bfloat16
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    # bfloat16 rounds the mean, near 8, to 1/32, and the variance, a difference of numbers near 65, to 1/4.
    exact = np.float64(tf.cast(x, tf.float64))
    close(layer.moving_mean.numpy(), exact.mean((0, 1, 2)))
    close(layer.moving_variance.numpy(), exact.var((0, 1, 2)), 2e-3)


def test_a_constant_channel_gives_no_nan(tf, layers):
    # E[x^2] - E[x]^2 of a constant is rounding, up to +-1 here: far below -epsilon.
    constants = tf.random.stateless_uniform([256], [0, 0], 1000.0, 5000.0)
    x = tf.tile(constants[tf.newaxis, tf.newaxis, tf.newaxis], [7, 3, 3, 1])
    square_of_mean, mean_of_squares = tf.square(tf.reduce_mean(x, [0, 1, 2])), tf.reduce_mean(tf.square(x), [0, 1, 2])
    assert tf.reduce_min(mean_of_squares - square_of_mean) < -0.01
    layer = layers.BatchNormalization(momentum=0.0)
    layer.build(x.shape)
    for value in forward_and_gradients(tf, layer, x).values():
        assert np.isfinite(value).all()
    assert layer.moving_variance.numpy().min() >= 0


@pytest.mark.parametrize(
    ("replicas", "size"), [(1, 1), (4, 1), (8, 1), (16, 8), (32, 8), (64, 8), (128, 16), (256, 32), (2048, 256)]
)
def test_batch_norm_group_size_of_the_reference(layers, replicas, size):
    assert layers.batch_norm_group_size(replicas) == size


@pytest.mark.parametrize("replicas", [12, 100])
def test_replicas_that_do_not_form_even_groups(layers, replicas):
    with pytest.raises(UserError, match=f"^{replicas} devices: do not divide"):
        layers.batch_norm_group_size(replicas)


def dropped(tf, layers, layer, seed, shape=(64, 32)):
    """The output for ones, drawn from a seed."""
    with layers.dropout_seed(tf.constant(seed)):
        return layer(tf.ones(shape), training=True).numpy()


def test_dropout_is_a_function_of_seed_and_name(tf, layers):
    layer, twin = layers.Dropout(0.5, name="one"), layers.Dropout(0.5, name="one")
    other = layers.Dropout(0.5, name="two")
    mask = dropped(tf, layers, layer, [1, 2])
    assert np.array_equal(mask, dropped(tf, layers, layer, [1, 2]))
    assert np.array_equal(mask, dropped(tf, layers, twin, [1, 2]))
    for unlike in (dropped(tf, layers, layer, [1, 3]), dropped(tf, layers, other, [1, 2])):
        # Independent masks agree on half of the 2048 elements; 6 standard deviations are 136.
        assert abs((mask == unlike).sum() - 1024) < 136


def test_dropout_differs_between_replicas(tf, layers, strategy):
    with strategy.scope():
        layer = layers.Dropout(0.5)

    def replica(seed):
        with layers.dropout_seed(seed):
            return layer(tf.ones((64, 32)), training=True)

    seeds = np.array([[7, rank] for rank in range(REPLICAS)], "int32")
    masks = in_replicas(tf, strategy, replica, seeds)
    assert len({mask.tobytes() for mask in masks}) == REPLICAS
    # Every replica's thread saw its own seed.
    for mask, seed in zip(masks, seeds, strict=True):
        assert np.array_equal(mask, dropped(tf, layers, layer, seed))


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_dropout_keeps_its_rate_and_scales_the_survivors(tf, layers, rate):
    y = dropped(tf, layers, layers.Dropout(rate), [0, 1], (400, 500))
    assert np.unique(y) == pytest.approx([0, 1 / (1 - rate)])
    standard_deviation = np.sqrt(rate * (1 - rate) / y.size)
    assert abs((y == 0).mean() - rate) < 5 * standard_deviation


def test_stochastic_depth_drops_whole_samples(tf, layers):
    y = dropped(tf, layers, layers.Dropout(0.25, noise_shape=(None, 1, 1, 1)), [0, 1], (4000, 2, 2, 3))
    per_sample = y.reshape(4000, -1)
    assert (per_sample == per_sample[:, :1]).all()
    assert abs((per_sample[:, 0] == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_dropout_that_does_nothing(tf, layers, rate, training):
    x = tf.random.stateless_normal((8, 8), [0, 0])
    with layers.dropout_seed(tf.constant([0, 0])):
        assert np.array_equal(layers.Dropout(rate)(x, training=training), x)


def test_outside_dropout_seed_it_is_keras(tf, layers):
    import keras

    x = tf.ones((16, 16))
    ours, theirs = layers.Dropout(0.5, seed=3), keras.layers.Dropout(0.5, seed=3)
    with pytest.raises(KeyError), layers.dropout_seed(tf.constant([0, 0])):
        raise KeyError  # an error inside leaves no seed behind
    first, second = ours(x, training=True).numpy(), ours(x, training=True).numpy()
    assert np.array_equal(first, theirs(x, training=True))
    assert not np.array_equal(first, second)


def test_dropout_in_bfloat16_draws_in_float32(tf, layers):
    layer = layers.Dropout(0.002, dtype="mixed_bfloat16")
    with layers.dropout_seed(tf.constant([0, 1])):
        y = layer(tf.ones((1000, 1000), tf.bfloat16), training=True)
    assert y.dtype == tf.bfloat16
    # bfloat16 holds 256 numbers between 1 and 2: drawn in it, 0.002 would become 0.0078.
    assert abs((y.numpy() == 0).mean() - 0.002) < 5 * np.sqrt(0.002 / 1e6)


def test_a_saved_model_is_loaded_without_being_told_of_our_layers(tf, layers, tmp_path):
    """Features go into detection and segmentation models, which their authors save."""
    import keras

    inputs = keras.Input((4, 4, 3))
    x = layers.BatchNormalization(momentum=0.5, epsilon=0.1, group_size=2)(inputs)
    model = keras.Model(inputs, layers.Dropout(0.3, noise_shape=(None, 1, 1, 1), name="drop")(x))
    images = tf.random.stateless_uniform([2, 4, 4, 3], [1, 2])
    model(images, training=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert (loaded.layers[1].group_size, loaded.get_layer("drop").rate) == (2, 0.3)
