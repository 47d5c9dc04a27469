"""The files that compiled kernels are kept in, so that only the first run on a machine waits for numba.

numba's own keep what was compiled beside the source, which another user may have installed, and are believed: a damaged
one is a traceback, or other machine code. Here a file's name is a hash of all that the code depends on and its content
begins with a hash of the rest. What is not there, not whole or not readable is compiled again.
"""

import functools
import hashlib
import os
import pickle
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from efficientnet_tpu.storage.user_cache import mark_used, remove_unused, user_cache
from efficientnet_tpu.storage.write_errors import error_kinds, write_error_reason

_DIGEST_BYTES = 32
# Names of kept forms, and of what a killed process left of writing one: NUMBA_CACHE_DIR may hold files of others too.
_KEPT = re.compile(r".+-[0-9a-f]{32}\.kernel(\.\d+\.tmp)?")
# What reading a pickle of another program may raise.
_FOREIGN = (AttributeError, EOFError, ImportError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


class KernelCache(NullCache):
    """The kept forms of one function, one for each signature. numba calls it in place of its own cache."""

    def __init__(self, function: Callable) -> None:
        self._function = function

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """Returns the code for a signature, or None if it is to be compiled."""
        target_context.refresh()
        path = self._path(sig, target_context.codegen())
        content = _read(path)
        if content is None:
            _announce_compiling()
            return None
        mark_used(path)
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(content))
        except (*_FOREIGN, pickle.UnpicklingError):
            return None

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Keeps the code for a signature, where a place for it can be written."""
        if data.library.has_dynamic_globals:  # addresses of this process
            return
        content = dumps(data._reduce())
        _write(self._path(sig, data.codegen), hashlib.sha256(content).digest() + content)

    def _path(self, signature: Any, codegen: Any) -> str:
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        code = (name, signature, codegen.magic_tuple(), _versions(), _sources())  # the processor is in magic_tuple
        digest = hashlib.sha256(repr(code).encode()).hexdigest()
        return os.path.join(folder(), f"{self._function.__name__}-{digest[:32]}.kernel")


def folder() -> str:
    """Returns where compiled kernels are kept: in NUMBA_CACHE_DIR, or in the user's cache."""
    return numba.config.CACHE_DIR or os.path.join(user_cache(), "kernels")


def _read(path: str) -> bytes | None:
    """Returns what was kept, None unless it is there and whole."""
    try:
        content = Path(path).read_bytes() if os.path.isfile(path) else b""
    except OSError:
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def _write(path: str, content: bytes) -> None:
    from efficientnet_tpu.storage.atomic_write import write_atomically  # which needs TensorFlow

    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomically(path, content)
        remove_unused(os.path.dirname(path), _KEPT)
    except error_kinds() as error:
        _say_once(f"note: compiled kernels are not kept in {folder()}: {write_error_reason(error)}")


@functools.cache
def _announce_compiling() -> None:
    if sys.stderr.isatty():  # a person waits, for seconds
        print("compiling the kernels of the input pipeline, once on this machine ...", file=sys.stderr, flush=True)


@functools.cache
def _say_once(line: str) -> None:
    print(f"{line}. Every start compiles them again, for some seconds.", file=sys.stderr, flush=True)


def _versions() -> tuple[str, ...]:
    return platform.python_version(), sys.implementation.cache_tag, numba.__version__, llvmlite.__version__


@functools.cache
def _sources() -> str:
    """Returns a hash of this room's files: of all that a kernel may be made of."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
