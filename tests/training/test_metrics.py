"""Training metrics: means since the last line, means since the last evaluation, and what a checkpoint restores."""

import types

import pytest


@pytest.fixture
def state(tf):
    """A state with metrics alone."""
    import keras

    return types.SimpleNamespace(loss=keras.metrics.Mean(), accuracy=keras.metrics.SparseCategoricalAccuracy())


def _add(state, loss, correct):
    """One image with this loss, rightly or wrongly classified."""
    state.loss.update_state([loss])
    state.accuracy.update_state([0], [[0.9, 0.1] if correct else [0.1, 0.9]])


def test_take_is_the_mean_since_the_last_take(state):
    from efficientnet_tpu.training.metrics import TrainMetrics

    metrics = TrainMetrics(state)
    _add(state, 1.0, True)
    _add(state, 2.0, False)
    assert metrics.take() == {"loss": 1.5, "top_1_accuracy": 0.5}
    _add(state, 4.0, True)
    assert metrics.take() == {"loss": 4.0, "top_1_accuracy": 1.0}
    assert metrics.take() == {"loss": 0.0, "top_1_accuracy": 0.0}  # of no images


def test_an_evaluation_takes_all_steps_since_the_one_before(state):
    from efficientnet_tpu.training.metrics import TrainMetrics

    metrics = TrainMetrics(state)
    _add(state, 1.0, True)
    metrics.take()
    _add(state, 2.0, False)
    assert metrics.take_since_evaluation() == {"train_loss": 1.5, "train_top_1_accuracy": 0.5}
    _add(state, 8.0, True)
    assert metrics.take() == {"loss": 8.0, "top_1_accuracy": 1.0}
    assert metrics.take_since_evaluation() == {"train_loss": 8.0, "train_top_1_accuracy": 1.0}


def test_means_over_an_interruption_are_those_without_it(state):
    from efficientnet_tpu.training.metrics import TrainMetrics

    metrics = TrainMetrics(state)
    _add(state, 1.0, True)
    stored = [variable.numpy() for variable in metrics.variables]
    _add(state, 100.0, False)  # lost with the process
    for variable, value in zip(metrics.variables, stored, strict=True):
        variable.assign(value)
    metrics.start()
    _add(state, 3.0, False)
    assert metrics.take() == {"loss": 3.0, "top_1_accuracy": 0.0}
    assert metrics.take_since_evaluation() == {"train_loss": 2.0, "train_top_1_accuracy": 0.5}
