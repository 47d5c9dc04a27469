"""Batch norm's statistics measured anew: the formula, replicas, what stays, and what it is good for."""

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.config.run import HardwareConfig
from tests.support.small_training import NUM_CLASSES, Training, draw_batch, small


@pytest.fixture(scope="module")
def train_step(tf):
    from efficientnet_tpu.training import train_step

    return train_step


@pytest.fixture(scope="module")
def precise_batch_norm(tf):
    from efficientnet_tpu.training import precise_batch_norm

    return precise_batch_norm


@pytest.fixture(scope="module")
def images():
    """uint8 [32, 32, 32, 3], the second half brighter, so that the halves' means differ."""
    images, _ = draw_batch()
    images[:16] //= 2
    return images


def model_of(tf, architecture=None):
    import keras

    from efficientnet_tpu.models.efficientnet import build_model

    keras.utils.set_random_seed(0)
    return build_model(architecture or small())


def statistics_of(model):
    return {weight.path: weight.numpy() for weight in model.weights if weight.name.startswith("moving_")}


def distributed(tf, strategy, images, batch_size):
    """An iterator over (images,) in batches over all replicas."""
    data = tf.data.Dataset.from_tensor_slices(images).batch(batch_size // strategy.num_replicas_in_sync, True)
    return iter(strategy.distribute_datasets_from_function(lambda context: data))


def test_statistics_are_the_mean_and_the_variance_over_all_batches_together(tf, precise_batch_norm, images):
    model = model_of(tf)
    layers = {layer.name: layer for layer in model.layers}
    weights = [weight.numpy() for weight in model.trainable_weights]
    # What goes into the first batch norm does not depend on how the images are divided into batches.
    features = layers["stem_conv"](layers["normalization"](tf.constant(images, tf.float32))).numpy()
    update = precise_batch_norm.make_statistics_update(tf.distribute.get_strategy(), [model])
    for batches in (images[np.newaxis], images.reshape(2, 16, 32, 32, 3), images.reshape(8, 4, 32, 32, 3)):
        update(tf.constant(batch) for batch in batches)
        mean, variance = (layers["stem_bn"].moving_mean.numpy(), layers["stem_bn"].moving_variance.numpy())
        np.testing.assert_allclose(mean, features.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance, features.var(axis=(0, 1, 2)), rtol=1e-4)
    halves = [half.var(axis=(0, 1, 2)) for half in (features[:16], features[16:])]
    assert (np.mean(halves, axis=0) < 0.98 * variance).any()  # the mean of variances is another number
    for weight, before in zip(model.trainable_weights, weights, strict=True):
        assert np.array_equal(weight.numpy(), before)


def test_every_layer_goes_by_its_batch(tf, precise_batch_norm, images):
    """With one batch, evaluation by the new statistics is the training pass, dropout apart."""
    model = model_of(tf, small(dropout_rate=0.0, drop_rate=0.0))
    before = statistics_of(model)
    trained = model(images, training=True).numpy()
    precise_batch_norm.make_statistics_update(tf.distribute.get_strategy(), [model])([tf.constant(images)])
    np.testing.assert_allclose(model(images, training=False), trained, rtol=1e-4, atol=1e-4)
    for path, statistic in statistics_of(model).items():
        assert not np.array_equal(statistic, before[path]), path


def test_dropout_and_stochastic_depth_are_off(tf, precise_batch_norm, images):
    with_dropout, without = model_of(tf), model_of(tf, small(dropout_rate=0.0, drop_rate=0.0))
    without.set_weights(with_dropout.get_weights())
    precise_batch_norm.make_statistics_update(tf.distribute.get_strategy(), [with_dropout, without])(
        [tf.constant(images)]
    )
    for path, statistic in statistics_of(with_dropout).items():
        assert np.array_equal(statistic, statistics_of(without)[path]), path


def test_measured_twice_is_measured_once(tf, precise_batch_norm, images):
    model = model_of(tf)
    update = precise_batch_norm.make_statistics_update(tf.distribute.get_strategy(), [model])
    results = []
    for _ in range(2):
        update(tf.constant(batch) for batch in images.reshape(4, 8, 32, 32, 3))
        results.append(statistics_of(model))
    for path, statistic in results[0].items():
        assert np.array_equal(statistic, results[1][path])


@pytest.mark.slow
def test_replicas_are_batches(tf, precise_batch_norm, images):
    from efficientnet_tpu.hardware.distribution import connect

    one, four = connect(HardwareConfig()), connect(HardwareConfig(virtual_replicas=4))
    results = []
    for strategy, batch_size in ((one, 4), (four, 16)):
        with strategy.scope():
            model = model_of(tf)
        stream = distributed(tf, strategy, images, batch_size)
        precise_batch_norm.make_statistics_update(strategy, [model])(stream)
        results.append(statistics_of(model))
    for path, statistic in results[0].items():
        np.testing.assert_allclose(results[1][path], statistic, rtol=1e-4, atol=1e-6, err_msg=path)
    local = strategy.experimental_local_results(model.get_layer("head_bn").moving_mean.value)
    for value in local:  # every replica evaluates by the same
        assert np.array_equal(value, results[1]["head_bn/moving_mean"])


def test_frozen_layers_keep_their_statistics(tf, precise_batch_norm, images):
    from efficientnet_tpu.config.train import TrainConfig
    from efficientnet_tpu.training.fine_tuning import freeze

    model = model_of(tf)
    freeze(model, small(), TrainConfig(freeze="stages:2", bn_mode="recalibrate"))
    before = statistics_of(model)
    precise_batch_norm.make_statistics_update(tf.distribute.get_strategy(), [model])([tf.constant(images)])
    for path, statistic in statistics_of(model).items():
        frozen = path.startswith(("stem_", "block_0_", "block_1_"))
        assert np.array_equal(statistic, before[path]) == frozen, path
    freeze(model, small(), TrainConfig(freeze="backbone"))
    before = statistics_of(model)
    precise_batch_norm.make_statistics_update(tf.distribute.get_strategy(), [model])([tf.constant(images)])
    for path, statistic in statistics_of(model).items():
        assert np.array_equal(statistic, before[path]), path


@pytest.mark.slow
def test_a_short_run_evaluates_as_it_trains(tf, train_step, precise_batch_norm):
    """After 30 steps, moving statistics of decay 0.99 are three quarters the initial ones; the model has learnt."""
    images, labels = draw_batch()
    training = Training(tf, train_step, small(), (images, labels), bn_mode="recalibrate", moving_average_decay=0.5)
    training.run(30)
    average = training.state.average

    def loss():
        logits = average(images, training=False)
        return float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)))

    before = loss()
    precise_batch_norm.make_statistics_update(training.strategy, [average])([tf.constant(images)])
    assert loss() < 0.8 * np.log(NUM_CLASSES)
    assert loss() < 0.8 * before


@pytest.mark.slow
def test_a_run_measures_on_its_first_training_images(tf, precise_batch_norm, shapes, monkeypatch):
    """The 42 images of the set, in the order of the first epoch and cropped as in evaluation: 6 batches of 8."""
    from efficientnet_tpu.data.datasets import open_data
    from efficientnet_tpu.data.preprocessing import Preparation, crop_padding, eval_image
    from efficientnet_tpu.models.configured import configured_architecture

    config = with_options(
        Config(), {"model": "efficientnet-nano", "eval_batch_size": 8, "seed": 3, "bn_mode": "recalibrate"}
    )
    split = open_data(DataConfig(data_dir=str(shapes))).train
    architecture = configured_architecture(config.model, 3)
    seen = []
    monkeypatch.setattr(
        precise_batch_norm,
        "make_statistics_update",
        lambda strategy, models: lambda batches: seen.append(list(batches)),
    )
    run = precise_batch_norm.make_precise_batch_norm(tf.distribute.get_strategy(), [None], architecture, split, config)
    run()
    run()
    first, again = (np.concatenate(batches) for batches in seen)
    assert first.shape == (48, 32, 32, 3)
    assert np.array_equal(first, again)

    preparation = Preparation(32, crop_padding(None, 32))
    everything = {
        eval_image(split.load(handle)[0], preparation).numpy().tobytes()
        for handle in split.handles(precise_batch_norm.HostShard(), None)
    }
    assert {image.tobytes() for image in first[:42]} == everything
    monkeypatch.setattr(precise_batch_norm, "NUM_IMAGES", 20)
    precise_batch_norm.make_precise_batch_norm(tf.distribute.get_strategy(), [None], architecture, split, config)()
    assert np.array_equal(np.concatenate(seen[2]), first[:24])

    config = with_options(config, {"bn_mode": "train"})
    precise_batch_norm.make_precise_batch_norm(tf.distribute.get_strategy(), [None], architecture, split, config)()
    assert len(seen) == 3
