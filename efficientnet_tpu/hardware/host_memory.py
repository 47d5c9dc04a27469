"""The memory that a process may come to hold on this host: the machine's, or less where something limits it.

Containers, Slurm and systemd limit memory by control groups, nested in each other. A process that goes over their limit
is killed without a word; one that goes over that of `ulimit -v` fails.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HostMemory:
    """Bytes that this process may hold, those included that it holds now. limited_by: who says so, in words."""

    num_bytes: int
    limited_by: str


@dataclass(frozen=True)
class _Files:
    """The names of a version's files: the limit, what is used, and in memory.stat what can be given up at once."""

    limit: str
    usage: str
    reclaimable: str


_VERSIONS = {
    "cgroup2": _Files("memory.max", "memory.current", "inactive_file"),
    "cgroup": _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def host_memory(root: str = "/") -> HostMemory | None:
    """Returns what this process may hold, by the narrowest of the limits; None where the system does not tell.

    root: holds proc/ and sys/; another one in tests.
    """
    held = held_bytes(root)
    found = [HostMemory(free + held, limited_by) for free, limited_by in _free_bytes(root)]
    return min(found, key=lambda memory: memory.num_bytes, default=None)


def held_bytes(root: str = "/") -> int:
    """Returns the bytes that this process holds now, 0 where the system does not tell. Not those of files, libraries
    say: they count as available.
    """
    return _numbers(Path(root, "proc/self/status")).get("RssAnon", 0) * 1024


def _free_bytes(root: str) -> Iterator[tuple[int, str]]:
    """Yields what is free on the machine, and within every limit that holds for this process."""
    machine = _numbers(Path(root, "proc/meminfo"))
    if "MemAvailable" in machine:
        yield machine["MemAvailable"] * 1024, "are available on this machine"
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS does not say what is free
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "this machine has"
    for line in _lines(Path(root, "proc/self/limits")):
        *name, soft = line.split()[:4]
        if name == ["Max", "address", "space"] and soft.isdecimal():
            mapped = _numbers(Path(root, "proc/self/status")).get("VmSize", 0) * 1024
            yield int(soft) - mapped, f"are left by the limit of {int(soft) / 1e9:.1f} GB of ulimit -v"
    for folder, files in _control_groups(root):
        limit, usage = (_first_number(folder / name) for name in (files.limit, files.usage))
        if limit is not None and usage is not None:
            reclaimable = _numbers(folder / "memory.stat").get(files.reclaimable, 0)
            yield limit - usage + reclaimable, f"are left by the limit of {limit / 1e9:.1f} GB of its control group"


def _control_groups(root: str) -> Iterator[tuple[Path, _Files]]:
    """Yields the folders of this process' control groups that limit memory, each with all those around it."""
    paths = {}  # of the hierarchy by its controllers, "" for version 2
    for line in _lines(Path(root, "proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    for line in _lines(Path(root, "proc/self/mountinfo")):
        own, _, kind_and_options = line.partition(" - ")
        mounted, mount_point = own.split()[3:5]
        kind, *_, options = kind_and_options.split()
        controller = "" if kind == "cgroup2" else "memory"
        if kind in _VERSIONS and controller in paths and controller in ("", *options.split(",")):
            # In a container, what is mounted may be the process' own group, by a path that is not the container's.
            inside = os.path.relpath(paths[controller], mounted)
            parts = [] if inside.startswith("..") or inside == "." else inside.split("/")
            top = Path(root, mount_point.lstrip("/"))
            for depth in range(len(parts) + 1):
                yield top.joinpath(*parts[:depth]), _VERSIONS[kind]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _first_number(path: Path) -> int | None:
    """Returns the number in a file; None where there is no file, or the word max in it."""
    text = "".join(_lines(path)[:1]).strip()
    return int(text) if text.isdecimal() else None


def _numbers(path: Path) -> dict[str, int]:
    """Returns the numbers of a file with a name and a number in every line, by the names."""
    words = [line.replace(":", " ").split() for line in _lines(path)]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}
