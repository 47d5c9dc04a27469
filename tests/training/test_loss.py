"""The loss: smoothed cross-entropy against its formula, and the weights that L2 decays."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.models.compound_scaling import build_architecture

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())


@pytest.fixture(scope="module")
def loss(tf):
    from efficientnet_tpu.training import loss

    return loss


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_cross_entropy_formula(tf, loss, smoothing):
    draw = np.random.default_rng(0)
    logits, targets = draw.normal(0, 3, (16, 7)), np.eye(7)[draw.integers(0, 7, 16)]
    log_probabilities = np.log(softmax(logits))
    smoothed = (1 - smoothing) * targets + smoothing / 7
    losses = loss.smoothed_cross_entropy(targets.astype("float32"), logits.astype("float32"), smoothing)
    assert losses.dtype == "float32"
    np.testing.assert_allclose(losses, -(smoothed * log_probabilities).sum(-1), rtol=1e-5)


def test_smoothing_and_mixing_commute(tf, loss):
    """The loss against mixed targets is the mean of the losses against both."""
    draw = np.random.default_rng(0)
    logits, shares = draw.normal(0, 3, (16, 7)).astype("float32"), draw.uniform(size=16).astype("float32")
    targets, others = np.eye(7, dtype="float32")[draw.integers(0, 7, (2, 16))]
    mixed = shares[:, np.newaxis] * targets + (1 - shares[:, np.newaxis]) * others
    first, other = (loss.smoothed_cross_entropy(one, logits, 0.1).numpy() for one in (targets, others))
    losses = loss.smoothed_cross_entropy(mixed, logits, 0.1)
    np.testing.assert_allclose(losses, shares * first + (1 - shares) * other, rtol=1e-5)


def test_smoothed_cross_entropy_of_1000_classes(tf, loss):
    target = tf.one_hot([3], 1000)
    blank = loss.smoothed_cross_entropy(target, tf.zeros((1, 1000)), 0.1)
    assert blank.numpy() == pytest.approx(math.log(1000))
    # Least where the probabilities are the targets, 0.9001 and 0.0001.
    best = tf.Variable(tf.math.log(target * 0.9 + 0.0001))
    with tf.GradientTape() as tape:
        value = loss.smoothed_cross_entropy(target, best, 0.1)
    assert value.numpy() == pytest.approx(1.014848, abs=1e-6)
    assert abs(tape.gradient(value, best)).numpy().max() < 1e-6


def test_smoothed_cross_entropy_of_bfloat16_logits_is_float32(tf, loss):
    logits = tf.cast([[1.5, -2.0, 0.25]], tf.bfloat16)  # exact in bfloat16
    target = tf.constant([[1.0, 0.0, 0.0]])
    losses = loss.smoothed_cross_entropy(target, logits, 0.1)
    expected = loss.smoothed_cross_entropy(target, tf.cast(logits, tf.float32), 0.1)
    assert losses.dtype == tf.float32
    assert np.array_equal(losses, expected)


def test_everything_but_batch_norm_decays(tf, loss):
    from efficientnet_tpu.models.efficientnet import build_model

    model = build_model(build_architecture("efficientnet-b0"))
    decayed = loss.decayed_weights(model)
    paths = [weight.path for weight in decayed]
    assert paths == [weight.path for weight in model.trainable_weights if "_bn/" not in weight.path]
    assert {weight.name for weight in decayed} == {"kernel", "bias"}
    assert len(decayed) == GOLDEN["efficientnet-b0"]["trainable_tensors"] - 2 * GOLDEN["efficientnet-b0"]["bn_layers"]
    assert {"block_0_se_reduce/bias", "block_0_se_expand/bias", "classifier/bias"} <= set(paths)
    # Expected of the initialisers, exactly: half the sum of variance times size, over all kernels.
    l2 = TrainConfig().weight_decay * sum(tf.nn.l2_loss(weight) for weight in decayed)
    assert l2.numpy() == pytest.approx(0.2928, rel=0.01)
