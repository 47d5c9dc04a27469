"""The memory that this process holds now, on the machine and on its first GPU."""

import contextlib
import os
import resource
import sys


def memory_in_use() -> str:
    """Returns 'memory 1.9 GB', with a GPU 'memory 1.9 GB, GPU 3.1 GB'. TPUs do not tell theirs."""
    return ", ".join([f"memory {_resident_bytes() / 1e9:.1f} GB", *_of_gpu()])


def _resident_bytes() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, where the present size is not told
    return peak if sys.platform == "darwin" else 1024 * peak


def _of_gpu() -> list[str]:
    tf = sys.modules.get("tensorflow")
    if not tf or not tf.config.list_logical_devices("GPU"):
        return []
    return [f"GPU {tf.config.experimental.get_memory_info('GPU:0')['current'] / 1e9:.1f} GB"]
