"""The instructions that this machine's CPU has, as Linux names them."""

from pathlib import Path

# On x86 AVX-512 and AMX, on ARM.
BFLOAT16_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def cpu_features(cpu_info: str = "/proc/cpuinfo") -> frozenset[str] | None:
    """Returns the words that Linux has for the CPU's instructions; None where the file is not there.

    cpu_info: path of Linux' description of the CPU; another one in tests.
    """
    try:
        return frozenset(Path(cpu_info).read_text().split())
    except OSError:
        return None
