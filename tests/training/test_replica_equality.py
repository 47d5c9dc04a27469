"""Devices make no difference: one with 32 images trains like four with 8 each, over 20 steps of different images.

Not bit for bit, since sums are taken in another order, and what that changes grows from step to step as any change
does. How much a change of the smallest size grows is measured, by a third training whose weights start one rounding
apart; the four devices may be off by little more than that.
"""

import numpy as np
import pytest

from tests.support.small_training import BATCH_SIZE, NUM_CLASSES, Training, small

STEPS = 20


@pytest.fixture(scope="module")
def train_step(tf):
    from efficientnet_tpu.training import train_step

    return train_step


@pytest.fixture(scope="module")
def images():
    """STEPS batches, with something to learn."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, NUM_CLASSES, STEPS * BATCH_SIZE).astype("int32")
    images = draw.integers(0, 256, (STEPS * BATCH_SIZE, 32, 32, 3)).astype("uint8")
    images[..., 0] = 50 * labels[:, np.newaxis, np.newaxis]
    return images, labels


def state_after(training, steps):
    """name -> all values of that kind in one vector; and the two metrics of the steps."""
    training.run(steps)
    state = training.state
    kinds = {
        "weights": state.model.trainable_weights,
        "batch norm's statistics": state.model.non_trainable_weights,
        "average": state.average.weights,
    }
    for slot in ("momentum", "velocity"):  # the latter is RMSProp's mean square
        kinds[slot] = [variable for variable in state.optimizer.variables if variable.path.endswith(f"_{slot}")]
    values = {
        name: np.concatenate([one.numpy().ravel() for one in variables])
        for name, variables in kinds.items()
        if variables
    }
    metrics = {"loss": float(state.loss.result()), "accuracy": float(state.accuracy.result())}
    assert state.optimizer.iterations.numpy() == steps
    return values, metrics


def distances(values, others):
    """Largest difference of each kind, relative to its largest value."""
    return {name: float(abs(values[name] - others[name]).max() / abs(values[name]).max()) for name in values}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["rmsprop", "momentum"])
def test_four_devices_train_like_one_for_twenty_steps(tf, train_step, images, monkeypatch, optimizer):
    # Batch norm over all devices and no dropout: then nothing depends on which device an image is on.
    monkeypatch.setattr(train_step, "batch_norm_group_size", lambda num_replicas: num_replicas)
    architecture = small(dropout_rate=0.0, drop_rate=0.0)
    options = {"weight_decay": 0.01, "rate": 1e-3, "optimizer": optimizer, "moving_average_decay": 0.9}
    one = Training(tf, train_step, architecture, images, **options)
    nudged = Training(tf, train_step, architecture, images, **options)
    four = Training(tf, train_step, architecture, images, virtual_replicas=4, **options)
    assert four.strategy.num_replicas_in_sync == 4
    start = np.concatenate([weight.numpy().ravel() for weight in one.state.model.trainable_weights])
    for weight in nudged.state.model.trainable_weights:
        weight.assign(np.nextafter(weight.numpy(), np.float32(np.inf)))

    (values, metrics), (growth, _), (distributed, distributed_metrics) = (
        state_after(training, STEPS) for training in (one, nudged, four)
    )
    assert abs(values["weights"] - start).max() > 0.01  # it trained
    growth, errors = distances(values, growth), distances(values, distributed)
    print(optimizer, *(f"{name}: {errors[name]:.1e} (a rounding grows to {growth[name]:.1e})" for name in errors))
    for name, error in errors.items():
        assert error < 1e-6 + 3 * growth[name], name
        assert error < 1e-3, name
    assert distributed_metrics["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
    assert distributed_metrics["accuracy"] == metrics["accuracy"]
