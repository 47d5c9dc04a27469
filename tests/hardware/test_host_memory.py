"""What memory a process may hold, by files as Linux has them."""

import pytest

from efficientnet_tpu.hardware.host_memory import held_bytes, host_memory

GB = 10**9


def lay(root, files):
    """Writes files, path below root -> text."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return str(root)


MACHINE = {
    "proc/meminfo": f"MemTotal: {32 * GB // 1024} kB\nMemFree: 1 kB\nMemAvailable: {8 * GB // 1024} kB\n",
    "proc/self/status": f"Name:\tpython\nVmRSS:\t{2 * GB // 1024} kB\nRssAnon:\t{GB // 1024} kB\n",
}
V1 = "35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
V2 = "41 31 0:38 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = V1 + "42 31 0:39 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


def v1(folder, limit, usage, reclaimable=0):
    return {
        f"sys/fs/cgroup/memory/{folder}memory.limit_in_bytes": f"{limit}\n",
        f"sys/fs/cgroup/memory/{folder}memory.usage_in_bytes": f"{usage}\n",
        f"sys/fs/cgroup/memory/{folder}memory.stat": f"cache 5\ninactive_file 7\ntotal_inactive_file {reclaimable}\n",
    }


def v2(folder, limit, usage, reclaimable=0):
    return {
        f"sys/fs/cgroup/{folder}memory.max": f"{limit}\n",
        f"sys/fs/cgroup/{folder}memory.current": f"{usage}\n",
        f"sys/fs/cgroup/{folder}memory.stat": f"anon 5\ninactive_file {reclaimable}\n",
    }


# id: the mounts, the process' groups, files of the groups, GB that the process may hold, of which it has 1.
CASES = {
    "no group": ("", "", {}, 9),
    "unlimited": (V1.format(root="/"), "4:memory:/\n", v1("", 2**63 - 4096, 0), 9),
    "no number": (V2.format(root="/"), "0::/\n", v2("", "max", 0), 9),
    "version 1": (V1.format(root="/"), "4:cpu,memory:/job\n", v1("job/", 4 * GB, 2 * GB), 3),
    "version 2": (V2.format(root="/"), "0::/job\n", v2("job/", 4 * GB, 2 * GB), 3),
    "files of others in memory": (V2.format(root="/"), "0::/job\n", v2("job/", 4 * GB, 3 * GB, 2 * GB), 4),
    "nested, the outer narrower": (
        V2.format(root="/"),
        "0::/user/job/step\n",
        v2("user/", 3 * GB, 2 * GB) | v2("user/job/", 8 * GB, 0) | v2("user/job/step/", "max", 0),
        2,
    ),
    "a container": (V1.format(root="/docker/1f"), "4:memory:/docker/1f\n", v1("", 2 * GB, GB), 2),
    "a container of version 2": (V2.format(root="/"), "0::/\n", v2("", 2 * GB, GB), 2),
    "a group outside of the container": (V2.format(root="/../.."), "0::/../x\n", v2("", 2 * GB, GB), 2),
    "both versions, memory in the first": (
        HYBRID.format(root="/"),
        "4:memory:/job\n0::/init\n",
        v1("job/", 5 * GB, 4 * GB),
        2,
    ),
    "ulimit -v": (
        "",
        "",
        {
            "proc/self/status": f"VmSize:\t{3 * GB // 1024} kB\nRssAnon:\t{GB // 1024} kB\n",
            "proc/self/limits": f"Limit Soft Limit Hard Limit Units\nMax address space {5 * GB} unlimited bytes\n",
        },
        3,
    ),
    "wider than the machine": (V2.format(root="/"), "0::/job\n", v2("job/", 64 * GB, 0), 9),
}


@pytest.mark.parametrize("name", CASES)
def test_the_narrowest_limit_counts(tmp_path, name):
    mounts, groups, files, expected = CASES[name]
    root = lay(tmp_path, MACHINE | files | {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups})
    memory = host_memory(root)
    assert memory.num_bytes == pytest.approx(expected * GB, rel=1e-5)
    assert memory.limited_by.startswith("are available" if expected == 9 else "are left by the limit")
    assert held_bytes(root) == pytest.approx(GB, rel=1e-5)


def test_this_machine_tells():
    assert host_memory().num_bytes > held_bytes()
