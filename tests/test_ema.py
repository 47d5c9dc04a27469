"""The average of the weights is tf.train.ExponentialMovingAverage's with num_updates, batch norm included."""

import numpy as np
import pytest

from efficientnet_tpu.config import HardwareConfig


@pytest.fixture(scope="module")
def ema(tf):
    from efficientnet_tpu import ema

    return ema


def small_model():
    """Dense + batch norm: trainable weights and moving statistics, 4 + 2 of them."""
    import keras

    from efficientnet_tpu.models.layers import BatchNormalization

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), BatchNormalization()])


def randomise(model, draw):
    for weight in model.weights:
        weight.assign(draw.normal(size=weight.shape))


def values(model):
    return [weight.numpy() for weight in model.weights]


@pytest.mark.parametrize(
    ("step", "decay"), [(1, 2 / 11), (10, 0.55), (100, 0.918182), (1000, 0.991089), (10_000, 0.999101)]
)
def test_decay_of_the_reference(tf, ema, step, decay):
    assert ema.decay_at(tf.constant(step, tf.int64), 0.9999).numpy() == pytest.approx(decay, abs=5e-7)


def test_decay_is_capped_from_step_89_990_on(tf, ema):
    cap = np.float32(0.9999)
    assert ema.decay_at(tf.constant(89_800), 0.9999).numpy() < cap  # float32 cannot tell the last steps before it
    assert ema.decay_at(tf.constant(89_990), 0.9999).numpy() == cap
    assert ema.decay_at(tf.constant(1_000_000), 0.9999).numpy() == cap


def test_start_copies(ema):
    draw = np.random.default_rng(0)
    average, model = small_model(), small_model()
    randomise(model, draw)
    randomise(average, draw)
    ema.start(average, model)
    assert len(average.weights) == 6
    for shadow, weight in zip(values(average), values(model), strict=True):
        np.testing.assert_array_equal(shadow, weight)


def test_update_equals_tensorflows_over_20_steps(tf, ema):
    draw = np.random.default_rng(1)
    average, model = small_model(), small_model()
    randomise(model, draw)
    ema.start(average, model)
    variables = [tf.Variable(value) for value in values(model)]
    step = tf.Variable(0, dtype=tf.int64)
    theirs = tf.train.ExponentialMovingAverage(0.6, num_updates=step)  # the cap is reached after 12 steps
    theirs.apply(variables)  # makes the shadows; nothing to average yet
    update = tf.function(lambda: ema.update(average, model, step, 0.6))
    for _ in range(20):
        randomise(model, draw)
        step.assign_add(1)
        update()
        for variable, value in zip(variables, values(model), strict=True):
            variable.assign(value)
        theirs.apply(variables)
        for variable, shadow in zip(variables, values(average), strict=True):
            np.testing.assert_allclose(shadow, theirs.average(variable).numpy(), rtol=1e-6, atol=1e-6)


def test_moving_statistics_are_averaged_like_weights(tf, ema):
    average, model = small_model(), small_model()
    ema.start(average, model)
    statistics = model.non_trainable_weights
    assert {statistic.name for statistic in statistics} == {"moving_mean", "moving_variance"}
    for statistic in statistics:
        statistic.assign(statistic + 11.0)
    ema.update(average, model, tf.constant(1), 0.9999)
    # At step 1 the decay is 2/11: the average keeps two of the eleven behind.
    for statistic, shadow in zip(statistics, average.non_trainable_weights, strict=True):
        np.testing.assert_allclose(shadow.numpy(), statistic.numpy() - 2, rtol=1e-6)


def test_decay_0_becomes_the_model(tf, ema):
    draw = np.random.default_rng(2)
    average, model = small_model(), small_model()
    randomise(model, draw)
    randomise(average, draw)
    ema.update(average, model, tf.constant(1000), 0.0)
    for shadow, weight in zip(values(average), values(model), strict=True):
        np.testing.assert_allclose(shadow, weight, atol=1e-6)


def test_synchronise_gives_every_replica_the_mean_statistics(tf, ema):
    from efficientnet_tpu.distribution import connect

    strategy = connect(HardwareConfig(virtual_replicas=4))
    with strategy.scope():
        average, model = small_model(), small_model()
    ema.start(average, model)

    @tf.function
    def train():
        """Statistics of replica r move to 10 r; the average follows with decay 2/11."""

        def replica():
            rank = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
            for statistic in model.non_trainable_weights:
                statistic.assign(10 * rank + tf.zeros(statistic.shape))
            ema.update(average, model, tf.constant(1), 0.9999)

        strategy.run(replica)

    def per_replica(variable):
        return [copy.numpy()[0] for copy in strategy.experimental_local_results(variable.value)]

    train()
    mean, variance = average.non_trainable_weights
    moved = 9 / 11 * 10 * np.arange(4)
    assert per_replica(mean) == pytest.approx(moved)
    assert per_replica(variance) == pytest.approx(moved + 2 / 11)  # it started at one
    ema.synchronise(average)
    assert per_replica(mean) == pytest.approx([moved.mean()] * 4)
    assert per_replica(variance) == pytest.approx([moved.mean() + 2 / 11] * 4)
