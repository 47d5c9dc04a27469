"""How numba compiles functions over pixels here: without Python, so that TensorFlow's threads run them side by side.

Compiled once on a machine: what comes out is kept beside the source, or in the user's cache directory where that
cannot be written. Whether it is still right, numba tells from the function's own file: a compiled function therefore
takes nothing from another file, these helpers excepted.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numba
from numba.extending import intrinsic

ADDRESS, INT = numba.types.uintp, numba.types.int64


def compiled(function: Callable) -> Any:
    """Compiled when first called."""
    return _decorated(numba.njit, function)


def c_function(function: Callable, signature: Any, keep: bool = True) -> int:
    """The address of a function of C, which is never freed. keep: as above."""
    return never_freed(_decorated(numba.cfunc, function, signature, keep=keep)).address


def never_freed(thing: Any) -> Any:
    """The same. For what has its address used by TensorFlow's threads, which Python does not wait for when it ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing


def _decorated(decorator: Callable, function: Callable, *arguments: Any, keep: bool = True) -> Any:
    try:
        # error_model: a division by zero gives infinity, as in C; nobody could catch its exception.
        return decorator(*arguments, cache=keep, error_model="numpy")(function)
    except RuntimeError:
        if not keep:
            raise
        # Nothing can be written on this machine: compiled in every process.
        return _decorated(decorator, function, *arguments, keep=False)


@intrinsic
def pointer(typing_context: Any, address: Any) -> tuple[Any, Callable]:
    """An address as what `numba.carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: list) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(numba.types.voidptr))

    return numba.types.voidptr(numba.types.uintp), generate
