"""benchmarks/memory.py: estimates are near what trainings take."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("memory", None)
    import memory

    return memory


def test_cases_are_read_and_compared(benchmark):
    first, second = benchmark.parse_cases("efficientnet-b0:8,resnet-50:16", ["precision=bfloat16"])
    assert (first.model, first.batch_size, second.batch_size) == ("efficientnet-b0", 8, 16)
    assert second.config.hardware.precision == "bfloat16"
    estimated = first.estimated_bytes()
    assert benchmark.row(first, estimated / 1.5).startswith("| efficientnet-b0 --precision=bfloat16 | 8 | ")
    assert benchmark.row(first, estimated / 1.5).endswith(" | +50% |")
    assert len(benchmark.parse_cases(benchmark.CASES)) == 15


def test_the_peak_is_the_commands_own(benchmark, tmp_path):
    ballast = bytearray(100 << 20)  # of this process, which has held more by now
    done = benchmark.measured([sys.executable, "-c", "print(len(bytearray(40 << 20)))"], str(tmp_path / "peak"))
    assert done.stdout == f"{40 << 20}\n"
    assert 40 << 20 < benchmark.peak_bytes(str(tmp_path / "peak")) < len(ballast)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["efficientnet-b0:16", "mobilenet-v1:32", "efficientnet-lite0:8"])
def test_estimates_are_within_a_quarter_of_the_peak(benchmark, case):
    (case,) = benchmark.parse_cases(case)
    assert case.estimated_bytes() == pytest.approx(case.measured_bytes(), rel=0.25)
