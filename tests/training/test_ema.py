"""The average of the weights is tf.train.ExponentialMovingAverage's with num_updates, batch norm included."""

import numpy as np
import pytest

from efficientnet_tpu.config.run import HardwareConfig


@pytest.fixture(scope="module")
def ema(tf):
    from efficientnet_tpu.training import ema

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


def tensorflow_1_averages(tf, starts, weights, batches, decay):
    """The same training as a TF1 graph: after every step, the variables and their averages by name.

    As the reference orders it: weights and batch norm's statistics change, the step is counted, then all are averaged.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {name: v1.Variable(value, name=name) for name, value in starts.items()}
        feeds = {name: v1.placeholder(tf.float32, starts[name].shape) for name in weights}
        batch, step = v1.placeholder(tf.float32, batches[0].shape), v1.train.create_global_step()
        assigned = [v1.assign(variables[name], feed) for name, feed in feeds.items()]
        with tf.control_dependencies(assigned):
            mean, variance = v1.nn.moments(batch @ variables["kernel"] + variables["bias"], [0])
        moved = [
            v1.assign_sub(variables[name], (variables[name] - value) * (1 - 0.99))
            for name, value in (("moving_mean", mean), ("moving_variance", variance))
        ]
        average = v1.train.ExponentialMovingAverage(decay, num_updates=step)
        with tf.control_dependencies([*moved, v1.assign_add(step, 1)]):
            averaged = average.apply(list(variables.values()))
        pairs = {name: (variable, average.average(variable)) for name, variable in variables.items()}
        session.run(v1.global_variables_initializer())
        history = []
        for number, values in enumerate(batches):
            session.run(averaged, {batch: values, **{feeds[name]: weights[name][number] for name in feeds}})
            history.append(session.run(pairs))
    return history


@pytest.mark.parametrize("decay", [0.9999, 0.6])  # the ramp alone; a cap after 12 steps
def test_120_steps_equal_tensorflow_1_batch_norm_included(tf, ema, decay):
    draw = np.random.default_rng(1)
    average, model = small_model(), small_model()
    randomise(model, draw)
    model.weights[-1].assign([0.5, 2.0])  # a variance
    ema.start(average, model)
    starts = {weight.name: weight.numpy() for weight in model.weights}
    walks = {
        weight.name: weight.numpy() + draw.normal(0, 0.1, (120, *weight.shape)).cumsum(0).astype("float32")
        for weight in model.trainable_weights
    }
    batches = draw.normal(1, 2, (120, 16, 3)).astype("float32")
    step = tf.Variable(0, dtype=tf.int64)
    update = tf.function(lambda: ema.update(average, model, step, decay))
    theirs = tensorflow_1_averages(tf, starts, walks, batches, decay)
    for number, expected in enumerate(theirs):
        for weight in model.trainable_weights:
            weight.assign(walks[weight.name][number])
        model(batches[number], training=True)
        step.assign_add(1)
        update()
        for weight, shadow in zip(model.weights, average.weights, strict=True):
            for value, other in zip((weight, shadow), expected[weight.name], strict=True):
                np.testing.assert_allclose(value.numpy(), other, rtol=0, atol=2e-6 * abs(other).max())
    assert step.numpy() == 120
    assert abs(model.weights[-1].numpy() - [0.5, 2.0]).min() > 1  # the statistics have moved


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


def test_synchronize_gives_every_replica_the_mean_statistics(tf, ema):
    from efficientnet_tpu.hardware.distribution import connect

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
    ema.synchronize(average)
    assert per_replica(mean) == pytest.approx([moved.mean()] * 4)
    assert per_replica(variance) == pytest.approx([moved.mean() + 2 / 11] * 4)
