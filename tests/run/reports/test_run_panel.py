"""What a terminal shows of a run."""

import io

import pytest

from efficientnet_tpu.run.reports import run_panel
from efficientnet_tpu.run.reports.course import Course
from efficientnet_tpu.run.reports.run_panel import RunPanel

VALUES = {
    "loss": 1.25, "top_1_accuracy": 0.5, "learning_rate": 0.016, "images_per_second": 12_345.0, "data_wait_share": 0.07,
}  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the panel, which stands still until it is set: clock.now = seconds."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(run_panel, "time", clock)
    monkeypatch.setattr(run_panel, "memory_in_use", lambda: "memory 1.9 GB")
    return clock


@pytest.fixture
def course():
    return Course(step=0, evaluation_steps=[500, 1_001_000], steps_per_epoch=1251.0, batch_size=1024, num_replicas=8)


def rendered(panel, columns):
    from rich.console import Console, Group

    console = Console(file=io.StringIO(), width=columns, force_terminal=True, no_color=True)
    console.print(Group(*panel.render(columns)))
    return console.file.getvalue().splitlines()


def test_it_says_that_it_compiles(clock, course):
    panel = RunPanel(course)
    panel.on_call(1)
    clock.now = 75.0
    assert panel.lines(clock.now) == ["step 0 of 1,001,000: compiling, and filling the input pipeline for 1 min 15 s"]


def test_steps_in_flight_are_estimated_and_never_beyond_those_asked_for(clock, course):
    panel = RunPanel(course)
    course.on_steps(1, 1, 60.0, 0.0)
    course.on_steps(2, 1, 0.5, 0.0)
    panel.on_steps(VALUES)
    panel.on_call(20)
    for seconds, step in ((0.4, 2), (5.0, 12), (9.9, 21), (60.0, 22)):
        assert panel.lines(seconds)[0].startswith(f"step {step} of 1,001,000: training  loss 1.2500  top-1 50.0%")


def test_speed_is_told_in_all_and_a_chip(clock, course):
    panel = RunPanel(course)
    course.on_steps(1, 1, 60.0, 0.0)
    course.on_steps(101, 100, 40.0, 10.0)
    panel.on_steps(VALUES)
    lines = panel.lines(0.0)
    assert lines[1] == "12,345 images/s (1,543 a chip)  waiting for data 7%  memory 1.9 GB"
    assert lines[2] == "goodput 30%: starting 1 min 0 s, waiting for data 10 s"


def test_an_evaluation_is_a_phase_and_then_a_line(clock, course):
    panel = RunPanel(course)
    course.on_steps(1, 1, 60.0, 0.0)
    course.on_steps(500, 499, 40.0, 0.0)
    panel.on_steps(VALUES)
    assert ": evaluating for 30 s" in panel.lines(30.0)[0]
    panel.on_saving()
    assert ": saving for 2 s" in panel.lines(2.0)[0]
    panel.on_evaluation("validation  epoch 0.40  top-1 50.00%")
    assert panel.lines(2.0)[-1] == "validation  epoch 0.40  top-1 50.00%"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_every_line_fits_the_terminal(clock, course, columns):
    panel = RunPanel(course)
    course.on_steps(1, 1, 3600.0, 0.0)
    course.on_steps(1_000_000, 999_999, 4e6, 1e6)
    course.on_evaluation(5000.0)
    panel.on_steps(VALUES)
    panel.on_evaluation("validation  epoch 799.36  top-1 76.30% (raw 75.00%)  top-5 93.20%  loss 0.9876  50,000 images")
    lines = rendered(panel, columns)
    assert len(lines) == 5
    assert all(len(line) <= columns for line in lines)
    if columns >= 80:
        assert lines[0].startswith("epoch 799.36 of 800.2")
        assert lines[0].rstrip().endswith("to go")
        assert "lr 0.01600" in lines[1]
