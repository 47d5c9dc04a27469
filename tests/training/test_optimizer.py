"""The optimizers move weights as TensorFlow 1's did, at the rate of the step, summed over replicas."""

import itertools

import numpy as np
import pytest

from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.config.train import OPTIMIZERS, TrainConfig
from efficientnet_tpu.training.learning_rate import Schedule, learning_rate

CONSTANT = Schedule("constant", initial=0.1, warmup_steps=0, decay_steps=1, decay_factor=1, total_steps=100)
WARM_UP = Schedule("exponential", initial=0.1, warmup_steps=3, decay_steps=2.5, decay_factor=0.5, total_steps=100)
# The recipe's in small: 120 steps through warm-up, fall and treads.
RECIPE = Schedule("exponential", initial=0.256, warmup_steps=25, decay_steps=12.3, decay_factor=0.97, total_steps=120)
SHAPES = {"kernel": (3, 3, 2, 4), "gamma": (4,), "beta": (4,), "bias": (5,)}


@pytest.fixture(scope="module")
def optimizer(tf):
    from efficientnet_tpu.training import optimizer

    return optimizer


def run(optimizer, variables, gradients):
    """Applies the list of gradients step by step; the values of all variables after every step."""
    history = []
    for step in gradients:
        optimizer.apply([np.float32(gradient) for gradient in step], variables)
        history.append([variable.numpy() for variable in variables])
    return history


def variables_of(starts):
    """Keras variables by name, with these values."""
    import keras

    return [keras.Variable(value, name=name) for name, value in starts.items()]


def draw_problem(seed, num_steps=120):
    """Starting values by name, and gradients of very different sizes for every step."""
    draw = np.random.default_rng(seed)
    starts = {name: draw.normal(size=shape).astype("float32") for name, shape in SHAPES.items()}
    gradients = [
        [draw.normal(scale=10.0 ** draw.uniform(-4, 1), size=shape).astype("float32") for shape in SHAPES.values()]
        for _ in range(num_steps)
    ]
    return starts, gradients


def run_tensorflow_1(tf, make_optimizer, starts, gradients, schedule, clip_norm=0.0):
    """The same with an optimizer of TF1, made from the rate (a placeholder) and fed the schedule's.

    Returns the history, and its slots after the last step by slot name.
    """
    history = []
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.Variable(value, name=name) for name, value in starts.items()]
        feeds = [tf.compat.v1.placeholder("float32", value.shape) for value in starts.values()]
        rate = tf.compat.v1.placeholder(tf.float32, ())
        theirs = make_optimizer(rate)
        clipped = tf.clip_by_global_norm(feeds, clip_norm)[0] if clip_norm else feeds
        update = theirs.apply_gradients(zip(clipped, variables, strict=True))
        session.run(tf.compat.v1.global_variables_initializer())
        for number, step in enumerate(gradients):
            session.run(update, {rate: learning_rate(schedule, number), **dict(zip(feeds, step, strict=True))})
            history.append(session.run(variables))
        slots = {
            name: session.run([theirs.get_slot(variable, name) for variable in variables])
            for name in theirs.get_slot_names()
        }
    return history, slots


def assert_same(actual, expected, tolerance=1e-6):
    """Each array within `tolerance` of the largest element of the one expected."""
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * abs(other).max())


def test_keys_are_the_flags_choices(optimizer):
    assert tuple(optimizer.OPTIMIZERS) == OPTIMIZERS


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


@pytest.mark.parametrize(
    "options",
    [{}, {"rmsprop_decay": 0.8, "momentum": 0.7, "rmsprop_epsilon": 0.01}, {"momentum": 0.0}],
    ids=["recipe", "others", "no-momentum"],
)
def test_rmsprop_equals_tensorflow_1_over_120_steps(tf, optimizer, options):
    recipe = TrainConfig(**options)
    starts, gradients = draw_problem(0)
    ours = optimizer.make_optimizer(recipe, RECIPE)
    history = run(ours, variables_of(starts), gradients)

    def theirs(rate):
        return tf.compat.v1.train.RMSPropOptimizer(
            rate, decay=recipe.rmsprop_decay, momentum=recipe.momentum, epsilon=recipe.rmsprop_epsilon
        )

    expected, slots = run_tensorflow_1(tf, theirs, starts, gradients, RECIPE)
    for values, expected_values in zip(history, expected, strict=True):
        assert_same(values, expected_values)
    assert_same([slot.numpy() for slot in ours._velocities], slots["rms"])
    if recipe.momentum:
        assert_same([slot.numpy() for slot in ours._momentums], slots["momentum"])


def test_rmsprop_built_again_keeps_its_slots(optimizer):
    import keras

    weight = keras.Variable(1.0)
    rmsprop = optimizer.make_optimizer(TrainConfig(), CONSTANT)
    run(rmsprop, [weight], [[0.5]])
    rmsprop.build([weight])
    assert rmsprop._velocities[0].numpy() == pytest.approx(0.925)


@pytest.mark.parametrize("name", ["momentum", "sgd"])
def test_sgd_equals_tensorflow_1_over_120_steps(tf, optimizer, name):
    starts, gradients = draw_problem(1)
    ours = optimizer.make_optimizer(TrainConfig(optimizer=name), RECIPE)
    history = run(ours, variables_of(starts), gradients)
    theirs = {
        "momentum": lambda rate: tf.compat.v1.train.MomentumOptimizer(rate, 0.9),
        "sgd": tf.compat.v1.train.GradientDescentOptimizer,
    }[name]
    expected, slots = run_tensorflow_1(tf, theirs, starts, gradients, RECIPE)
    for values, expected_values in zip(history, expected, strict=True):
        assert_same(values, expected_values)
    if name == "momentum":
        assert_same([slot.numpy() for slot in ours.momentums], slots["momentum"])


def lars_by_definition(starts, gradients, decay, epsilon):
    """You, Gitman and Ginsburg 2017, algorithm 1, in float64, with the reference's 0.001 and momentum of 0.9."""
    weights = {name: value.astype("float64") for name, value in starts.items()}
    momentum = {name: np.zeros_like(value) for name, value in weights.items()}
    history = []
    for number, step in enumerate(gradients):
        for (name, weight), gradient in zip(weights.items(), step, strict=True):
            rate = learning_rate(RECIPE, number)
            if name == "kernel":
                norm, gradient_norm = np.linalg.norm(weight), np.linalg.norm(gradient)
                if norm > 0 and gradient_norm > 0:
                    rate = rate * 0.001 * norm / (gradient_norm + decay * norm + epsilon)
                gradient = gradient + decay * weight  # noqa: PLW2901
            momentum[name] = 0.9 * momentum[name] + rate * gradient
            weights[name] = weight - momentum[name]
        history.append(list(weights.values()))
    return history


@pytest.mark.parametrize(("decay", "epsilon"), [(1e-5, 0.0), (0.3, 0.2)])
def test_lars_equals_its_definition_over_120_steps(tf, optimizer, decay, epsilon):
    starts, gradients = draw_problem(2)
    recipe = TrainConfig(optimizer="lars", lars_weight_decay=decay, lars_epsilon=epsilon)
    assert (TrainConfig().lars_weight_decay, TrainConfig().lars_epsilon) == (1e-5, 0.0)  # the reference's
    history = run(optimizer.make_optimizer(recipe, RECIPE), variables_of(starts), gradients)
    for values, expected in zip(history, lars_by_definition(starts, gradients, decay, epsilon), strict=True):
        assert_same(values, expected, 3e-6)


@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 0.5), (2.0, 0.0), (0.0, 0.0)])
def test_lars_with_a_norm_of_zero_is_momentum(optimizer, weight, gradient):
    variables = variables_of({"kernel": np.full(4, weight, "float32")})
    lars = optimizer.make_optimizer(TrainConfig(optimizer="lars", lars_weight_decay=0.5), CONSTANT)
    ((value,),) = run(lars, variables, [[np.full(4, gradient)]])
    np.testing.assert_allclose(value, weight - 0.1 * (gradient + 0.5 * weight), rtol=1e-6)


@pytest.mark.slow
def test_adamw_is_tensorflow_1s_adam_with_its_decay_apart(tf, optimizer):
    starts, gradients = draw_problem(3)

    def adam(rate):
        return tf.compat.v1.train.AdamOptimizer(rate, epsilon=1e-7)

    plain = run(
        optimizer.make_optimizer(TrainConfig(optimizer="adamw", weight_decay=0.0), RECIPE),
        variables_of(starts),
        gradients,
    )
    expected, _ = run_tensorflow_1(tf, adam, starts, gradients, RECIPE)
    for values, expected_values in zip(plain, expected, strict=True):
        # Adam's 1 - 0.999^t has an error of 1e-5 in float32 at first, and TF1 multiplies up what Keras raises.
        assert_same(values, expected_values, 1e-5)

    # The moments do not see the weights: with decay, weights shrink by rate * decay and then move as without.
    decaying = optimizer.make_optimizer(TrainConfig(optimizer="adamw", weight_decay=0.05), RECIPE)
    history = run(decaying, variables_of(starts), gradients)
    weights = dict(starts)
    before = list(starts.values())
    for number, (values, without) in enumerate(zip(history, plain, strict=True)):
        for index, name in enumerate(weights):
            shrunk = 1 - learning_rate(RECIPE, number) * (0.05 if name == "kernel" else 0.0)
            weights[name] = weights[name] * shrunk + (without[index] - before[index])
        assert_same(values, weights.values(), 3e-6)
        before = without
    assert abs(history[-1][0] - plain[-1][0]).max() > 0.1


def test_l2_in_the_loss(optimizer):
    factors = {name: optimizer.l2_factor(TrainConfig(optimizer=name, weight_decay=0.1)) for name in OPTIMIZERS}
    assert factors == {"rmsprop": 0.1, "momentum": 0.1, "sgd": 0.1, "lars": 0.1, "adamw": 0.0}


def test_what_is_spared_is_batch_norm_and_biases(tf, optimizer):
    from efficientnet_tpu.models.compound_scaling import build_architecture
    from efficientnet_tpu.models.efficientnet import build_model

    model = build_model(build_architecture("efficientnet-b0"))
    spared = {weight.path for weight in model.trainable_weights if weight.name in optimizer.SPARED}
    assert spared == {w.path for w in model.trainable_weights if "_bn/" in w.path or w.path.endswith("/bias")}
    assert len(model.trainable_weights) - len(spared) == 82  # kernels: 49 before batch norms, 32 of gates, 1 classifier
    lars, adamw = (optimizer.make_optimizer(TrainConfig(optimizer=name), CONSTANT) for name in ("lars", "adamw"))
    for one in (lars, adamw):
        one.build(model.trainable_variables)
    assert {model.trainable_variables[index].path for index in lars._spared} == spared
    assert {w.path for w in model.trainable_variables if not adamw._use_weight_decay(w.value)} == spared


@pytest.mark.parametrize("name", ["rmsprop", "momentum"])
def test_clipping_equals_tensorflow_1(tf, optimizer, name):
    starts, gradients = draw_problem(4)
    norms = [np.sqrt(sum(np.square(gradient).sum() for gradient in step)) for step in gradients]
    assert np.mean(np.array(norms) > 5) == pytest.approx(0.5, abs=0.3)  # some are clipped, and some are not
    ours = optimizer.make_optimizer(TrainConfig(optimizer=name, gradient_clip_norm=5.0), RECIPE)
    history = run(ours, variables_of(starts), gradients)
    theirs = {
        "rmsprop": lambda rate: tf.compat.v1.train.RMSPropOptimizer(rate, 0.9, 0.9, 1e-3),
        "momentum": lambda rate: tf.compat.v1.train.MomentumOptimizer(rate, 0.9),
    }[name]
    expected, _ = run_tensorflow_1(tf, theirs, starts, gradients, RECIPE, clip_norm=5.0)
    for values, expected_values in zip(history, expected, strict=True):
        assert_same(values, expected_values)


@pytest.mark.parametrize("name", OPTIMIZERS)
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


CLIPPED = [("rmsprop", 1.0), ("adamw", 0.0), ("lars", 1.0)]  # the others are slow
OPTIMIZERS_AND_NORMS = [
    pytest.param(*pair, marks=() if pair in CLIPPED else pytest.mark.slow)
    for pair in itertools.product(OPTIMIZERS, (0.0, 1.0))
]


@pytest.mark.parametrize(("name", "clip_norm"), OPTIMIZERS_AND_NORMS)
def test_gradients_are_summed_over_replicas_and_then_clipped(tf, optimizer, name, clip_norm):
    from efficientnet_tpu.hardware.distribution import connect

    recipe = TrainConfig(optimizer=name, gradient_clip_norm=clip_norm, weight_decay=0.1, lars_weight_decay=0.1)
    starts, gradients = draw_problem(5, num_steps=4 * 3)
    strategy = connect(HardwareConfig(virtual_replicas=4))
    with strategy.scope():
        variables = variables_of(starts)
        distributed = optimizer.make_optimizer(recipe, CONSTANT)
        distributed.build(variables)

    @tf.function
    def update(step):
        def replica():
            rank = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = [tf.gather(tf.stack(values), 4 * step + rank) for values in zip(*gradients, strict=True)]
            distributed.apply(own, variables)

        strategy.run(replica)

    sums = [
        [np.sum(values, 0) for values in zip(*gradients[first : first + 4], strict=True)] for first in range(0, 12, 4)
    ]
    expected = run(optimizer.make_optimizer(recipe, CONSTANT), variables_of(starts), sums)
    for step, values in enumerate(expected):
        update(tf.constant(step))
        assert_same([variable.numpy() for variable in variables], values)
        for variable, value in zip(variables, values, strict=True):
            copies = strategy.experimental_local_results(variable.value)
            assert_same([copy.numpy() for copy in copies], [value] * 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_a_continued_run_is_an_uninterrupted_one(tf, shapes, tiny_recipe, tmp_path, name):
    from efficientnet_tpu import cli

    def train(directory, epochs):
        cli.main([
            "main.py", *tiny_recipe, f"--data_dir={shapes}", f"--model_dir={tmp_path / directory}",
            f"--optimizer={name}", "--gradient_clip_norm=0.5", "--epochs_per_eval=2", f"--train_epochs={epochs}",
        ])  # fmt: skip
        path = tf.train.latest_checkpoint(tmp_path / directory / "checkpoints")
        keys = [
            key for key, _ in tf.train.list_variables(path) if key.endswith("VARIABLE_VALUE") and "counter" not in key
        ]
        return {key: tf.train.load_variable(path, key) for key in keys}

    start, continued, whole = train("continued", 2), train("continued", 4), train("whole", 4)
    assert whole.keys() == continued.keys() == start.keys()
    for key, value in whole.items():
        np.testing.assert_array_equal(continued[key], value, err_msg=key)
    # The slots are among them, and the last two epochs have moved them.
    slots = [key for key in whole if key.startswith("optimizer/") and "trainable" not in key and whole[key].ndim]
    assert len(slots) > 90
    assert sum(np.array_equal(start[key], whole[key]) for key in slots) < 0.1 * len(slots)
