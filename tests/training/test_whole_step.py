"""Whole training steps equal the recipe written out in NumPy (numpy_recipe.py), in everything that a step changes."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.models.architecture import MBConvSpec
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.training.learning_rate import make_schedule
from tests.support import numpy_recipe, small_training

BATCH_SIZE = 12
NUM_IMAGES = 30
NUM_CLASSES = 10
# Ten steps of 2.5 to the epoch: a warm-up of 4, then every 3 a step down. The decay of weights is large enough, and the
# average fast enough, to be seen in them.
OPTIONS = {
    "train_batch_size": BATCH_SIZE, "base_learning_rate": 0.1, "lr_warmup_epochs": 1.6, "lr_decay_epochs": 1.2,
    "weight_decay": 0.01, "moving_average_decay": 0.5,
}  # fmt: skip
RECIPE = numpy_recipe.Recipe(
    batch_size=BATCH_SIZE,
    num_images=NUM_IMAGES,
    base_rate=0.1,
    warmup_epochs=Fraction(8, 5),
    decay_epochs=Fraction(6, 5),
    weight_decay=0.01,
    average_decay=0.5,
)


def small():
    """Every kind of block: with and without expansion, squeeze-and-excitation and residual, 3 x 3 and 5 x 5, stride 1
    and 2. No dropout.
    """
    fields = ("stage", "input_filters", "filters", "kernel_size", "strides", "expand_ratio", "se_filters", "drop_rate")
    rows = [
        (1, 8, 8, 3, 1, 1, 4, 0.0),
        (2, 8, 16, 3, 2, 4, 8, 0.0),
        (2, 16, 16, 3, 1, 4, 8, 0.0),
        (3, 16, 16, 5, 2, 1, 0, 0.0),
        (4, 16, 16, 3, 2, 1, 0, 0.0),
        (6, 16, 24, 3, 2, 1, 0, 0.0),
    ]
    return dataclasses.replace(
        build_architecture("efficientnet-nano", num_classes=NUM_CLASSES, dropout_rate=0.0),
        stem_filters=8,
        blocks=tuple(MBConvSpec(**dict(zip(fields, row, strict=True))) for row in rows),
        head_filters=64,
    )


STRIDES = [block.strides for block in small().blocks]


def draw_batch(batch_size, height, width):
    draw = np.random.default_rng(0)
    labels = np.arange(batch_size, dtype="int32") % NUM_CLASSES
    images = draw.integers(0, 256, (batch_size, height, width, 3)).astype("uint8")
    images[..., 0] = 20 * labels[:, np.newaxis, np.newaxis]  # something to learn
    return images, labels


# Even and odd sides, so that SAME pads on one side and on both: 36, 18, 9, 5, 3, 2 high, 31, 16, 8, 4, 2, 1 wide.
IMAGES, LABELS = draw_batch(BATCH_SIZE, 36, 31)


# Of 40 tried, the one whose gradients rounding disturbs least. In float32 a sum of numbers of either sign, such as the
# gradient of a gamma, keeps some five digits of seven; NumPy in float32 does no better.
SEED = 37


def draw_weights(model):
    """Values by path, none 0 or 1 as they are initialised."""
    draw = np.random.default_rng(SEED)
    values = {}
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.name == "kernel":
            inputs = shape[:2] if shape[-1] == 1 else shape[:-1]  # depthwise
            values[weight.path] = draw.normal(0, np.sqrt(2 / np.prod(inputs)), shape)
        else:
            around = 1 if weight.name in ("gamma", "moving_variance") else 0
            values[weight.path] = around + draw.uniform(-0.3, 0.3, shape)
    return {path: value.astype("float32") for path, value in values.items()}


@pytest.fixture(scope="module")
def train_step(tf):
    from efficientnet_tpu.training import train_step

    return train_step


class Training(small_training.Training):
    """Our state, step and loop on a fixed batch, from `draw_weights`."""

    def __init__(self, tf, train_step, batch, **options):
        from efficientnet_tpu.training import ema

        options = OPTIONS | options
        schedule = make_schedule(with_options(Config(), options).train, NUM_IMAGES)
        super().__init__(tf, train_step, small(), batch, schedule=schedule, **options)
        values = draw_weights(self.state.model)
        for weight in self.state.model.weights:
            weight.assign(values[weight.path])
        ema.start(self.state.average, self.state.model)

    def values(self):
        """{kind: {path: array}} of all that a step changes."""
        state, optimizer = self.state, self.state.optimizer
        kinds = {
            "weight": (state.model.weights, state.model.weights),
            "average": (state.model.weights, state.average.weights),
            "mean_square": (state.model.trainable_weights, optimizer._velocities),
            "momentum": (state.model.trainable_weights, optimizer._momentums),
        }
        return {
            kind: {weight.path: variable.numpy() for weight, variable in zip(*pair, strict=True)}
            for kind, pair in kinds.items()
        }

    def take_loss(self):
        loss = float(self.state.loss.result())
        self.state.loss.reset_state()
        return loss


def values_of(training):
    """The same of a numpy_recipe.Training."""
    names = {"weight": "weights", "average": "average", "mean_square": "mean_square", "momentum": "momentum"}
    return {kind: getattr(training, name) for kind, name in names.items()}


# The betas of the projections that only 1 x 1 convolutions and their batch norms follow, which subtract any constant:
# their gradients and, as batch norm has no L2, their momenta are zero, up to rounding.
WITHOUT_GRADIENT = {"block_0_project_bn/beta", "block_5_project_bn/beta"}


def errors(actual, expected):
    """{(kind, path): largest difference over the largest element expected in the tensor, or of all tensors of its kind
    where the tensor should be zero}.
    """
    result = {}
    for kind, tensors in expected.items():
        assert actual[kind].keys() == tensors.keys()
        largest = {path: abs(value).max() for path, value in tensors.items()}
        if kind == "momentum":
            largest |= dict.fromkeys(WITHOUT_GRADIENT, max(largest.values()))
        for path, value in tensors.items():
            difference = abs(actual[kind][path] - value).max()
            result[kind, path] = difference and difference / largest[path]  # while the rate is 0, both are 0
    return result


# Momenta are made of gradients alone; everything else also of numbers that did not need to be computed. The order of a
# float32 sum depends on the processor: block_1_expand_bn/gamma is off by 1.0e-5 on Sapphire Rapids, 1.24e-5 on EPYC.
TOLERANCES = {"weight": 2e-6, "average": 2e-6, "mean_square": 2e-6, "momentum": 2e-5}


def assert_same(training, expected):
    measured = errors(training.values(), values_of(expected))
    assert len(measured) == 2 * len(training.state.model.weights) + 2 * len(training.state.model.trainable_weights)
    for (kind, path), error in measured.items():
        assert error < TOLERANCES[kind], (kind, path)


def numpy_twin(training, recipe):
    return numpy_recipe.Training(recipe, training.values()["weight"], STRIDES)


@pytest.fixture(scope="module")
def start(tf, train_step):
    """The weights that every Training begins with, by path."""
    return Training(tf, train_step, (IMAGES, LABELS)).values()["weight"]


@pytest.mark.parametrize("name", ["kernel", "gamma", "beta", "bias"])
def test_numpys_gradients_are_the_derivatives(start, name):
    def loss_and_gradients(weights):
        network = numpy_recipe.Network(weights, STRIDES, RECIPE.batch_norm_epsilon)
        return numpy_recipe.loss_and_gradients(network, IMAGES[:4, :20, :17], LABELS[:4], RECIPE)

    weights = {path: value.astype("float64") for path, value in start.items()}
    draw = np.random.default_rng(2)
    along = {path: draw.normal(size=value.shape) for path, value in weights.items() if path.endswith(name)}
    _, gradients = loss_and_gradients(weights)
    expected = sum((gradients[path] * direction).sum() for path, direction in along.items())
    ahead, behind = (
        loss_and_gradients(weights | {path: weights[path] + step * direction for path, direction in along.items()})[0]
        for step in (1e-6, -1e-6)
    )
    assert (ahead - behind) / 2e-6 == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"base_rate": 0.101}, {"warmup_epochs": Fraction(2)}, {"decay_epochs": Fraction(8, 5)}, {"decay_factor": 0.98},
        {"rmsprop_decay": 0.91}, {"momentum": 0.91}, {"rmsprop_epsilon": 0.002}, {"average_decay": 0.55},
        {"weight_decay": 0.005}, {"label_smoothing": 0.11},
        {"batch_norm_momentum": 0.98}, {"batch_norm_epsilon": 0.002},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_ten_steps_show_every_number_of_the_recipe(start, change):
    """What the tolerance of the tests below is worth."""
    recipe = dataclasses.replace(RECIPE, batch_size=4, num_images=10)
    right, wrong = (
        numpy_recipe.Training(one, start, STRIDES) for one in (recipe, dataclasses.replace(recipe, **change))
    )
    for _ in range(10):
        for training in (right, wrong):
            training.step(IMAGES[:4, :20, :17], LABELS[:4])
    assert max(errors(values_of(wrong), values_of(right)).values()) > 1e-3


def test_one_step(tf, train_step):
    training = Training(tf, train_step, (IMAGES, LABELS), lr_warmup_epochs=0.0)
    expected = numpy_twin(training, dataclasses.replace(RECIPE, warmup_epochs=Fraction(0)))
    before = training.values()
    training.strategy.run(training.step, args=next(training.iterator))
    loss = expected.step(IMAGES, LABELS)
    assert training.take_loss() == pytest.approx(loss, rel=1e-6)
    assert_same(training, expected)
    moved = errors(before, values_of(expected))
    assert min(error for (kind, path), error in moved.items() if path not in WITHOUT_GRADIENT) > 1e-5


@pytest.mark.slow
def test_ten_steps(tf, train_step):
    training = Training(tf, train_step, (IMAGES, LABELS))
    expected = numpy_twin(training, RECIPE)
    loop = train_step.make_train_loop(training.strategy, training.step)
    for _ in range(10):
        loop(training.iterator, tf.constant(1))
        loss = expected.step(IMAGES, LABELS)
        assert training.take_loss() == pytest.approx(loss, rel=1e-6)
        assert_same(training, expected)
    assert {path for path, value in expected.momentum.items() if abs(value).max() < 1e-14} == WITHOUT_GRADIENT
    rates = [RECIPE.learning_rate(step) / (0.1 * BATCH_SIZE / 256) for step in range(10)]
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, 0.97, 0.97, 0.97**2, 0.97**2, 0.97**2, 0.97**3])


@pytest.mark.slow
def test_four_replicas_clip_like_one(tf, train_step, monkeypatch):
    """Batch norm over all replicas, so that nothing depends on which replica an image is in."""
    monkeypatch.setattr(train_step, "batch_norm_group_size", lambda num_replicas: num_replicas)
    batch = draw_batch(32, 36, 31)
    options = {"train_batch_size": 32, "lr_warmup_epochs": 0.0}
    clip = {"gradient_clip_norm": 0.1}
    one = Training(tf, train_step, batch, **options, **clip)
    four = Training(tf, train_step, batch, **options, **clip, virtual_replicas=4)
    unclipped = Training(tf, train_step, batch, **options)
    for training in (one, four, unclipped):
        for _ in range(3):
            training.strategy.run(training.step, args=next(training.iterator))
    assert four.strategy.num_replicas_in_sync == 4
    measured = errors(four.values(), one.values())
    worst = max(measured, key=measured.get)
    assert measured[worst] < 1e-4, (worst, measured[worst])
    assert max(errors(unclipped.values(), one.values()).values()) > 1


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_is_tensorflow_1s(tf, label_smoothing):
    from efficientnet_tpu.training.loss import smoothed_cross_entropy

    draw = np.random.default_rng(3)
    logits, targets = draw.normal(0, 5, (64, 1000)).astype("float32"), np.eye(1000, dtype="float32")[:64]
    ours = tf.reduce_mean(smoothed_cross_entropy(targets, logits, label_smoothing)).numpy()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loss = tf.compat.v1.losses.softmax_cross_entropy(targets, logits, label_smoothing=label_smoothing)
        assert ours == pytest.approx(session.run(loss), rel=1e-6)


@pytest.mark.slow
def test_adamw_takes_its_decay_off_the_weights_and_out_of_the_loss(tf, train_step):
    options = {"optimizer": "adamw", "lr_warmup_epochs": 0.0}
    decaying = Training(tf, train_step, (IMAGES, LABELS), **options, weight_decay=0.5)
    plain = Training(tf, train_step, (IMAGES, LABELS), **options, weight_decay=0.0)
    start = decaying.values()["weight"]
    for training in (decaying, plain):
        training.strategy.run(training.step, args=next(training.iterator))
    assert decaying.take_loss() == plain.take_loss()
    ends, plain_ends = decaying.values()["weight"], plain.values()["weight"]
    for path, end in ends.items():
        decay = 0.5 * RECIPE.learning_rate(4) / 0.97 if path.endswith("/kernel") else 0.0  # the rate of step 0
        np.testing.assert_allclose(end, plain_ends[path] - decay * start[path], rtol=0, atol=1e-6, err_msg=path)
