"""The memory of GPUs, by a driver's library."""

import ctypes
import types

import pytest

from efficientnet_tpu.hardware import gpu_memory


def driver(fails=0):
    """Three GPUs of 8, 24 and 16 bytes, as NVIDIA's library has them."""

    def count(number):
        number._obj.value = 3
        return 0

    def handle(index, device):
        device._obj.value = index + 1
        return 0

    def memory(device, found):
        found._obj.total = (8, 24, 16)[device.value - 1]
        return 0

    return types.SimpleNamespace(
        nvmlInit_v2=lambda: fails,
        nvmlShutdown=lambda: 0,
        nvmlDeviceGetCount_v2=count,
        nvmlDeviceGetHandleByIndex_v2=handle,
        nvmlDeviceGetMemoryInfo=memory,
    )


@pytest.mark.parametrize(("visible", "expected"), [("", 8), ("1,2", 16), ("1", 24), ("GPU-1f", 8), ("7", 8)], ids=str)
def test_the_smallest_that_is_visible_counts(monkeypatch, visible, expected):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_memory.gpu_memory() == expected


def test_without_a_driver_nothing_is_known(monkeypatch):
    assert gpu_memory.gpu_memory("libno-such-driver.so") is None
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver(fails=1))
    assert gpu_memory.gpu_memory() is None
