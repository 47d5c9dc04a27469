"""Micro-batches: together they are the batch; what they are refused; what batch norm and dropout see of them."""

import numpy as np
import pytest

from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.errors import UserError
from tests.support.small_training import BATCH_SIZE, MIXING, NUM_CLASSES, Training, draw_batch, small

WITHOUT_DROPOUT = small(dropout_rate=0.0, drop_rate=0.0)
# Batch norm by its moving statistics: then an image's loss does not depend on its company.
FROZEN = {"bn_mode": "frozen", "weight_decay": 0.01, "rate": 1e-3}


@pytest.fixture(scope="module")
def train_step(tf):
    from efficientnet_tpu.training import train_step

    return train_step


def make_training(tf, train_step, architecture=WITHOUT_DROPOUT, batch=None, **options):
    """A Training whose batch norm has statistics unlike the initial ones, the same for all."""
    from efficientnet_tpu.training import ema

    training = Training(tf, train_step, architecture, batch or draw_batch(), **options)
    draw = np.random.default_rng(1)
    for weight in training.state.model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(draw.uniform(0.5, 1.5, weight.shape))
        if weight.name in ("beta", "moving_mean"):
            weight.assign(draw.uniform(-0.5, 0.5, weight.shape))
    ema.start(training.state.average, training.state.model)
    return training


def assert_same(training, expected, start):
    """All that a step changes, and its metrics, to float32's tolerance; and that everything that is trained moved."""
    for part, values in expected.values().items():
        for value, other in zip(values, training.values()[part], strict=True):
            np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-6, err_msg=part)
    for weight, before in zip(training.state.model.weights, start["model"], strict=True):
        assert np.array_equal(weight.numpy(), before) != weight.trainable, weight.path
    for metric in ("loss", "accuracy"):
        results = [getattr(one.state, metric).result().numpy() for one in (training, expected)]
        assert results[0] == pytest.approx(results[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "options"),
    [
        (4, MIXING | {"gradient_clip_norm": 0.1}),
        (2, {}),
        (BATCH_SIZE, {"optimizer": "lars"}),
    ],
)
def test_micro_batches_are_the_batch(tf, train_step, count, options):
    whole = make_training(tf, train_step, **FROZEN, **options)
    parts = make_training(tf, train_step, **FROZEN, **options, gradient_accumulation_steps=count)
    start = whole.values()
    for training in (whole, parts):
        training.run(3)
        assert training.state.optimizer.iterations.numpy() == 3
    assert_same(parts, whole, start)


@pytest.mark.slow
def test_micro_batches_of_four_replicas_are_the_batch(tf, train_step):
    whole = make_training(tf, train_step, **FROZEN)
    parts = make_training(tf, train_step, **FROZEN, gradient_accumulation_steps=2, virtual_replicas=4)
    assert parts.strategy.num_replicas_in_sync == 4
    start = whole.values()
    for training in (whole, parts):
        training.run(3)
    assert_same(parts, whole, start)


@pytest.mark.slow
def test_batch_norm_trains_in_micro_batches_on_four_replicas(tf, train_step):
    training = make_training(tf, train_step, small(), gradient_accumulation_steps=2, virtual_replicas=4)
    start = training.values()["model"]
    training.run(2)
    ends = training.values()["model"]
    assert all(np.isfinite(weight).all() for weight in ends)
    # All but what has no gradient, because a batch norm follows that subtracts it.
    moved = [not np.array_equal(weight, before) for weight, before in zip(ends, start, strict=True)]
    assert np.mean(moved) > 0.9


@pytest.mark.slow
def test_batch_norm_sees_micro_batches(tf, train_step):
    training = make_training(tf, train_step, batch_norm_momentum=0.9, gradient_accumulation_steps=2)
    images, _ = draw_batch()
    layers = {layer.name: layer for layer in training.state.model.layers}
    features = layers["stem_conv"](layers["normalization"](tf.constant(images, tf.float32))).numpy()
    statistic = layers["stem_bn"].moving_variance
    expected = statistic.numpy()
    momentum = layers["stem_bn"].momentum
    for half in (features[:16], features[16:]):
        expected = momentum * expected + (1 - momentum) * half.var(axis=(0, 1, 2))
    training.run(1)
    np.testing.assert_allclose(statistic.numpy(), expected, rtol=1e-5)


@pytest.mark.slow
def test_every_micro_batch_has_a_seed_of_its_own(tf, train_step, monkeypatch):
    seeds, dropout_seed = [], train_step.dropout_seed
    monkeypatch.setattr(
        train_step, "dropout_seed", lambda seed: seeds.append(tuple(seed.numpy())) or dropout_seed(seed)
    )
    for _ in range(2):
        make_training(tf, train_step, small(), gradient_accumulation_steps=4).run_eagerly(2)
    assert seeds[:8] == seeds[8:]
    assert len(set(seeds)) == 8


def test_dropout_differs_between_micro_batches(tf, train_step):
    """Two equal halves: were dropout the same in both, so would be their losses."""
    images, labels = (np.tile(part[:16], (2,) + (1,) * (part.ndim - 1)) for part in draw_batch())
    training = make_training(tf, train_step, small(), (images, labels), **FROZEN, gradient_accumulation_steps=2)
    losses = []
    training.state.loss.update_state = losses.append
    training.run_eagerly(1)
    [losses] = losses
    assert losses.shape == (32,)
    assert np.all(losses[:16] != losses[16:])


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_one_micro_batch_needs_no_loop(tf, train_step, count):
    training = make_training(tf, train_step, gradient_accumulation_steps=count)
    batch = (tf.TensorSpec([BATCH_SIZE, 32, 32, 3], tf.uint8), tf.TensorSpec([BATCH_SIZE], tf.int32))
    operations = tf.function(training.step).get_concrete_function(*batch).graph.get_operations()
    loops = [operation for operation in operations if operation.type in ("While", "StatelessWhile")]
    assert len(loops) == count - 1
    convolutions = [operation for operation in operations if operation.type == "Conv2D"]
    assert bool(convolutions) == (count == 1)


@pytest.mark.slow
def test_micro_batches_repeat_bitwise(tf, train_step):
    first, again = (make_training(tf, train_step, small(), gradient_accumulation_steps=4) for _ in range(2))
    for training in (first, again):
        training.run(3)
    for part, values in first.values().items():
        for value, repeated in zip(values, again.values()[part], strict=True):
            assert np.array_equal(value, repeated), part


@pytest.mark.slow
def test_xla_compiles_micro_batches(tf, train_step):
    training = make_training(tf, train_step, small(), gradient_accumulation_steps=4)
    step = tf.function(training.step, jit_compile=True)
    for _ in range(2):
        step(*next(training.iterator))
    assert training.state.optimizer.iterations.numpy() == 2
    assert np.isfinite(training.state.loss.result())


@pytest.mark.parametrize(
    ("count", "batch_size", "replicas", "choices"),
    [(3, 32, 1, "2 or 4"), (5, 64, 4, "4 or 8"), (64, 32, 1, "32"), (7, 7 * 13, 13, None), (8, 48, 4, "6 or 12")],
)
def test_uneven_micro_batches_are_refused(count, batch_size, replicas, choices, tf):
    from efficientnet_tpu.training.gradient_accumulation import require_even_micro_batches

    train = TrainConfig(train_batch_size=batch_size, gradient_accumulation_steps=count)
    if choices is None:
        require_even_micro_batches(train, replicas)
        return
    with pytest.raises(UserError) as refusal:
        require_even_micro_batches(train, replicas)
    assert str(refusal.value).startswith(f"--gradient_accumulation_steps={count}: ")
    assert f"{batch_size // replicas} images" in str(refusal.value)
    assert str(refusal.value).endswith(f"Use {choices}.")


def test_states_are_refused_before_they_are_made(tf, train_step, monkeypatch):
    monkeypatch.setattr(train_step, "build_model", None)
    with pytest.raises(UserError, match="gradient_accumulation_steps=5"):
        Training(tf, train_step, WITHOUT_DROPOUT, draw_batch(), gradient_accumulation_steps=5)
    with pytest.raises(UserError, match="freeze=stages:9"):
        Training(tf, train_step, WITHOUT_DROPOUT, draw_batch(), freeze="stages:9")


def test_shared_statistics_in_a_loop_are_for_tpus(tf, train_step, monkeypatch):
    monkeypatch.setattr(train_step, "batch_norm_group_size", lambda num_replicas: 2)
    options = {"gradient_accumulation_steps": 2, "virtual_replicas": 4}
    with pytest.raises(UserError, match="groups of 2 devices, except on TPUs"):
        Training(tf, train_step, WITHOUT_DROPOUT, draw_batch(), **options)
    Training(tf, train_step, WITHOUT_DROPOUT, draw_batch(), **options, bn_mode="frozen")


def test_gradients_are_summed_and_shapes_are_static(tf):
    from efficientnet_tpu.training.gradient_accumulation import in_micro_batches

    weight = tf.Variable(tf.zeros([3]))

    def gradients_of(images, targets, seed):
        assert images.shape == (1, 2)
        return [tf.reduce_mean(images) * tf.ones([3])], targets[:, 0], tf.zeros([1, NUM_CLASSES]) + images[0, 0]

    gradients_in = tf.function(in_micro_batches(gradients_of, [weight], 4))
    images = tf.constant([[1.0, 3.0], [0.0, 0.0], [5.0, 5.0], [-1.0, 2.0]])
    targets = tf.one_hot([0, 1, 0, 2], NUM_CLASSES)
    seed = tf.constant([0, 1])
    outputs = gradients_in.get_concrete_function(images, targets, seed).structured_outputs
    assert [tuple(output.shape) for output in tf.nest.flatten(outputs)] == [(3,), (4,), (4, NUM_CLASSES)]  # static
    [gradient], losses, logits = gradients_in(images, targets, seed)
    assert gradient.dtype == tf.float32
    np.testing.assert_allclose(gradient, [7.5, 7.5, 7.5])
    assert losses.numpy().tolist() == [1, 0, 1, 0]
    assert logits.shape == (4, NUM_CLASSES)
    assert logits[:, 0].numpy().tolist() == [1, 0, 5, -1]
