"""TensorFlow's interface for C: enough of it for an operation of one's own, whose kernel is a function of C.

The functions of tensorflow/c/kernels.h, ops.h, tf_tensor.h and tf_status.h. What they point to are handles: addresses,
as unsigned integers.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from llvmlite import binding
from numba import types

UINT8 = 4  # of TF_DataType
INVALID_ARGUMENT = 3  # of TF_Code

# ---- For the compiled kernel

_HANDLE, _INT = types.uintp, types.int32

new_status = types.ExternalFunction("TF_NewStatus", _HANDLE())
delete_status = types.ExternalFunction("TF_DeleteStatus", types.void(_HANDLE))
set_status = types.ExternalFunction("TF_SetStatus", types.void(_HANDLE, _INT, _HANDLE))  # a code, the address of a text
status_code = types.ExternalFunction("TF_GetCode", _INT(_HANDLE))

# (call, index, address where the handle goes, status); the caller deletes the tensor.
get_input = types.ExternalFunction("TF_GetInput", types.void(_HANDLE, _INT, _HANDLE, _HANDLE))
# (call, index, type, address of the shape, dimensions, bytes, status); the caller deletes the tensor.
allocate_output = types.ExternalFunction(
    "TF_AllocateOutput", _HANDLE(_HANDLE, _INT, _INT, _HANDLE, _INT, _HANDLE, _HANDLE)
)
fail = types.ExternalFunction("TF_OpKernelContext_Failure", types.void(_HANDLE, _HANDLE))

num_dimensions = types.ExternalFunction("TF_NumDims", _INT(_HANDLE))
dimension = types.ExternalFunction("TF_Dim", types.int64(_HANDLE, _INT))
tensor_data = types.ExternalFunction("TF_TensorData", _HANDLE(_HANDLE))
delete_tensor = types.ExternalFunction("TF_DeleteTensor", types.void(_HANDLE))

_CALLED_BY_KERNELS = (
    new_status, delete_status, set_status, status_code, get_input, allocate_output, fail,
    num_dimensions, dimension, tensor_data, delete_tensor,
)  # fmt: skip


def link() -> None:
    """Makes the functions above known to compiled code, which must not be loaded before.

    Raises OSError where TensorFlow has no library, AttributeError where the library lacks a function: code that calls
    an unknown function would end the process.
    """
    path = _library_path()
    library = ctypes.CDLL(path)
    for function in _CALLED_BY_KERNELS:
        library[function.symbol]
    binding.load_library_permanently(path)


def _library_path() -> str:
    """Returns the path of the library that TensorFlow in this process is made of. OSError if there is none."""
    for flag in tf.sysconfig.get_link_flags():
        if flag.startswith("-L"):
            # .so.2 on Linux, .2.dylib on macOS
            for path in Path(flag[2:]).glob("libtensorflow_framework*2*"):
                return str(path)
    raise OSError("this TensorFlow has no libtensorflow_framework")


# ---- For Python


def register_operation(name: str, inputs: Sequence[str], output: str, create: int, compute: int) -> None:
    """Registers an operation: on CPUs, without side effects, with an output of any shape.

    inputs, output: "name: type", as TensorFlow writes them. create, compute: addresses of the C functions
    state (construction) and void (state, call). A second call for a name ends the process. Raises RuntimeError with
    TensorFlow's message about a definition that it refuses.
    """
    library = ctypes.CDLL(_library_path())
    handle, string = ctypes.c_size_t, ctypes.c_char_p

    def function(name: str, result: Any, *arguments: Any) -> Any:
        found = library[name]  # a new object each time
        found.restype, found.argtypes = result, arguments
        return found

    def check() -> None:
        if function("TF_GetCode", ctypes.c_int, handle)(status):
            raise RuntimeError(function("TF_Message", string, handle)(status).decode())

    status = function("TF_NewStatus", handle)()
    operation = function("TF_NewOpDefinitionBuilder", handle, string)(name.encode())
    for specification in inputs:
        function("TF_OpDefinitionBuilderAddInput", None, handle, string)(operation, specification.encode())
    function("TF_OpDefinitionBuilderAddOutput", None, handle, string)(operation, output.encode())
    any_shape = ctypes.cast(library["TF_ShapeInferenceContextSetUnknownShape"], ctypes.c_void_p).value
    function("TF_OpDefinitionBuilderSetShapeInferenceFunction", None, handle, handle)(operation, any_shape)
    function("TF_RegisterOpDefinition", None, handle, handle)(operation, status)
    check()
    new_kernel = function("TF_NewKernelBuilder", handle, string, string, handle, handle, handle)
    kernel = new_kernel(name.encode(), b"CPU", create, compute, 0)  # 0: nothing to be freed
    function("TF_RegisterKernelBuilder", None, string, handle, handle)(name.encode(), kernel, status)
    check()
    function("TF_DeleteStatus", None, handle)(status)
