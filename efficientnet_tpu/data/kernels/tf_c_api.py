"""TensorFlow's interface for C: enough of it for an operation of one's own, whose kernel is a function of C.

The functions of tensorflow/c/kernels.h, ops.h, tf_tensor.h and tf_status.h; what they point to are handles:
addresses, as unsigned integers.
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

# ---- For the kernel, which is compiled

_HANDLE, _INT = types.uintp, types.int32

new_status = types.ExternalFunction("TF_NewStatus", _HANDLE())
delete_status = types.ExternalFunction("TF_DeleteStatus", types.void(_HANDLE))
set_status = types.ExternalFunction("TF_SetStatus", types.void(_HANDLE, _INT, _HANDLE))  # a code, the address of a text
status_code = types.ExternalFunction("TF_GetCode", _INT(_HANDLE))

# (call, index, address where the handle goes, status); the tensor is the caller's to delete.
get_input = types.ExternalFunction("TF_GetInput", types.void(_HANDLE, _INT, _HANDLE, _HANDLE))
# (call, index, type, address of the shape, dimensions, bytes, status); likewise.
allocate_output = types.ExternalFunction(
    "TF_AllocateOutput", _HANDLE(_HANDLE, _INT, _INT, _HANDLE, _INT, _HANDLE, _HANDLE)
)
fail = types.ExternalFunction("TF_OpKernelContext_Failure", types.void(_HANDLE, _HANDLE))

num_dimensions = types.ExternalFunction("TF_NumDims", _INT(_HANDLE))
dimension = types.ExternalFunction("TF_Dim", types.int64(_HANDLE, _INT))
tensor_data = types.ExternalFunction("TF_TensorData", _HANDLE(_HANDLE))
delete_tensor = types.ExternalFunction("TF_DeleteTensor", types.void(_HANDLE))


def link() -> None:
    """Lets functions that call these be loaded; to be called before they are."""
    binding.load_library_permanently(_library_path())


def _library_path() -> str:
    """Of the library that TensorFlow in this process is made of."""
    (folder,) = (flag[2:] for flag in tf.sysconfig.get_link_flags() if flag.startswith("-L"))
    (path,) = Path(folder).glob("libtensorflow_framework*2*")  # .so.2 on Linux, .2.dylib on macOS
    return str(path)


# ---- For Python


def register_operation(name: str, inputs: Sequence[str], output: str, create: int, compute: int) -> None:
    """Makes an operation known: on CPUs, without side effects, of whatever shape comes out.

    inputs, output: "name: type", as of TensorFlow's own. create, compute: addresses of the functions
    state (construction) and void (state, call). Once for each name: a second time ends the process. Raises RuntimeError
    with what TensorFlow says of what it cannot understand.
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
