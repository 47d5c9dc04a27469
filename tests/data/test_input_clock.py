"""The wait for a batch is measured, announced, and ended where no batch comes."""

import subprocess
import sys
import threading

import pytest

HANGS = """
import os, tensorflow as tf
from efficientnet_tpu.data.input_clock import InputClock
def read():
    os.read(os.pipe()[0], 1)  # a file that does not answer
    return 0
clock = InputClock()
batches = iter(tf.data.Dataset.range(1).map(lambda number: (tf.numpy_function(read, [], tf.int64),)))
with clock.limited("--data_dir=photos", 0.5):
    tf.function(lambda iterator: clock.next(iterator)[1])(batches)
"""


@pytest.fixture
def stalled(tf):
    """Yields an iterator whose second batch comes when the event is set, and the event."""
    answers = threading.Event()

    def read(number):
        answers.wait(60 if number else 0)
        return number

    dataset = tf.data.Dataset.range(3).map(lambda number: (tf.numpy_function(read, [number], tf.int64),))
    yield iter(dataset), answers
    answers.set()


@pytest.mark.parametrize("in_graph", [False, True])
def test_a_batch_that_does_not_come_ends_the_run(tf, stalled, monkeypatch, capsys, in_graph):
    from efficientnet_tpu.data import input_clock

    monkeypatch.setattr(input_clock, "_POLL", 0.02)
    monkeypatch.setattr(input_clock, "ANNOUNCED_AFTER", 0.05)
    batches, answers = stalled
    clock, ends = input_clock.InputClock(), []
    take = tf.function(clock.next) if in_graph else clock.next

    def end(message):
        ends.append(message)
        answers.set()

    with clock.limited("--data_dir=photos", 0.3, end):
        (number,), seconds = take(batches)
        assert (number.numpy(), ends) == (0, [])
        (number,), seconds = take(batches)
    assert number.numpy() == 1
    assert seconds.numpy() >= 0.3
    (message,) = ends
    assert message.startswith("--data_dir=photos: no image came for 0 s: ")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("waiting for images for 0 s: --data_dir=photos does not answer; after 0 s the run ends")


def test_steps_that_take_longer_than_the_limit_are_no_wait(tf, monkeypatch):
    import time

    from efficientnet_tpu.data import input_clock

    monkeypatch.setattr(input_clock, "_POLL", 0.01)
    clock, ends = input_clock.InputClock(), []
    batches = iter(tf.data.Dataset.range(2).map(lambda number: (number,)))
    with clock.limited("--data_dir=photos", 0.05, ends.append):
        clock.next(batches)
        time.sleep(0.2)
        clock.next(batches)
    assert ends == []


@pytest.mark.slow
def test_the_process_ends():
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "error: --data_dir=photos: no image came for " in done.stderr
