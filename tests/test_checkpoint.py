"""Checkpoints: what is restored is what was saved, to the bit; old ones go, the best stays."""

import json

import numpy as np
import pytest

from efficientnet_tpu.config import TrainConfig, UserError


@pytest.fixture(scope="module")
def checkpoint(tf):
    from efficientnet_tpu import checkpoint

    return checkpoint


@pytest.fixture
def make(checkpoint, tmp_path):
    """make(...) -> (Checkpoints in tmp_path, model, average, optimizer), freshly initialised by `seed`."""
    import keras

    from efficientnet_tpu.learning_rate import make_schedule
    from efficientnet_tpu.models.layers import BatchNormalization
    from efficientnet_tpu.optimizer import make_optimizer

    def network(units):
        layers = [keras.layers.Dense(units), BatchNormalization(name="norm"), keras.layers.Dense(2)]
        return keras.Sequential([keras.Input((3,)), *layers], name="tiny")

    def build(seed=0, units=4, keep=5, optimizer="rmsprop"):
        keras.utils.set_random_seed(seed)
        train = TrainConfig(keep_checkpoints=keep, optimizer=optimizer)
        model, average = network(units), network(units)
        optimizer = make_optimizer(train, make_schedule(train, 1000))
        optimizer.build(model.trainable_variables)
        return checkpoint.Checkpoints(str(tmp_path), model, average, optimizer, train), model, average, optimizer

    return build


def _variables(state):
    """Owner and number -> value of everything that training changes."""
    _, model, average, optimizer = state
    owners = {"model": model.weights, "average": average.weights, "optimizer": optimizer.variables}
    return {
        f"{owner} {index}": np.asarray(variable)
        for owner, variables in owners.items()
        for index, variable in enumerate(variables)
    }


def _scramble(state, seed):
    """Gives every variable values of its own, as a training does."""
    generator = np.random.default_rng(seed)
    _, model, average, optimizer = state
    for variable in (*model.weights, *average.weights, *optimizer.variables):
        if variable.path.endswith("iteration"):
            variable.assign(37)
        else:
            variable.assign(generator.normal(size=variable.shape))


@pytest.mark.parametrize("optimizer", ["rmsprop", "momentum", "sgd"])
def test_everything_is_restored_exactly(make, optimizer):
    saved = make(seed=1, optimizer=optimizer)
    _scramble(saved, seed=1)
    saved[0].save(37, 0.5)
    restored = make(seed=2, optimizer=optimizer)
    expected = _variables(saved)
    before = _variables(restored)
    assert before.keys() == expected.keys()
    assert sum(not np.array_equal(before[name], value) for name, value in expected.items()) > len(expected) // 2
    assert restored[0].restore() == 37
    for name, value in _variables(restored).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert int(restored[3].iterations) == 37


def test_rmsprop_has_slots_to_restore(make):
    """Two for every trainable weight: the check above means something."""
    _, model, _, optimizer = make()
    assert len(optimizer.variables) == 1 + 2 * len(model.trainable_variables)


def test_without_a_checkpoint_training_starts_at_zero(make):
    state = make()
    before = _variables(state)
    assert state[0].restore() == 0
    for name, value in _variables(state).items():
        np.testing.assert_array_equal(value, before[name])


def _steps(directory):
    return sorted(int(path.stem.rpartition("-")[2]) for path in directory.glob("*.index"))


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_are_kept_and_the_newest_is_restored(make, tmp_path, keep):
    state = make(keep=keep)
    for step in (10, 20, 30, 40, 100):
        state[0].save(step, 0.0)
    assert _steps(tmp_path / "checkpoints") == [10, 20, 30, 40, 100][-keep:]
    assert make(keep=keep)[0].restore() == 100


def _best(tmp_path):
    [step] = _steps(tmp_path / "best")
    best = json.loads((tmp_path / "best" / "best.json").read_text())
    assert best["step"] == step
    return step, best["top_1_accuracy"]


def test_the_best_is_kept_over_rotation_and_ties_replace_it(make, tmp_path):
    checkpoints = make(keep=1)[0]
    bests = []
    for step, accuracy in ((1, 0.2), (2, 0.7), (3, 0.6), (4, 0.7), (5, 0.1)):
        checkpoints.save(step, accuracy)
        bests.append(_best(tmp_path))
    assert bests == [(1, 0.2), (2, 0.7), (2, 0.7), (4, 0.7), (4, 0.7)]
    assert _steps(tmp_path / "checkpoints") == [5]
    assert checkpoints.best_accuracy == 0.7


def test_an_accuracy_of_zero_is_a_best_too(make, tmp_path):
    make()[0].save(1, 0.0)
    assert _best(tmp_path) == (1, 0.0)


def test_the_best_survives_a_restart(make, tmp_path):
    make()[0].save(1, 0.7)
    checkpoints = make()[0]
    assert checkpoints.best_accuracy == 0.7
    checkpoints.restore()
    checkpoints.save(2, 0.6)
    assert _best(tmp_path) == (1, 0.7)
    checkpoints.save(3, 0.8)
    assert _best(tmp_path) == (3, 0.8)


@pytest.mark.parametrize(("which", "step"), [("last", 2), ("best", 1)])
def test_restore_average_fills_a_model_with_the_averaged_weights(make, checkpoint, tmp_path, which, step):
    state = make(seed=1)
    averages = {}
    for number, accuracy in ((1, 0.9), (2, 0.3)):
        _scramble(state, number)
        averages[number] = [np.asarray(weight) for weight in state[2].weights]
        state[0].save(number, accuracy)
    model = make(seed=5)[1]
    assert checkpoint.restore_average(model, str(tmp_path), which) == step
    for weight, expected in zip(model.weights, averages[step], strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("which", ["last", "best"])
def test_restore_average_without_a_checkpoint(make, checkpoint, tmp_path, which):
    with pytest.raises(UserError) as error:
        checkpoint.restore_average(make()[1], str(tmp_path), which)
    assert str(error.value) == f"--model_dir={tmp_path}: the run has no {which} checkpoint yet."


def test_a_checkpoint_of_other_shapes_is_refused(make, checkpoint, tmp_path):
    make(units=4)[0].save(1, 0.5)
    with pytest.raises(UserError, match=f"{tmp_path}/checkpoints/ckpt-1: is a checkpoint of another model than tiny"):
        checkpoint.restore_average(make(units=8)[1], str(tmp_path), "last")


def test_a_checkpoint_of_fewer_layers_is_refused(make, checkpoint, tmp_path):
    import keras

    make()[0].save(1, 0.5)
    layers = [keras.layers.Dense(4) for _ in range(5)]
    deeper = keras.Sequential([keras.Input((3,)), *layers], name="deeper")
    with pytest.raises(UserError, match="is a checkpoint of another model than deeper"):
        checkpoint.restore_average(deeper, str(tmp_path), "last")


@pytest.mark.parametrize("other", [{"units": 8}, {"optimizer": "sgd"}, {"optimizer": "momentum"}], ids=str)
def test_training_does_not_go_on_from_a_checkpoint_that_does_not_fit(make, tmp_path, other):
    """optimizer: one that has no variables for some of what was saved."""
    make(units=4)[0].save(1, 0.5)
    with pytest.raises(UserError, match=f"{tmp_path}/checkpoints/ckpt-1: does not fit this run's model and optimizer"):
        make(**other)[0].restore()


@pytest.mark.parametrize("damage", ["truncated", "removed", "overwritten"])
def test_a_damaged_checkpoint_is_named_and_an_earlier_one_can_be_chosen(make, checkpoint, tmp_path, damage):
    state = make()
    for step in (1, 2):
        state[0].save(step, 0.5)
    directory = tmp_path / "checkpoints"
    [data] = directory.glob("ckpt-2.data-*")
    content = data.read_bytes()
    data.unlink()
    if damage != "removed":
        data.write_bytes(content[:20] if damage == "truncated" else b"\x55" * len(content))
    for restore in (make()[0].restore, lambda: checkpoint.restore_average(make()[1], str(tmp_path), "last")):
        with pytest.raises(
            UserError, match=f"{directory}/ckpt-2: cannot be read .* first line of {directory}/checkpoint"
        ):
            restore()
    lines = (directory / "checkpoint").read_text().splitlines()
    lines[0] = lines[0].replace("ckpt-2", "ckpt-1")
    (directory / "checkpoint").write_text("\n".join(lines))
    assert make()[0].restore() == 1
    assert checkpoint.restore_average(make()[1], str(tmp_path), "last") == 1
