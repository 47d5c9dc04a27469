"""Compiles functions over pixels with numba: without Python's lock, so that TensorFlow's threads run them side by side.

Compiled code is kept beside the source, or in the user's cache directory if that cannot be written. numba compiles
again when the function's own file changes. A compiled function therefore uses nothing from another file except the
functions of this one.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numba
from numba.extending import intrinsic

ADDRESS = numba.types.uintp
_IMAGE, _PARAMETERS = numba.types.Array(numba.types.uint8, 3, "C"), numba.types.Array(numba.types.float64, 1, "C")
# Of a kernel's C function. An array is passed as numba's own structure: only code compiled by numba can call it.
KERNEL_SIGNATURE = numba.types.void(_IMAGE, _IMAGE, _PARAMETERS)


class Kernel:
    """A function (image, out, parameters) that writes one image, and its compiled form.

    image: uint8 [height, width, 3]; out: uint8 [height, width, 3]; parameters: float64 [parameters].
    """

    def __init__(self, function: Callable[[Any, Any, Any], None]) -> None:
        self._function = function
        self._address = 0

    def address(self) -> int:
        """Returns the address of the C function of KERNEL_SIGNATURE. The first call compiles it."""
        if not self._address:
            self._address = c_function(self._function, KERNEL_SIGNATURE)
        return self._address


def kernel(function: Callable[[Any, Any, Any], None]) -> Kernel:
    """Turns a function over arrays into a kernel that the operation can call."""
    return Kernel(function)


def compiled(function: Callable) -> Any:
    """Returns a function for use in compiled functions. It is compiled when it is first called."""
    return _decorate(numba.njit, function)


def c_function(function: Callable, signature: Any, keep: bool = True) -> int:
    """Compiles a C function and returns its address, valid for the life of the process.

    keep: False if the function holds a value that is new in every process.
    """
    return never_freed(_decorate(numba.cfunc, function, signature, keep=keep)).address


def never_freed(thing: Any) -> Any:
    """Returns `thing`, which is never freed: TensorFlow's threads still use its address while Python ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing


def _decorate(decorator: Callable, function: Callable, *arguments: Any, keep: bool = True) -> Any:
    """Applies a decorator of numba, without a cache where none can be written."""
    try:
        # error_model: a division by zero gives infinity, as in C; nothing could catch its exception.
        return decorator(*arguments, cache=keep, error_model="numpy")(function)
    except RuntimeError:
        if not keep:
            raise
        return _decorate(decorator, function, *arguments, keep=False)


@intrinsic
def pointer(typing_context: Any, address: Any) -> tuple[Any, Callable]:
    """Turns an address into the pointer that `numba.carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: list) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(numba.types.voidptr))

    return numba.types.voidptr(numba.types.uintp), generate
