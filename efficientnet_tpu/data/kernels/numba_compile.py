"""Compiles functions over pixels with numba: without Python's lock, so that TensorFlow's threads run them side by side.

Compiled code is kept by `kernel_cache`, and compiled again when a file of this room changes. A compiled function
therefore uses nothing from another room.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numba
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from efficientnet_tpu.data.kernels.kernel_cache import KernelCache

ADDRESS = numba.types.uintp
_IMAGE, _PARAMETERS = numba.types.Array(numba.types.uint8, 3, "C"), numba.types.Array(numba.types.float64, 1, "C")
# A division by zero gives infinity, as in C; nothing could catch its exception.
_OPTIONS = {"error_model": "numpy"}
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
    dispatcher = numba.njit(**_OPTIONS)(function)
    dispatcher._cache = KernelCache(function)
    return dispatcher


def c_function(function: Callable, signature: Any, keep: bool = True) -> int:
    """Compiles a C function and returns its address, valid for the life of the process.

    keep: False if the function holds a value that is new in every process.
    """
    callback = CFunc(function, (signature.args, signature.return_type), {}, _OPTIONS)
    if keep:
        callback._cache = KernelCache(function)
    callback.compile()
    return never_freed(callback).address


def never_freed(thing: Any) -> Any:
    """Returns `thing`, which is never freed: TensorFlow's threads still use its address while Python ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing


@intrinsic
def pointer(typing_context: Any, address: Any) -> tuple[Any, Callable]:
    """Turns an address into the pointer that `numba.carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: list) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(numba.types.voidptr))

    return numba.types.voidptr(numba.types.uintp), generate
