"""Quantiles, rates and rows of timed calls, by a clock that is wound by hand."""

import json
import types

import numpy as np
import pytest

from efficientnet_tpu.speed import timings
from efficientnet_tpu.speed.timings import Timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until `now` is changed; CPU time runs twice as fast."""
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(
        timings,
        "time",
        types.SimpleNamespace(
            perf_counter=lambda: clock.now, monotonic=lambda: clock.now, process_time=lambda: 2 * clock.now
        ),
    )
    return clock


def timed(clock, durations, seconds, batch_size=4):
    """Measures calls that take these times, warm-up included; -> the row and the number of calls made."""
    made = []

    def call():
        clock.now += durations[len(made)]
        made.append(None)

    return timings.measure("x", batch_size, call, seconds, started=90.0), len(made)


def test_quantiles_are_of_the_measured_calls_alone(clock):
    durations = [30.0, 5.0, *np.random.default_rng(0).permutation(100) / 100 + 0.01]
    row, made = timed(clock, durations, seconds=50.0)
    assert made == 2 + row.calls
    measured = np.sort(durations[2:made])
    for share, found in ((0.5, row.p50_ms), (0.9, row.p90_ms), (0.99, row.p99_ms)):
        assert found == pytest.approx(1000 * np.quantile(measured, share))
    assert row.p50_ms <= row.p90_ms <= row.p99_ms <= 1000 * measured[-1]
    assert row.images_per_second == pytest.approx(4 * len(measured) / measured.sum())
    assert row.cpu_ms == pytest.approx(2 * 1000 * measured.sum() / (4 * len(measured)))
    assert row.start_s == pytest.approx(100 + 30 - 90)


@pytest.mark.parametrize(("seconds", "calls"), [(0.001, timings.LEAST_CALLS), (5.0, timings.LEAST_CALLS), (12.0, 12)])
def test_as_many_calls_as_the_time_has_and_ten_at_least(clock, seconds, calls):
    row, _ = timed(clock, [1.0] * 50, seconds)
    assert row.calls == calls


def test_rows_stand_under_their_heads():
    row = Timing("onnxruntime", 32, 1234.5678, 2345.6, 3456.7, 123456.7, 0.01234, 12.3, 12_345_000_000, 0, 1000)
    head, text = timings.header("runtime"), timings.line(row)
    assert len(head) == len(text) <= 120
    assert text.split() == [
        "onnxruntime", "32", "1235", "2346", "3457", "123,456.7", "0.01234", "12.3", "12,345", "1,000",
    ]  # fmt: skip
    assert timings.line(Timing("CPU", 8, device_peak_bytes=2_000_000, peak_bytes=9_000_000)).split()[-2] == "2"
    assert timings.line(Timing("CPU", 8, failure="was killed")) == f"{'CPU':<14}{8:>6}  was killed"


def test_the_report_is_json():
    found = json.loads(timings.report({"model": "b0"}, [Timing("CPU", 8, p50_ms=1.5)]))
    assert found["model"] == "b0"
    assert Timing(**found["timings"][0]) == Timing("CPU", 8, p50_ms=1.5)


def test_memory_that_was_given_back_is_no_peak_any_more():
    before = timings.peak_memory()
    block = np.ones(64 << 20, np.uint8)
    assert timings.peak_memory() >= before
    with_block = timings.peak_memory()
    del block
    timings.reset_peak_memory()
    assert 0 < timings.peak_memory() <= with_block
