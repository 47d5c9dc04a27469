"""The monitor: what it logs and saves, in which order, and how many steps a call makes."""

import types

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.training.learning_rate import Schedule


class Recorded:
    """An object whose methods note their calls and return given values."""

    def __init__(self, calls, name, **values):
        self._calls, self._name, self._values = calls, name, values

    def __getattr__(self, method):
        def call(*arguments):
            self._calls.append((f"{self._name}.{method}", arguments))
            value = self._values.get(method)
            if isinstance(value, Exception):
                raise value
            return value

        return call


@pytest.fixture
def make_monitor(tf):
    """make_monitor(progress's values, checkpoint_schedule's values) -> (monitor, calls)."""
    from efficientnet_tpu.run.tracking.step_profiler import StepProfiler
    from efficientnet_tpu.run.training_monitor import TrainingMonitor

    def make(progress, checkpoint_schedule, profiled=None):
        calls = []
        metrics = types.SimpleNamespace(
            take=lambda: {"loss": 1.5, "top_1_accuracy": 0.25},
            take_since_evaluation=lambda: {"train_loss": 1.75, "train_top_1_accuracy": 0.125},
        )
        monitor = TrainingMonitor(
            tf.distribute.get_strategy(),
            Recorded(calls, "progress", **progress),
            Recorded(calls, "checkpoints", **checkpoint_schedule),
            metrics,
            Schedule("constant", 0.5, 0, 1, 1.0, total_steps=100),
            StepProfiler("run", profiled),
            draw=lambda step: calls.append(("draw", (step,))),
        )
        return monitor, calls

    return make


@pytest.mark.parametrize(("to_line", "to_stop", "expected"), [(7, 1000, 7), (50, 1000, 30), (50, 4, 4)])
def test_a_call_ends_at_the_next_line_evaluation_or_stop(make_monitor, to_line, to_stop, expected):
    monitor, _ = make_monitor({"steps_to_next_line": to_line}, {"steps_to_stop": to_stop})
    assert monitor.steps_to_make(20, next_evaluation=50) == expected


@pytest.mark.parametrize(("step", "expected"), [(20, 5), (25, 8), (33, 17)])
def test_a_call_ends_where_a_profile_begins_or_ends(make_monitor, monkeypatch, tf, step, expected):
    for name in ("start", "stop"):
        monkeypatch.setattr(tf.profiler.experimental, name, lambda *arguments: None)
    monitor, _ = make_monitor({"steps_to_next_line": 100}, {"steps_to_stop": 1000}, profiled=(25, 33))
    assert monitor.steps_to_make(step, next_evaluation=50) == expected


def test_steps_are_logged_before_they_are_saved(make_monitor):
    monitor, calls = make_monitor({}, {})
    monitor.on_steps(12, 5, 0.5)
    assert [name for name, _ in calls] == ["checkpoints.require_finite", "progress.on_steps", "checkpoints.on_steps"]
    assert calls[0][1] == (1.5, 7, 12)
    step, num_steps, _, waited, values = calls[1][1]
    assert (step, num_steps, waited) == (12, 5, 0.5)
    assert values == {"loss": 1.5, "top_1_accuracy": 0.25, "learning_rate": 0.5}


def test_nothing_is_written_of_steps_that_diverged(make_monitor):
    monitor, calls = make_monitor({}, {"require_finite": UserError("the loss became nan")})
    with pytest.raises(UserError, match="nan"):
        monitor.on_steps(12, 5, 0.5)
    assert [name for name, _ in calls] == ["checkpoints.require_finite"]


def test_an_evaluation_is_logged_with_the_training_metrics_and_then_saved(make_monitor):
    monitor, calls = make_monitor({}, {})
    results = monitor.on_evaluation(50, {"loss": 2.0, "top_1_accuracy": 0.75})
    assert results == {
        "loss": 2.0, "top_1_accuracy": 0.75, "train_loss": 1.75, "train_top_1_accuracy": 0.125,
    }  # fmt: skip
    names = [name for name, _ in calls]
    assert names == ["progress.log_evaluation", "checkpoints.on_evaluation", "progress.on_evaluation", "draw"]
    assert calls[0][1] == (50, results)
    assert (calls[2][1][0], calls[2][1][2]) == (50, results)  # printed when it is saved
    assert calls[1][1] == (50, 0.75)
