"""The optimizers move weights as TensorFlow 1's did, at the rate of the step, summed over replicas."""

import numpy as np
import pytest

from efficientnet_tpu import config
from efficientnet_tpu.config import HardwareConfig, TrainConfig
from efficientnet_tpu.learning_rate import Schedule, learning_rate

CONSTANT = Schedule("constant", initial=0.1, warmup_steps=0, decay_steps=1, decay_factor=1, total_steps=100)
WARM_UP = Schedule("exponential", initial=0.1, warmup_steps=3, decay_steps=2.5, decay_factor=0.5, total_steps=100)


@pytest.fixture(scope="module")
def optimizer(tf):
    from efficientnet_tpu import optimizer

    return optimizer


def run(optimizer, variables, gradients):
    """Applies the list of gradients step by step; the values of all variables after every step."""
    history = []
    for step in gradients:
        optimizer.apply([np.float32(gradient) for gradient in step], variables)
        history.append([variable.numpy() for variable in variables])
    return history


def test_keys_are_the_flags_choices(optimizer):
    assert tuple(optimizer.OPTIMIZERS) == config.OPTIMIZERS


def test_rmsprop_traces_tensorflow_1(optimizer):
    # tf.compat.v1.train.RMSPropOptimizer(0.1, decay=.9, momentum=.9, epsilon=.001), weight 1, gradient 0.5 always.
    import keras

    weight = keras.Variable(1.0)
    rmsprop = optimizer.make_optimizer(TrainConfig(), CONSTANT)
    slots = {"mean_square": [], "momentum": []}
    weights = []
    for _ in range(4):
        weights += run(rmsprop, [weight], [[0.5]])[0]
        slots["mean_square"].append(rmsprop._velocities[0].numpy())
        slots["momentum"].append(rmsprop._momentums[0].numpy())
    assert weights == pytest.approx([0.94804054, 0.8473136, 0.7006788, 0.5107041], abs=1e-7)
    assert slots["mean_square"] == pytest.approx([0.925, 0.8575, 0.79675, 0.742075], rel=1e-6)
    assert slots["momentum"] == pytest.approx([0.05195945, 0.10072698, 0.14663476, 0.18997473], abs=1e-7)


def test_rmsprop_equals_tensorflow_1_over_100_random_steps(tf, optimizer):
    import keras

    draw = np.random.default_rng(0)
    starts = [draw.normal(size=shape).astype("float32") for shape in [(3, 3, 2, 4), (4,), (1,)]]
    gradients = [
        [draw.normal(scale=10.0 ** draw.uniform(-4, 1), size=start.shape).astype("float32") for start in starts]
        for _ in range(100)
    ]
    options = {"rmsprop_decay": 0.8, "momentum": 0.7, "rmsprop_epsilon": 0.01}
    ours = optimizer.make_optimizer(TrainConfig(**options), CONSTANT)
    history = run(ours, [keras.Variable(start) for start in starts], gradients)

    with tf.Graph().as_default():
        variables = [tf.compat.v1.Variable(start) for start in starts]
        feeds = [tf.compat.v1.placeholder("float32", start.shape) for start in starts]
        theirs = tf.compat.v1.train.RMSPropOptimizer(0.1, decay=0.8, momentum=0.7, epsilon=0.01)
        update = theirs.apply_gradients(zip(feeds, variables, strict=True))
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            for step, values in zip(gradients, history, strict=True):
                session.run(update, dict(zip(feeds, step, strict=True)))
                for value, expected in zip(values, session.run(variables), strict=True):
                    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)


def test_rmsprop_built_again_keeps_its_slots(optimizer):
    import keras

    weight = keras.Variable(1.0)
    rmsprop = optimizer.make_optimizer(TrainConfig(), CONSTANT)
    run(rmsprop, [weight], [[0.5]])
    rmsprop.build([weight])
    assert rmsprop._velocities[0].numpy() == pytest.approx(0.925)


@pytest.mark.parametrize("name", config.OPTIMIZERS)
def test_first_update_has_the_rate_of_step_0(optimizer, name):
    import keras

    weight = keras.Variable(1.0)
    warming_up = optimizer.make_optimizer(TrainConfig(optimizer=name), WARM_UP)
    history = run(warming_up, [weight], [[0.5]] * 2)
    assert history[0] == [1.0]  # the warm-up starts at exactly zero
    assert history[1][0] < 1.0


def test_every_update_has_the_rate_of_its_step(tf, optimizer):
    import keras

    weight = keras.Variable(0.0)
    sgd = optimizer.make_optimizer(TrainConfig(optimizer="sgd"), WARM_UP)
    # The counter is a variable of the compiled step; nothing is baked in when it is traced.
    update = tf.function(lambda: sgd.apply([tf.ones([])], [weight]))
    rates = learning_rate(WARM_UP, np.arange(10))
    for step in range(10):
        update()
        assert weight.numpy() == pytest.approx(-rates[: step + 1].sum(), abs=1e-6)
    assert len(set(rates)) == 6  # 0, two of the warm-up, three of the decay
    assert sgd.iterations.numpy() == 10


def test_momentum_accumulates(optimizer):
    import keras

    weight = keras.Variable(0.0)
    momentum = optimizer.make_optimizer(TrainConfig(optimizer="momentum", momentum=0.5), CONSTANT)
    history = run(momentum, [weight], [[1.0]] * 3)
    assert [value for (value,) in history] == pytest.approx([-0.1, -0.25, -0.425])


@pytest.mark.parametrize("name", config.OPTIMIZERS)
def test_gradients_are_summed_over_replicas(tf, optimizer, name):
    import keras

    from efficientnet_tpu.distribution import connect

    recipe = TrainConfig(optimizer=name)
    strategy = connect(HardwareConfig(virtual_replicas=4))
    with strategy.scope():
        weight = keras.Variable(1.0)
        distributed = optimizer.make_optimizer(recipe, CONSTANT)
        distributed.build([weight])

    @tf.function
    def update():
        def replica():
            rank = tf.distribute.get_replica_context().replica_id_in_sync_group
            distributed.apply([tf.cast(rank + 1, tf.float32)], [weight])

        strategy.run(replica)

    alone = keras.Variable(1.0)
    expected = run(optimizer.make_optimizer(recipe, CONSTANT), [alone], [[1 + 2 + 3 + 4]] * 2)
    for (value,) in expected:
        update()
        assert weight.numpy() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", ["momentum", "sgd"])
def test_sgd_equals_tensorflow_1_while_the_rate_changes(tf, optimizer, name):
    import keras

    draw = np.random.default_rng(1)
    start = draw.normal(size=(3, 4)).astype("float32")
    gradients = draw.normal(size=(30, 3, 4)).astype("float32")
    ours = optimizer.make_optimizer(TrainConfig(optimizer=name, momentum=0.8), WARM_UP)
    history = run(ours, [keras.Variable(start)], [[gradient] for gradient in gradients])

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("w", initializer=start)
        gradient, rate = tf.compat.v1.placeholder(tf.float32, start.shape), tf.compat.v1.placeholder(tf.float32, ())
        theirs = {
            "momentum": tf.compat.v1.train.MomentumOptimizer(rate, 0.8),
            "sgd": tf.compat.v1.train.GradientDescentOptimizer(rate),
        }[name].apply_gradients([(gradient, variable)])
        session.run(tf.compat.v1.global_variables_initializer())
        for step, values in enumerate(gradients):
            session.run(theirs, {gradient: values, rate: learning_rate(WARM_UP, step)})
            np.testing.assert_allclose(history[step][0], session.run(variable), atol=1e-6)
