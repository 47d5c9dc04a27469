"""The memory of NVIDIA GPUs, by the driver's library: TensorFlow does not tell.

Not what is free: TensorFlow takes all that is when it first uses a GPU.
"""

import ctypes
import os


class _Memory(ctypes.Structure):
    """The driver's nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def gpu_memory(library: str = "libnvidia-ml.so.1") -> int | None:
    """Returns the bytes of the GPU that has the fewest, of those that CUDA_VISIBLE_DEVICES leaves.

    None where the driver does not tell. library: the driver's; another one in tests.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    if driver.nvmlInit_v2():
        return None
    try:
        count = ctypes.c_uint()
        driver.nvmlDeviceGetCount_v2(ctypes.byref(count))
        sizes = []
        for index in _visible(count.value):
            device, memory = ctypes.c_void_p(), _Memory()
            failed = driver.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
            if not failed and not driver.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):
                sizes.append(memory.total)
        return min(sizes, default=None)
    finally:
        driver.nvmlShutdown()


def _visible(count: int) -> list[int]:
    """Returns the numbers of the GPUs that the program may use; all where they are named by identifiers."""
    named = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    numbers = [int(word) for word in named if word.isdecimal() and int(word) < count]
    return numbers if numbers and len(numbers) == len(named) else list(range(count))
