"""A difference from the source is judged by how far rounding moves the source itself."""

import numpy as np
import pytest

from efficientnet_tpu.weights import parity


def _judge(difference, movement, largest=10.0, classes=4):
    expected = np.full((3, classes), largest, np.float64)
    expected[:, 0] = 0.0
    logits, moved = expected.copy(), expected.copy()
    logits[1, 2] += difference
    moved[2, 3] -= movement
    return parity.judge("source", logits, expected, moved)


@pytest.mark.parametrize(
    ("difference", "movement", "is_accepted"),
    [(1e-6, 0.0, True), (9e-5, 0.0, True), (2e-4, 0.0, False), (9e-3, 1e-3, True), (2e-2, 1e-3, False)],
)
def test_the_limit_is_the_sources_movement_and_a_share_of_its_logits(difference, movement, is_accepted):
    judged = _judge(difference, movement)
    assert judged.difference == pytest.approx(difference)
    assert judged.movement == pytest.approx(movement)
    assert judged.accepted == pytest.approx(10 * movement + 1e-5 * 10)
    assert (judged.difference <= judged.accepted) == is_accepted
    assert not judged.note


def test_tiny_logits_have_a_tiny_limit():
    """Of an untrained network, whose logits are below 1e-4, a share of them alone tells right from wrong."""
    judged = _judge(1e-5, 1e-10, largest=4e-5)
    assert judged.difference > 1000 * judged.accepted


def test_figures_are_in_the_line_and_in_the_certificate():
    judged = _judge(2e-2, 1e-3)
    for figure in ("2.0e-02", "1.0e-03", "1 + 1e-06", "10 times", "logit, 10:", "1.0e-02"):
        assert figure in str(judged)
    facts = judged.as_json()
    assert facts["movement"] == pytest.approx(1e-3)
    assert facts["accepted"] == pytest.approx(1.01e-2)


def test_weights_that_magnify_rounding_are_accepted_and_said():
    judged = _judge(0.3, 0.2)
    assert judged.difference <= judged.accepted
    assert "shows little" in str(judged)


def test_one_output_is_compared_with_the_second_class():
    source = np.array([[1.5], [-2.0]])
    ours = np.array([[0.0, 1.5], [0.0, -2.0]])
    judged = parity.judge("source", ours, source, source)
    assert judged.difference == 0
    assert judged.largest_logit == 2


def test_nan_is_refused():
    assert not (_judge(np.nan, 0.0).difference <= _judge(np.nan, 0.0).accepted)


def _chaotic_keras(model, seed=0):
    """keras.applications' network with batch norm at random: it magnifies rounding a thousand times."""
    import keras

    from efficientnet_tpu.models.compound_scaling import build_architecture
    from efficientnet_tpu.weights import keras_applications

    keras.utils.set_random_seed(seed)
    network = keras_applications.build(build_architecture(model), 5)
    random = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight, low, high in (
                ("gamma", 0.6, 1.4),
                ("beta", -0.4, 0.4),
                ("moving_mean", -0.5, 0.5),
                ("moving_variance", 0.3, 1.5),
            ):
                getattr(layer, weight).assign(random.uniform(low, high, layer.gamma.shape))
    normalization = network.layers[2]
    normalization.adapt_mean.assign([0.485, 0.456, 0.406])
    normalization.adapt_variance.assign([0.229, 0.224, 0.225])
    normalization.finalize_state()
    return network


@pytest.mark.slow
def test_a_valid_b2_of_keras_is_accepted(tf, tmp_path):
    """Its logits differ by more than 1e-4 of the largest, as they do between two runs of Keras itself."""
    from tests.support.importing import import_weights

    _chaotic_keras("efficientnet-b2").save_weights(tmp_path / "b2.weights.h5")
    facts = import_weights(tmp_path / "b2.weights.h5", tmp_path / "out", "--model=efficientnet-b2")["parity"]
    assert facts["difference"] > 1e-4 * facts["largest_logit"]
    assert facts["difference"] <= 10 * facts["movement"]
