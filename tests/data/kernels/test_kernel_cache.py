"""What numba has compiled is kept, and compiled again where what is kept is not there, not whole or not ours."""

import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
PROGRAM = """
import sys
import numpy as np
from efficientnet_tpu.data.kernels import image_kernels, kernel_cache
hits = []
load = kernel_cache.KernelCache.load_overload
kernel_cache.KernelCache.load_overload = lambda *arguments: hits.append(load(*arguments)) or hits[-1]
next(iter(image_kernels.KERNELS.values())).address()
print(sum(hit is not None for hit in hits), len(hits))
"""


def _compile(place, **environment):
    """Compiles a kernel in a process of its own, with its cache in `place`. Returns (found, asked for), and stderr."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(place), **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=variables, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split())), done.stderr


@pytest.fixture
def cache(tf, tmp_path, monkeypatch):
    """A cache in tmp_path of a function, and the function."""
    import numba

    from efficientnet_tpu.data.kernels import kernel_cache

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kernels"))
    return kernel_cache.KernelCache(len)


def _function(cache, value):
    """A compiled function of no arguments that returns `value`, and how many kept forms of it were found."""
    from efficientnet_tpu.data.kernels.numba_compile import compiled

    function = compiled(eval(f"lambda: {value}"))
    function._cache = type(cache)(len)
    assert function() == value
    return sum(function._cache_hits.values())


def test_it_is_kept_and_damage_is_compiled_again(cache, tmp_path):
    assert [_function(cache, 7), _function(cache, 7)] == [0, 1]
    [path] = (tmp_path / "kernels").iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", whole[:20], whole[:-1], bytes(len(whole)), b"foreign" * 9, bytes(flipped), whole + b"x"):
        path.write_bytes(damaged)
        assert _function(cache, 7) == 0
        assert path.read_bytes() == whole or _function(cache, 7) == 1
    path.unlink()
    path.mkdir()  # nothing can be kept there
    assert _function(cache, 7) == 0


def test_what_it_is_made_of_is_part_of_its_name(cache, tmp_path, monkeypatch):
    from efficientnet_tpu.data.kernels import kernel_cache

    _function(cache, 7)
    monkeypatch.setattr(kernel_cache, "_versions", lambda: ("another numba",))
    assert _function(cache, 7) == 0
    monkeypatch.setattr(kernel_cache, "_sources", lambda: "other sources")
    assert _function(cache, 7) == 0
    assert len(list((tmp_path / "kernels").iterdir())) == 3


def test_forms_that_were_not_used_for_longest_go(cache, tmp_path, monkeypatch):
    from efficientnet_tpu.data.kernels import kernel_cache

    def found(sources):
        monkeypatch.setattr(kernel_cache, "_sources", lambda: sources)
        return _function(cache, 7)

    monkeypatch.setattr(kernel_cache, "remove_unused", functools.partial(kernel_cache.remove_unused, most=2))
    paths = {}
    for sources in ("first", "second"):
        found(sources)
        (paths[sources],) = set((tmp_path / "kernels").iterdir()) - set(paths.values())
    (tmp_path / "kernels" / "foreign.nbi").touch()
    for sources, days in (("first", 3), ("second", 2)):
        os.utime(paths[sources], times=(time.time() - 86400 * days,) * 2)
    assert found("first") == 1  # and so the second is the older one
    assert found("third") == 0
    assert paths["first"].exists()
    assert not paths["second"].exists()
    assert len([*(tmp_path / "kernels").iterdir()]) == 3


def test_where_nothing_can_be_kept_a_line_says_so(cache, tmp_path, capsys):
    (tmp_path / "kernels").write_text("a file")
    assert _function(cache, 7) == _function(cache, 7) == 0
    line = f"note: compiled kernels are not kept in {tmp_path}/kernels: "
    assert capsys.readouterr().err.count(line) == 1


def test_it_lives_in_the_users_cache(monkeypatch, tf):
    import numba

    from efficientnet_tpu.data.kernels import kernel_cache

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert kernel_cache.folder() == "/somewhere/efficientnet_tpu/kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert kernel_cache.folder() == "/home/me/.cache/efficientnet_tpu/kernels"


@pytest.mark.slow
def test_in_processes_of_their_own(tmp_path):
    (found, asked), _ = _compile(tmp_path / "kept")  # of the kernel and of what it calls
    assert found == 0 < asked
    assert _compile(tmp_path / "kept") == ((1, 1), "")
    files = [*(tmp_path / "kept").iterdir()]
    assert len(files) == asked
    for path in files:
        path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)
    assert _compile(tmp_path / "kept") == ((0, asked), "")
    assert _compile(tmp_path / "kept", NUMBA_CPU_NAME="generic") == ((0, asked), "")
    assert len([*(tmp_path / "kept").iterdir()]) == 2 * asked
    shutil.rmtree(tmp_path / "kept")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "kept")},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(3)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert _compile(tmp_path / "kept") == ((1, 1), "")
    (tmp_path / "file").write_text("")
    assert "note: compiled kernels are not kept in" in _compile(tmp_path / "file" / "below")[1]
