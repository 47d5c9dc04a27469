"""One step of training: its metrics, what it changes, that it repeats exactly, and that replicas make no difference."""

import numpy as np
import pytest

from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.config.train import TrainConfig
from tests.support.small_training import MIXING, NUM_CLASSES, Training, draw_batch, small


@pytest.fixture(scope="module")
def train_step(tf):
    from efficientnet_tpu.training import train_step

    return train_step


@pytest.fixture(scope="module")
def batch():
    return draw_batch()


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_loss_falls_on_a_fixed_batch(tf, train_step, batch):
    training = Training(tf, train_step, small(), batch)
    metrics = (training.state.loss, training.state.accuracy)
    training.run(1)
    first = training.state.loss.result().numpy()
    assert first > 1.2  # ln(5) is 1.61
    training.run(29)
    for metric in metrics:
        metric.reset_state()
    training.run(1)
    assert training.state.loss.result() < 0.7 * first
    assert training.state.accuracy.result() > 0.4  # by chance 0.2; dropout is on


@pytest.mark.parametrize("mixing", [{}, MIXING], ids=["plain", "mixed"])
def test_metrics_are_the_loss_with_l2_and_the_accuracy(tf, train_step, batch, mixing):
    from efficientnet_tpu.data.augment.mixup import make_mix
    from efficientnet_tpu.training.loss import decayed_weights

    images, labels = batch
    training = Training(tf, train_step, small(dropout_rate=0.0, drop_rate=0.0), batch, weight_decay=0.01, **mixing)
    model = training.state.model
    l2 = 0.01 * sum(np.square(weight.numpy()).sum() / 2 for weight in decayed_weights(model))
    mix = make_mix(TrainConfig(**mixing))
    images, targets = mix(tf.constant(images), tf.one_hot(labels, NUM_CLASSES), train_step._step_seed(0, 0))
    logits = model(images, training=True).numpy()
    smoothed = 0.9 * targets.numpy() + 0.1 / NUM_CLASSES
    losses = -(smoothed * np.log(softmax(logits))).sum(-1)
    training.run_eagerly(1)
    assert l2 > 0.1
    assert training.state.loss.result().numpy() == pytest.approx(np.mean(losses) + l2, rel=1e-5)
    # The label of the larger share, which where most is pasted over is not the image's own.
    larger = np.argmax(targets, -1)
    assert np.array_equal(larger, labels) == (not mixing)
    assert training.state.accuracy.result().numpy() == pytest.approx(np.mean(np.argmax(logits, -1) == larger))


@pytest.fixture
def fed(tf, train_step, monkeypatch):
    """The list of the images that models are given, step by step."""
    import keras

    images, call = [], keras.Model.__call__
    monkeypatch.setattr(keras.Model, "__call__", lambda model, x, **how: images.append(x) or call(model, x, **how))
    return images


def test_without_mixing_images_go_to_the_model_as_they_come(tf, train_step, batch, fed):
    training = Training(tf, train_step, small(), batch)
    fed.clear()  # of what building it took
    training.run_eagerly(1)
    [images] = fed
    assert images.dtype == tf.uint8
    assert np.array_equal(images, batch[0])


@pytest.mark.slow
def test_a_resumed_run_mixes_as_if_it_had_not_stopped(tf, train_step, batch, fed):
    straight, resumed, other = (
        Training(tf, train_step, small(), batch, **options) for options in (MIXING, MIXING, MIXING | {"step_seed": 1})
    )
    fed.clear()
    straight.run_eagerly(3)
    for training in (resumed, other):
        training.state.optimizer.iterations.assign(2)
        training.run_eagerly(1)
    first, _, third, third_again, others_third = (images.numpy() for images in fed)
    assert np.array_equal(third, third_again)
    for different in (first, others_third):
        assert not np.array_equal(third, different)


@pytest.mark.slow
def test_xla_compiles_the_step(tf, train_step, batch):
    training = Training(tf, train_step, small(), batch, **MIXING)
    step = tf.function(training.step, jit_compile=True)
    for _ in range(5):
        step(*next(training.iterator))
    assert training.state.optimizer.iterations.numpy() == 5
    assert np.isfinite(training.state.loss.result())


@pytest.mark.slow
def test_a_repeated_run_is_bitwise_equal(tf, train_step, batch):
    first, again = (Training(tf, train_step, small(), batch) for _ in range(2))
    start = first.values()
    for training in (first, again):
        training.run(5)
    for part, values in first.values().items():
        for value, repeated, before in zip(values, again.values()[part], start[part], strict=True):
            assert np.array_equal(value, repeated), part
            assert part == "optimizer" or not np.array_equal(value, before), part


@pytest.mark.slow
def test_seeds_make_a_difference(tf, train_step, batch):
    def kernels(model):
        return [weight.numpy() for weight in model.weights if weight.name == "kernel"]

    run, other_run, other_step = (
        Training(tf, train_step, small(), batch, **seeds) for seeds in ({}, {"seed": 1}, {"step_seed": 1})
    )
    starts = [kernels(training.state.model) for training in (run, other_run, other_step)]
    for training in (run, other_step):
        training.run_eagerly(1)
    ends = [kernels(training.state.model) for training in (run, other_step)]
    for one, two, same in zip(*starts, strict=True):
        # The run's seed chooses the initial weights...
        assert not np.array_equal(one, two)
        assert np.array_equal(one, same)
    # ...and the step's what dropout drops.
    assert not any(np.array_equal(one, two) for one, two in zip(*ends, strict=True))


def test_step_seeds_never_repeat(tf, train_step):
    from efficientnet_tpu.hardware.distribution import connect

    strategy = connect(HardwareConfig(virtual_replicas=4))

    @tf.function
    def seeds(seed, step):
        return strategy.run(lambda: train_step._step_seed(seed, step))

    drawn = [
        tuple(local.numpy())
        for seed in (0, 1)
        for step in (0, 1, 2, 100_000)
        for local in strategy.experimental_local_results(seeds(seed, tf.constant(step, tf.int64)))
    ]
    assert len(drawn) == len(set(drawn)) == 2 * 4 * 4
    assert drawn[:4] == [
        tuple(local.numpy()) for local in strategy.experimental_local_results(seeds(0, tf.constant(0, tf.int64)))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_four_replicas_train_like_one(tf, train_step, batch, monkeypatch, compiled):
    # Batch norm over all replicas and no dropout: then nothing depends on which replica an image is in.
    monkeypatch.setattr(train_step, "batch_norm_group_size", lambda num_replicas: num_replicas)
    architecture = small(dropout_rate=0.0, drop_rate=0.0)
    options = {"weight_decay": 0.01, "rate": 1e-3}
    one = Training(tf, train_step, architecture, batch, **options)
    four = Training(tf, train_step, architecture, batch, virtual_replicas=4, **options)
    assert four.strategy.num_replicas_in_sync == 4
    start = one.values()
    for training in (one, four):
        (training.run if compiled else training.run_eagerly)(5)
    moved = []
    for part, values in one.values().items():
        for value, distributed, before in zip(values, four.values()[part], start[part], strict=True):
            np.testing.assert_allclose(distributed, value, rtol=1e-5, atol=1e-6, err_msg=part)
            moved.append(abs(value - before).max() > 1e-4)
    # All but biases ahead of a batch norm, whose gradients vanish.
    assert np.mean(moved) > 0.9
    for metric in ("loss", "accuracy"):
        results = [getattr(training.state, metric).result().numpy() for training in (one, four)]
        assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_average_follows_with_the_number_of_updates(tf, train_step, batch):
    training = Training(tf, train_step, small(), batch)
    weights, shadows = training.state.model.weights, training.state.average.weights
    average = [weight.numpy() for weight in weights]
    for shadow, expected in zip(shadows, average, strict=True):
        assert np.array_equal(shadow.numpy(), expected)
    for updates in (1, 2):
        training.run_eagerly(1)
        assert training.state.optimizer.iterations.numpy() == updates
        decay = (1 + updates) / (10 + updates)  # 2/11 after the first update
        average = [decay * old + (1 - decay) * new.numpy() for old, new in zip(average, weights, strict=True)]
        for shadow, expected in zip(shadows, average, strict=True):
            np.testing.assert_allclose(shadow.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_loop_runs_the_steps_it_is_asked_for(tf, train_step):
    seen = tf.Variable(0)

    def count(images, labels):
        seen.assign_add(labels)

    loop = train_step.make_train_loop(tf.distribute.get_strategy(), count)
    iterator = iter(tf.data.Dataset.from_tensor_slices(([0.0] * 10, range(10))))
    for steps, total in [(1, 0), (4, 0 + 1 + 2 + 3 + 4), (0, 10), (3, 10 + 5 + 6 + 7)]:
        waited = loop(iterator, tf.constant(steps))
        assert seen.numpy() == total
        assert 0 <= waited.numpy() < 5
        assert waited.dtype == tf.float64
    assert loop.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("virtual_replicas", [0, 4])
def test_loop_measures_the_wait_for_data(tf, train_step, virtual_replicas):
    import time

    from efficientnet_tpu.hardware.distribution import connect

    strategy = connect(HardwareConfig(virtual_replicas=virtual_replicas))

    def slow(number):
        time.sleep(0.05)
        return number

    def dataset(context):
        data = tf.data.Dataset.range(100).map(lambda number: tf.numpy_function(slow, [number], tf.int64))
        return data.map(lambda number: (tf.ensure_shape(number, []), tf.ensure_shape(number, [])))

    loop = train_step.make_train_loop(strategy, lambda images, labels: None)
    iterator = iter(strategy.distribute_datasets_from_function(dataset))
    waited = loop(iterator, tf.constant(3)).numpy()
    # At least the last step's elements, and most of the others', were made after the loop asked for them.
    assert waited > 0.05
