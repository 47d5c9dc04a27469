"""What is frozen stays, computes as in evaluation and costs no gradient; the rest trains."""

import dataclasses
import re

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.compound_scaling import build_architecture
from tests.support.small_training import BATCH_SIZE, Training, draw_batch, small

FIRST_FOUR = tuple(f"block_{index}_" for index in range(4))
B0 = build_architecture("efficientnet-b0")


@pytest.fixture(scope="module")
def train_step(tf):
    from efficientnet_tpu.training import train_step

    return train_step


@pytest.fixture(scope="module")
def fine_tuning(tf):
    from efficientnet_tpu.training import fine_tuning

    return fine_tuning


def blocks(count):
    return [f"block_{index}" for index in range(count)]


@pytest.mark.parametrize(
    ("freeze", "parts"),
    [
        ("none", []),
        ("stages:1", ["stem", *blocks(1)]),
        ("stages:2", ["stem", *blocks(3)]),
        ("stages:4", ["stem", *blocks(8)]),  # B0's stages have 1, 2, 2, 3, 3, 4, 1 blocks
        ("stages:7", ["stem", *blocks(16)]),
        ("blocks:1", ["stem", *blocks(1)]),
        ("blocks:5", ["stem", *blocks(5)]),
        ("blocks:16", ["stem", *blocks(16)]),
        ("backbone", ["stem", *blocks(16), "head"]),
    ],
)
def test_parts_of_b0(fine_tuning, freeze, parts):
    assert fine_tuning.frozen_parts(freeze, B0) == parts


@pytest.mark.parametrize(
    "freeze", ["", "all", "stages", "stages:", "stages:0", "stages:8", "blocks:17", "blocks:-1", "stages:1.5", "stem:1"]
)
def test_what_cannot_be_frozen(fine_tuning, freeze):
    with pytest.raises(UserError) as refusal:
        fine_tuning.frozen_parts(freeze, B0)
    assert str(refusal.value) == (
        f"--freeze={freeze}: must be none, backbone, stages:K or blocks:N, where efficientnet-b0 has stages 1 to 7 and "
        "blocks 1 to 16."
    )


# Of B0's 5,288,548 (the published count): the classifier has 1280 * 1000 + 1000; a batch norm two a channel.
@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({}, 5288548),
        pytest.param({"freeze": "backbone"}, 1281000, marks=pytest.mark.slow),
        ({"freeze": "stages:7"}, 1281000 + 320 * 1280 + 2 * 1280),
        ({"bn_mode": "frozen"}, 5288548 - 42016),
        pytest.param({"bn_mode": "recalibrate"}, 5288548, marks=pytest.mark.slow),
    ],
)
def test_number_of_trained_parameters(fine_tuning, options, trained):
    from efficientnet_tpu.models.efficientnet import build_model

    model, train = build_model(B0), TrainConfig(**options)
    fine_tuning.freeze(model, B0, train)
    assert fine_tuning.parameter_counts(model) == (trained, 5288548 - trained)
    line = fine_tuning.describe_frozen(model, train)
    if trained == 5288548:
        assert line == ""
    else:
        [(flag, value)] = options.items()
        assert line == f"trained are {trained:,} parameters, frozen {5288548 - trained:,} (--{flag}={value})"


@pytest.mark.parametrize(("momentum", "steps"), [(0.99, 459), (0.9, 44), (0.999, 4603), (0.0, 1)])
def test_steps_that_replace_batch_norms_statistics(fine_tuning, momentum, steps):
    assert fine_tuning.steps_to_renew_statistics(momentum) == steps
    assert momentum**steps <= 0.01
    assert steps == 1 or momentum ** (steps - 1) > 0.01


# At the usual decay 459 steps are enough to renew batch norm's statistics.
@pytest.mark.parametrize(
    ("options", "num_images", "mode", "why"),
    [
        ({}, 100, "train", ""),  # nothing to keep
        (
            {"init_from": "w", "optimizer": "rmsprop"},
            100,
            "train",
            "better with --optimizer=momentum only, not with rms",
        ),
        ({"init_from": "w"}, 4999, "frozen", "because 4,999 training images are fewer than 5,000; --bn_mode=train"),
        ({"init_from": "w"}, 5000, "train", "because 5,000 training images and 2,000 steps are enough"),
        ({"init_from": "w", "train_batch_size": 50}, 5737, "frozen", "458 steps are fewer than the 459 that renew"),
        ({"init_from": "w", "train_batch_size": 50}, 5738, "train", "5,738 training images and 459 steps"),
        (
            {"init_from": "w", "train_batch_size": 500, "batch_norm_momentum": 0.9},
            5000,
            "frozen",
            r"40 steps are fewer than the 44 that renew them \(--batch_norm_momentum=0.9\)",
        ),
    ],
)
def test_batch_norm_is_chosen_by_the_numbers_of_images_and_steps(fine_tuning, options, num_images, mode, why):
    config = with_options(Config(), {"optimizer": "momentum", "train_batch_size": 10, "train_epochs": 4.0} | options)
    chosen, line = fine_tuning.choose_batch_norm(config, num_images)
    assert chosen == mode
    assert re.search(why, line)
    assert ("--bn_mode=" in line) == bool(why)


def test_blocks_with_two_digits_are_told_from_those_with_one(fine_tuning):
    from efficientnet_tpu.models.efficientnet import build_model

    model = build_model(B0)
    fine_tuning.freeze(model, B0, TrainConfig(freeze="blocks:2"))
    frozen = {re.match(r"block_\d+|[a-z]+", layer.name).group() for layer in model.layers if not layer.trainable}
    assert frozen == {"stem", "block_0", "block_1"}


@pytest.mark.parametrize(
    ("options", "is_frozen"),
    [
        ({"freeze": "backbone"}, lambda path: not path.startswith("classifier")),
        pytest.param(
            {"freeze": "stages:2"},
            lambda path: path.startswith(("stem_", "block_0_", "block_1_")),
            marks=pytest.mark.slow,
        ),
        ({"bn_mode": "frozen"}, lambda path: "_bn/" in path),
        ({"freeze": "blocks:4", "optimizer": "lars"}, lambda path: path.startswith(("stem_", *FIRST_FOUR))),
    ],
    ids=["backbone", "stages", "batch-norm", "lars"],
)  # fmt: skip
def test_what_is_frozen_stays_and_the_rest_trains(tf, train_step, options, is_frozen):
    training = Training(tf, train_step, small(), draw_batch(), **options)
    model, average = training.state.model, training.state.average
    start = [weight.numpy() for weight in model.weights]
    training.run_eagerly(3)
    assert any(is_frozen(weight.path) for weight in model.weights)
    # All that is not frozen moves but what has no gradient, because a batch norm follows that subtracts it.
    without_gradient = {f"block_{index}_project_bn/beta" for index in (0, 1, 2, 3)}
    for weight, shadow, before in zip(model.weights, average.weights, start, strict=True):
        if is_frozen(weight.path):
            assert np.array_equal(weight.numpy(), before), weight.path
            assert np.array_equal(shadow.numpy(), before), weight.path
        elif weight.path not in without_gradient:
            assert not np.array_equal(weight.numpy(), before), weight.path
            assert not np.array_equal(shadow.numpy(), before), weight.path


def test_what_is_frozen_has_no_slots_and_no_l2(tf, train_step):
    from efficientnet_tpu.training.loss import decayed_weights

    whole, frozen = (Training(tf, train_step, small(), draw_batch(), freeze=freeze) for freeze in ("none", "backbone"))
    assert [weight.path for weight in decayed_weights(frozen.state.model)] == [
        "classifier/kernel",
        "classifier/bias",
    ]
    # The average is frozen alike, so that precise batch norm leaves the same layers alone.
    trainable = [layer.trainable for layer in frozen.state.model.layers]
    assert trainable == [layer.trainable for layer in frozen.state.average.layers]
    assert not all(trainable)
    slots = [variable for variable in frozen.state.optimizer.variables if variable.shape != ()]
    assert sorted(tuple(slot.shape) for slot in slots) == [(5,), (5,), (32, 5), (32, 5)]
    assert len(whole.state.optimizer.variables) - len(frozen.state.optimizer.variables) == 2 * (
        len(whole.state.model.trainable_weights) - 2
    )


@pytest.mark.slow
def test_the_loss_has_the_l2_of_what_is_trained(tf, train_step):
    options = {"weight_decay": 0.5, "rate": 0.0, "bn_mode": "frozen"}
    architecture = small(dropout_rate=0.0, drop_rate=0.0)
    losses = {}
    for freeze in ("none", "stages:4"):
        training = Training(tf, train_step, architecture, draw_batch(), freeze=freeze, **options)
        training.run_eagerly(1)
        losses[freeze] = training.state.loss.result().numpy()
    frozen = [
        weight
        for weight in training.state.model.weights
        if weight.name in ("kernel", "bias") and weight.path.startswith(("stem_", *FIRST_FOUR))
    ]
    l2 = 0.5 * sum(np.square(weight.numpy()).sum() / 2 for weight in frozen)
    assert l2 > 1
    assert losses["none"] - losses["stages:4"] == pytest.approx(l2, rel=1e-4)


def test_the_frozen_part_computes_as_in_evaluation(tf, train_step):
    """Its batch norm goes by moving statistics and no block is dropped; the dropout before the classifier is on."""
    import keras

    from efficientnet_tpu.models.layers import dropout_seed

    images, _ = draw_batch()
    model = Training(tf, train_step, small(), (images, draw_batch()[1]), freeze="backbone").state.model
    assert any(layer.name == "block_0_drop" for layer in model.layers)
    for weight in model.weights:
        if weight.name.startswith("moving_"):
            weight.assign(weight + 0.3)
    features = keras.Model(model.input, model.get_layer("pool").output)
    with dropout_seed(tf.constant([1, 2])):
        trained, evaluated = (features(images, training=training).numpy() for training in (True, False))
        assert np.array_equal(trained, evaluated)
        assert not np.array_equal(model(images, training=True), model(images, training=False))


# The convolutions that are not depthwise: of block 4 expand, two of the gate and project; before it the stem's, two of
# a gate and four projections; behind it the head's.
@pytest.mark.parametrize(
    ("freeze", "convolutions"),
    [pytest.param("none", 7 + 4 + 1, marks=pytest.mark.slow), ("stages:4", 4 + 1), ("backbone", 0)],
)
def test_what_is_frozen_has_no_backward_pass(tf, train_step, freeze, convolutions):
    training = Training(tf, train_step, small(), draw_batch(), freeze=freeze)
    batch = (tf.TensorSpec([BATCH_SIZE, 32, 32, 3], tf.uint8), tf.TensorSpec([BATCH_SIZE], tf.int32))
    operations = tf.function(training.step).get_concrete_function(*batch).graph.get_operations()
    kinds = [operation.type for operation in operations]
    assert kinds.count("Conv2D") == 12
    assert kinds.count("Conv2DBackpropFilter") == convolutions


def test_frozen_batch_norm_is_keras_with_trainable_false(tf):
    import keras

    from efficientnet_tpu.models.layers import BatchNormalization

    draw = np.random.default_rng(0)
    values = [draw.uniform(0.5, 1.5, 3).astype("float32") for _ in range(4)]
    images = draw.normal(1, 2, (8, 4, 4, 3)).astype("float32")
    outputs = []
    for layer in (BatchNormalization(), keras.layers.BatchNormalization()):
        layer.build((None, 4, 4, 3))
        layer.set_weights(values)
        layer.trainable = False
        outputs.append(layer(images, training=True).numpy())
        assert layer.trainable_weights == []
        for weight, value in zip(layer.get_weights(), values, strict=True):
            assert np.array_equal(weight, value)
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_frozen_on_four_replicas_is_frozen_on_one(tf, train_step):
    architecture = small(dropout_rate=0.0, drop_rate=0.0)
    options = {"freeze": "stages:3", "bn_mode": "frozen", "rate": 1e-3}
    one = Training(tf, train_step, architecture, draw_batch(), **options)
    four = Training(tf, train_step, architecture, draw_batch(), **options, virtual_replicas=4)
    start = one.values()
    for training in (one, four):
        training.run(3)
    for part, values in one.values().items():
        for value, distributed in zip(values, four.values()[part], strict=True):
            np.testing.assert_allclose(distributed, value, rtol=1e-5, atol=1e-6, err_msg=part)
    assert not np.array_equal(start["model"][-1], one.values()["model"][-1])


@pytest.mark.slow
def test_a_run_with_frozen_layers_continues_from_its_checkpoint(tf, train_step, tmp_path):
    options = {"freeze": "stages:2", "gradient_accumulation_steps": 2}
    straight, stopped, resumed = (Training(tf, train_step, small(), draw_batch(), **options) for _ in range(3))

    def checkpoint(training):
        state = training.state
        return tf.train.Checkpoint(model=state.model, average=state.average, optimizer=state.optimizer)

    straight.run_eagerly(4)
    stopped.run_eagerly(2)
    path = checkpoint(stopped).save(tmp_path / "checkpoint")
    for weight in (*resumed.state.model.weights, *resumed.state.average.weights):
        weight.assign(tf.zeros_like(weight))
    checkpoint(resumed).restore(path).assert_consumed()
    resumed.run_eagerly(2)
    for part, values in straight.values().items():
        for value, again in zip(values, resumed.values()[part], strict=True):
            assert np.array_equal(value, again), part


@pytest.mark.parametrize("change", [{"freeze": "none"}, {"freeze": "stages:1"}, {"bn_mode": "frozen"}])
def test_a_run_keeps_what_it_has_frozen(tf, change):
    from efficientnet_tpu.run import run_record

    config = with_options(Config(), {"freeze": "stages:2", "model_dir": "runs/a"})
    record = run_record.RunRecord(config, ("a", "b"), "0", 10, ())
    [(name, value)] = change.items()
    run_record.require_same(record, dataclasses.replace(record, config=with_options(config, {"train_epochs": 2.0})))
    with pytest.raises(UserError, match=f"--{name}={value}: the checkpoints in --model_dir=runs/a were made with"):
        run_record.require_same(record, dataclasses.replace(record, config=with_options(config, change)))


def test_the_rate_falls_from_the_classifier_to_the_stem(tf, fine_tuning):
    from efficientnet_tpu.models.efficientnet import build_model

    architecture = build_architecture("efficientnet-nano", depth_coefficient=0.2)
    model = build_model(architecture)
    depth = len(architecture.blocks)
    expected = {"classifier": 1.0, "head": 0.5, "stem": 0.5 ** (depth + 2)}
    expected |= {f"block_{index}": 0.5 ** (depth + 1 - index) for index in range(depth)}
    factors = fine_tuning.learning_rate_factors(model, architecture, 0.5)
    layer_of = {id(weight): layer.name for layer in model.layers for weight in layer.weights}
    for weight, factor in zip(model.trainable_weights, factors, strict=True):
        name = layer_of[id(weight)]
        [part] = [part for part in expected if name == part or name.startswith(f"{part}_")]
        assert factor == expected[part], name


@pytest.mark.parametrize("optimizer", ["rmsprop", "momentum", "sgd", "lars"])
def test_a_weights_factor_is_a_factor_of_its_rate(tf, optimizer):
    """Two weights with the same gradients; one learns by half the rate, from the first step to the third."""
    import keras

    from efficientnet_tpu.training.learning_rate import make_schedule
    from efficientnet_tpu.training.optimizer import make_optimizer, scale_rates

    def weights_after(rate, factors):
        train = TrainConfig(optimizer=optimizer, base_learning_rate=rate, lr_warmup_epochs=0, lars_weight_decay=0.0)
        weights = [keras.Variable([1.0, -2.0], name="kernel") for _ in range(2)]
        made = make_optimizer(train, make_schedule(train, 1000))
        made.build(weights)
        scale_rates(made, factors)
        for gradient in ([0.3, 0.1], [-0.2, 0.4], [0.1, 0.1]):
            made.apply([tf.constant(gradient)] * 2, weights)
        return [np.asarray(weight) for weight in weights]

    whole, half = weights_after(0.8, [1.0, 0.5])
    np.testing.assert_array_equal(whole, weights_after(0.8, [1.0, 1.0])[0])
    np.testing.assert_allclose(half, weights_after(0.4, [1.0, 1.0])[0], rtol=1e-6)
    assert np.abs(whole - half).max() > 1e-3
