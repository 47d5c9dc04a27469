"""What a process group, a pipeline with its workers, has used; read from Linux' /proc."""

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(group: int) -> float:
    """User and system time of all processes of the group, and of the ended ones that they waited for."""
    return sum(sum(map(int, fields[11:15])) for _, fields in _processes(group)) / TICKS_PER_SECOND


def memory_mb(group: int) -> dict[str, float]:
    """pss: what the group holds now, pages of several processes counted once; peak_rss: sum of the processes' peaks."""
    kilobytes = {"pss": 0, "peak_rss": 0}
    for pid, _ in _processes(group):
        for name, file, key in (("pss", "smaps_rollup", "Pss:"), ("peak_rss", "status", "VmHWM:")):
            try:
                lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
            except OSError:  # ended meanwhile
                continue
            kilobytes[name] += sum(int(line.split()[1]) for line in lines if line.startswith(key))
    return {name: value / 1024 for name, value in kilobytes.items()}


def machine_busy_seconds() -> float:
    """Time that all cores together were not idle since the machine started."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def _processes(group: int) -> list[tuple[int, list[str]]]:
    """Of each process of the group: its number, and the fields of /proc/PID/stat from the state on."""
    found = []
    for directory in os.scandir("/proc"):
        if directory.name.isdigit():
            try:
                fields = Path(directory.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:  # ended meanwhile
                continue
            if int(fields[2]) == group:
                found.append((int(directory.name), fields))
    return found
