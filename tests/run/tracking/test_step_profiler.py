"""The profile of some steps."""

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.profile_steps import read_profile_steps
from efficientnet_tpu.errors import UserError


@pytest.fixture
def calls(tf, monkeypatch):
    calls = []
    monkeypatch.setattr(tf.profiler.experimental, "start", calls.append)
    monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: calls.append("stop"))
    return calls


def _profiler(steps):
    from efficientnet_tpu.run.tracking.step_profiler import StepProfiler

    return StepProfiler("run", steps)


def test_it_begins_and_ends_at_its_steps(calls, capsys):
    profiler = _profiler((10, 14))
    seen = []
    for step in (0, 9, 10, 12, 14, 20):
        profiler.on_step(step)
        seen.append(len(calls))
    profiler.stop()
    assert seen == [0, 0, 1, 1, 2, 2]
    assert calls == ["run/tensorboard", "stop"]
    assert capsys.readouterr().out.startswith("profile written: xprof --logdir=run/tensorboard")


def test_a_run_that_ends_within_it_ends_it(calls):
    profiler = _profiler((10, 14))
    profiler.on_step(12)  # taken up again after its begin
    profiler.stop()
    profiler.stop()
    assert calls == ["run/tensorboard", "stop"]


def test_without_steps_nothing_is_profiled(calls):
    profiler = _profiler(None)
    profiler.on_step(0)
    profiler.stop()
    assert (calls, profiler.steps_to_boundary(0)) == ([], None)


def test_the_range_of_steps_is_read():
    assert read_profile_steps("100:110") == (100, 110)
    assert read_profile_steps("") is None


@pytest.mark.parametrize("text", ["100", "110:100", "5:5", "a:b", ":5", "-1:5", "1:2:3"])
def test_any_other_text_is_refused_at_once(text):
    with pytest.raises(UserError, match=f"--profile_steps={text}: "):
        cli.main(["main.py", "--data_dir=photos", "--model_dir=run", f"--profile_steps={text}"])
