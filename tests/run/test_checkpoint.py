"""Checkpoints: what is restored is what was saved, to the bit; old ones go, the best stays."""

import json
import os
import resource
import shutil
import signal

import numpy as np
import pytest

from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.preemption import StopRequest
from efficientnet_tpu.run.early_stopping import EarlyStopping


def _evaluated(step, accuracy):
    """What the evaluations have come to where the first is at `step`."""
    return EarlyStopping().after(step, accuracy)


@pytest.fixture(scope="module")
def checkpoint(tf):
    from efficientnet_tpu.run import checkpoint

    return checkpoint


@pytest.fixture
def make(checkpoint, tmp_path):
    """make(...) -> (Checkpoints in tmp_path, model, average, optimizer), freshly initialised by `seed`."""
    import keras

    from efficientnet_tpu.models.layers import BatchNormalization
    from efficientnet_tpu.training.learning_rate import make_schedule
    from efficientnet_tpu.training.optimizer import make_optimizer

    def network(units):
        layers = [keras.layers.Dense(units), BatchNormalization(name="norm"), keras.layers.Dense(2)]
        return keras.Sequential([keras.Input((3,)), *layers], name="tiny")

    def build(seed=0, units=4, keep=5, optimizer="rmsprop"):
        keras.utils.set_random_seed(seed)
        train = TrainConfig(keep_checkpoints=keep, optimizer=optimizer)
        model, average = network(units), network(units)
        optimizer = make_optimizer(train, make_schedule(train, 1000))
        optimizer.build(model.trainable_variables)
        state = {"model": model, "average": average, "optimizer": optimizer}
        return checkpoint.Checkpoints(str(tmp_path), state, keep), model, average, optimizer

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
    saved[0].save(37, _evaluated(37, 0.5))
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
    return sorted(int(path.stem.rpartition("-")[2]) for path in directory.glob("ckpt-*.index"))


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_are_kept_and_the_newest_is_restored(make, tmp_path, keep):
    state = make(keep=keep)
    for step in (10, 20, 30, 40, 100):
        state[0].save(step, _evaluated(step, 0.0))
    assert _steps(tmp_path / "checkpoints") == [10, 20, 30, 40, 100][-keep:]
    assert make(keep=keep)[0].restore() == 100


def _best(tmp_path):
    [step] = _steps(tmp_path / "best")
    best = json.loads((tmp_path / "best" / "best.json").read_text())
    assert best["step"] == step
    return step, best["top_1_accuracy"]


def test_the_best_is_kept_over_rotation_and_ties_replace_it(make, tmp_path):
    checkpoints = make(keep=1)[0]
    early_stopping = EarlyStopping()
    bests = []
    for step, accuracy in ((1, 0.2), (2, 0.7), (3, 0.6), (4, 0.7), (5, 0.1)):
        early_stopping = early_stopping.after(step, accuracy)
        checkpoints.save(step, early_stopping)
        bests.append(_best(tmp_path))
    assert bests == [(1, 0.2), (2, 0.7), (2, 0.7), (4, 0.7), (4, 0.7)]
    assert _steps(tmp_path / "checkpoints") == [5]
    assert make()[0].restore() == 5


def test_an_accuracy_of_zero_is_a_best_too(make, tmp_path):
    make()[0].save(1, _evaluated(1, 0.0))
    assert _best(tmp_path) == (1, 0.0)


def test_what_the_evaluations_came_to_survives_a_restart(make, tmp_path):
    early_stopping = EarlyStopping().after(1, 0.1 + 0.2).after(2, 0.1)
    make()[0].save(2, early_stopping)
    checkpoints = make()[0]
    assert checkpoints.early_stopping == EarlyStopping()
    checkpoints.restore()
    assert checkpoints.early_stopping == early_stopping
    assert early_stopping.best_accuracy == 0.1 + 0.2


def test_evaluations_that_are_none_are_refused_by_the_checkpoints_name(make, tmp_path, monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(EarlyStopping, "to_json", lambda self: '["x"]')
        make()[0].save(1, EarlyStopping())
    with pytest.raises(UserError, match=f"^{tmp_path}/checkpoints/ckpt-1: the evaluations that this checkpoint holds"):
        make()[0].restore()


def test_a_checkpoint_between_two_evaluations_is_not_the_best(make, tmp_path):
    checkpoints = make()[0]
    early_stopping = EarlyStopping().after(1, 0.7)
    checkpoints.save(1, early_stopping)
    checkpoints.save(2, early_stopping)
    assert _best(tmp_path) == (1, 0.7)
    assert make()[0].restore() == 2


@pytest.mark.parametrize(("which", "step"), [("last", 2), ("best", 1)])
def test_restore_average_fills_a_model_with_the_averaged_weights(make, checkpoint, tmp_path, which, step):
    state = make(seed=1)
    early_stopping = EarlyStopping()
    averages = {}
    for number, accuracy in ((1, 0.9), (2, 0.3)):
        _scramble(state, number)
        averages[number] = [np.asarray(weight) for weight in state[2].weights]
        state[0].save(number, early_stopping := early_stopping.after(number, accuracy))
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
    make(units=4)[0].save(1, _evaluated(1, 0.5))
    with pytest.raises(UserError, match=f"{tmp_path}/checkpoints/ckpt-1: is a checkpoint of another model than tiny"):
        checkpoint.restore_average(make(units=8)[1], str(tmp_path), "last")


def test_a_checkpoint_of_fewer_layers_is_refused(make, checkpoint, tmp_path):
    import keras

    make()[0].save(1, _evaluated(1, 0.5))
    layers = [keras.layers.Dense(4) for _ in range(5)]
    deeper = keras.Sequential([keras.Input((3,)), *layers], name="deeper")
    with pytest.raises(UserError, match="is a checkpoint of another model than deeper"):
        checkpoint.restore_average(deeper, str(tmp_path), "last")


@pytest.mark.parametrize("other", [{"units": 8}, {"optimizer": "sgd"}, {"optimizer": "momentum"}], ids=str)
def test_training_does_not_go_on_from_a_checkpoint_that_does_not_fit(make, tmp_path, other):
    """optimizer: one that has no variables for some of what was saved."""
    make(units=4)[0].save(1, _evaluated(1, 0.5))
    with pytest.raises(UserError, match=f"{tmp_path}/checkpoints/ckpt-1: does not fit this run's model and optimizer"):
        make(**other)[0].restore()


DAMAGES = ["truncated", "removed", "overwritten", "one bit"]


def _damage(directory, stem, kind):
    [data] = directory.glob(f"{stem}.data-*")
    content = data.read_bytes()
    data.unlink()
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    damaged = {"truncated": content[:20], "overwritten": b"\x55" * len(content), "one bit": flipped}
    if kind != "removed":
        data.write_bytes(damaged[kind])


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used_with_a_warning(make, checkpoint, tmp_path, damage, capsys):
    state = make(seed=1)
    for step in (1, 2):
        _scramble(state, step)
        state[0].save(step, _evaluated(step, 0.5))
        if step == 1:
            expected = _variables(state)
    directory = tmp_path / "checkpoints"
    _damage(directory, "ckpt-2", damage)
    restored = make(seed=2)
    assert restored[0].restore() == 1
    for name, value in _variables(restored).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    model = make(seed=3)[1]
    assert checkpoint.restore_average(model, str(tmp_path), "last") == 1
    np.testing.assert_array_equal(model.get_weights()[0], expected["average 0"])
    for line in capsys.readouterr().out.splitlines():
        assert line.startswith(f"warning: {directory}/ckpt-2: cannot be read (")
        assert line.endswith("; using the checkpoint before it")


def test_where_every_checkpoint_is_damaged_they_are_named(make, tmp_path):
    state = make()
    for step in (1, 2):
        state[0].save(step, _evaluated(step, 0.5))
        _damage(tmp_path / "checkpoints", f"ckpt-{step}", "one bit")
    with pytest.raises(UserError, match=r"(?s)ckpt-2: cannot be read.*ckpt-1: cannot be read.*--checkpoint=best"):
        make()[0].restore()


@pytest.mark.parametrize("left", ["temporary files", "data without index", "unfinished"])
def test_what_a_killed_write_leaves_is_no_checkpoint_and_goes(make, tmp_path, left):
    """TensorFlow writes into ckpt-2_temp, renames the data, and writes the index last."""
    state = make()
    for step in (1, 2):
        state[0].save(step, _evaluated(step, 0.5))
    directory = tmp_path / "checkpoints"
    (directory / "ckpt-2.index").unlink()
    if left == "unfinished":
        [data] = directory.glob("ckpt-2.data-*")
        data.rename(directory / f"unfinished-{data.name}")
        (directory / "unfinished-ckpt-2.index").write_bytes((directory / "ckpt-1.index").read_bytes())
    if left == "temporary files":
        (directory / "ckpt-2_temp").mkdir()
        for path in directory.glob("ckpt-2.data-*"):
            path.rename(directory / "ckpt-2_temp" / "part-00000-of-00001.data-00000-of-00001")
    assert make()[0].restore() == 1
    assert {path.name.partition(".")[0] for path in directory.iterdir()} == {"checkpoint", "ckpt-1"}


def test_the_same_step_can_be_saved_again_without_touching_the_first(make, tmp_path):
    state = make(seed=1, keep=5)
    for seed in (1, 2, 3):
        _scramble(state, seed)
        state[0].save(7, _evaluated(7, 0.5))
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.index"))
    assert names == ["ckpt-7.1.index", "ckpt-7.2.index", "ckpt-7.index"]
    restored = make()
    assert restored[0].restore() == 7
    expected = _variables(state)
    assert all(np.array_equal(value, expected[name]) for name, value in _variables(restored).items())


@pytest.mark.parametrize("owner", ["model", "average", "optimizer"])
def test_what_is_not_finite_is_not_kept(make, checkpoint, tmp_path, owner):
    state = make()
    state[0].save(1, _evaluated(1, 0.5))
    variable = {"model": state[1].weights, "average": state[2].weights, "optimizer": state[3].variables}[owner][-1]
    variable.assign(np.full(variable.shape, np.inf))
    with pytest.raises(checkpoint.NotFiniteError, match="is not finite"):
        state[0].save(2, _evaluated(2, 0.5))
    assert _steps(tmp_path / "checkpoints") == [1]
    assert make()[0].restore() == 1


def test_files_are_on_the_disk_before_their_names_and_the_old_goes_last(make, checkpoint, tmp_path, monkeypatch):
    """An index that reaches the disk before its data is a checkpoint that cannot be read."""
    calls = []

    def note(what):
        return lambda path: calls.append((what, os.path.relpath(path, tmp_path), _steps(tmp_path / "checkpoints")))

    for name in ("sync_file", "sync_directory"):
        monkeypatch.setattr(checkpoint.durable, name, note(name))
    state = make(keep=1)
    for step in (1, 2):
        calls.clear()
        state[0].save(step, EarlyStopping())
    data = "unfinished-ckpt-2.data-00000-of-00001"
    assert calls == [
        ("sync_file", f"checkpoints/{data}", [1]),
        ("sync_file", "checkpoints/unfinished-ckpt-2.index", [1]),
        ("sync_directory", "checkpoints", [1]),  # the data have their name
        ("sync_directory", "checkpoints", [1, 2]),
        ("sync_file", "checkpoints/checkpoint", [2]),
        ("sync_directory", "checkpoints", [2]),
    ]


@pytest.mark.parametrize("moment", ["before", "while it is written"])
def test_a_checkpoint_does_not_go_into_anothers_directory(make, checkpoint, tmp_path, monkeypatch, moment):
    from efficientnet_tpu.storage import directory_lock

    state = make(keep=1)
    with directory_lock.held(str(tmp_path)):
        state[0].save(1, _evaluated(1, 0.5))
        lock = tmp_path / "training.lock"

        def replace():
            lock.unlink()
            lock.write_text("another's")

        if moment == "before":
            replace()
        else:
            find_damage = checkpoint.find_damage
            monkeypatch.setattr(checkpoint, "find_damage", lambda path: replace() or find_damage(path))
        with pytest.raises(UserError, match="was replaced, and is now used by another's"):
            state[0].save(2, _evaluated(2, 0.9))
    assert (_steps(tmp_path / "checkpoints"), _steps(tmp_path / "best")) == ([1], [1])
    assert lock.read_text() == "another's"


def test_a_directory_that_was_removed_is_not_waited_for(make, tmp_path):
    from efficientnet_tpu.storage import directory_lock

    state = make()
    with directory_lock.held(str(tmp_path)):
        shutil.rmtree(tmp_path)
        with pytest.raises(UserError, match="was removed while this training was at work there"):
            state[0].save(1, _evaluated(1, 0.5))
    assert not tmp_path.exists()


class _Clock:
    """A clock of its own: sleeping takes no time. Every attempt to save can be met by something that happens."""

    def __init__(self, at):
        self.now = 0.0
        self._at = dict(at)

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for moment in [moment for moment in self._at if moment <= self.now]:
            self._at.pop(moment)()


def test_saving_waits_for_a_disk_that_comes_back(make, checkpoint, tmp_path, monkeypatch, capsys):
    """A model_dir that vanishes, as a network drive does, and is there again for the third attempt."""
    state = make()
    away = tmp_path.with_name("away")
    tmp_path.rename(away)
    clock = _Clock({35.0: lambda: away.rename(tmp_path)})
    monkeypatch.setattr(checkpoint, "time", clock)
    state[0].save(1, _evaluated(1, 0.5))
    assert clock.now == 10 + 30
    assert capsys.readouterr().out.count("cannot be saved: the directory has vanished") == 2
    assert make()[0].restore() == 1


@pytest.mark.parametrize("stopped", [False, True])
def test_saving_gives_up_in_the_end_or_when_told_and_leaves_what_was_saved(
    make, checkpoint, tmp_path, monkeypatch, stopped
):
    """Files above a size fail in the middle of writing, as they do where a disk is full."""
    state = make()
    state[0].save(1, _evaluated(1, 0.5))
    request = StopRequest()
    clock = _Clock({15.0: lambda: setattr(request, "signal", signal.SIGTERM)} if stopped else {})
    monkeypatch.setattr(checkpoint, "time", clock)
    monkeypatch.setattr(checkpoint, "print", lambda *words, **how: None, raising=False)  # pytest keeps it in a file
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    why = "stopped" if stopped else "after 9 minutes"
    try:
        with pytest.raises(UserError, match=f"state of step 2 cannot be saved: .* Given up, {why}; what was saved"):
            state[0].save(2, _evaluated(2, 0.5), request)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert clock.now == (15 if stopped else sum(checkpoint.RETRY_AFTER))
    assert make()[0].restore() == 1
    assert not list((tmp_path / "checkpoints").glob("ckpt-2*"))


def test_in_a_directory_whose_name_is_a_pattern(checkpoint, tf, tmp_path):
    """TensorFlow's readers would look for what matches it, and find nothing."""
    model_dir = tmp_path / r"[exp 1]\a*b?{c}"
    model_dir.mkdir()
    states = [{"average": tf.Variable([value])} for value in (1.0, 2.0)]
    for step in (3, 5):
        checkpoint.Checkpoints(str(model_dir), states[0], 5).save(step, _evaluated(step, 0.5))
    assert checkpoint.Checkpoints(str(model_dir), states[1], 5).restore() == 5
    assert states[1]["average"].numpy() == [1.0]
    assert checkpoint.newest_whole(str(model_dir), "best").endswith("/best/ckpt-5")


def test_a_remote_directory_whose_name_is_a_pattern_is_refused_at_once(checkpoint, tf):
    with pytest.raises(UserError, match=r"^--model_dir=gs://bucket/\[1\]: has one of the characters"):
        checkpoint.Checkpoints("gs://bucket/[1]", {"average": tf.Variable([1.0])}, 5)
