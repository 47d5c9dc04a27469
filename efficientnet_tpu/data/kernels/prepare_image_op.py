"""One TensorFlow operation for everything that happens to an image after decoding: resizing, mirroring, augmentation.

TensorFlow's own operations take several times as long, because each makes a pass over memory. This one is registered
through TensorFlow's interface for C and compiled by numba, so that no C++ compiler is needed. It exists in this process
and in others that have called `register_all`. No exported model contains it.
"""

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import tensorflow as tf
from llvmlite import ir
from numba.extending import intrinsic

from efficientnet_tpu.data.kernels import tf_c_api
from efficientnet_tpu.data.kernels.image_kernels import KERNELS
from efficientnet_tpu.data.kernels.kernel_calls import (
    INTERPOLATIONS,
    KERNEL_NUMBERS,
    NO_OP,
    NUM_PARAMETERS,
    KernelCalls,
)
from efficientnet_tpu.data.kernels.numba_compile import (
    ADDRESS,
    KERNEL_SIGNATURE,
    c_function,
    compiled,
    never_freed,
    pointer,
)
from efficientnet_tpu.data.kernels.resizing import RESIZING

NAME = "EfficientnetPrepareImage"
INPUTS = (
    "image: uint8", "size: int32", "interpolation: int32", "rounding: float", "mirrored: bool",
    "kernels: int32", "parameters: double",
)  # fmt: skip


def prepare_image(
    image: tf.Tensor,
    size: Sequence[int],
    mirrored: tf.Tensor,
    truncate: bool,
    calls: KernelCalls,
    interpolation: str = "bicubic",
) -> tf.Tensor:
    """Prepares an image as `prepare_image.prepare_image` does.

    image: uint8 [height, width, 3]; mirrored: bool scalar. Returns uint8 [*size, 3].
    """
    register()
    resizing = [tf.constant(list(size)), tf.constant(INTERPOLATIONS.index(interpolation))]
    rounding = tf.constant(0.0 if truncate else 0.5)
    inputs = [image, *resizing, rounding, mirrored, calls.kernels, calls.parameters]
    prepared = _run_eagerly(*inputs) if tf.executing_eagerly() else _add_operation(*inputs)
    return tf.ensure_shape(prepared, [*size, 3])


def load_kernel(name: str) -> None:
    """Compiles a kernel, or loads what was kept. KeyError for a name that is not in KERNELS."""
    _STATE[_KERNELS_BEHIND + KERNEL_NUMBERS[name]] = KERNELS[name].address()


def register_all() -> None:
    """Registers the operation with all its kernels, in a process that runs graphs made by others."""
    register()
    for name in KERNELS:
        load_kernel(name)


@functools.cache
def register() -> None:
    """Registers the operation. RuntimeError or OSError if TensorFlow's interface for C is not as expected."""
    tf_c_api.link()
    for number, name in enumerate(INTERPOLATIONS):
        _STATE[_RESIZE + number] = RESIZING[name].address()
    # The address is new in every process: this function cannot be kept.
    state_at = _STATE.ctypes.data
    create = c_function(lambda construction: state_at, ADDRESS(ADDRESS), keep=False)
    compute = c_function(_compute, numba.types.void(ADDRESS, ADDRESS))
    tf_c_api.register_operation(NAME, INPUTS, "prepared: uint8", create, compute)


def _add_operation(*inputs: tf.Tensor) -> tf.Tensor:
    return tf.compat.v1.get_default_graph().create_op(NAME, list(inputs), [tf.uint8]).outputs[0]


_run_eagerly = tf.function(_add_operation, autograph=False, reduce_retracing=True)

# ---- What the operation computes

_IMAGE, _SIZE, _INTERPOLATION, _ROUNDING, _MIRRORED, _KERNELS, _PARAMETERS = range(7)
_NUM_INPUTS = len(INPUTS)
_REFUSAL_TEXT = never_freed(
    b"an image is [height, width, 3] with pixels; [calls] are kernels known in this process with [calls, %d] parameters"
    % NUM_PARAMETERS
)

# The operation's state: its number of entries, NUM_PARAMETERS, and addresses: of the text, of each way to resize, and
# of each kernel, 0 until it is compiled. The operation reads it whenever it runs. Values from other files, and values
# that are new in each process, must not be part of compiled code that is kept.
_NUM_ENTRIES, _NUM_PARAMETERS, _REFUSAL, _RESIZE = range(4)
_NUM_RESIZES = 2  # part of compiled code, like the numbers before it
_KERNELS_BEHIND = _RESIZE + _NUM_RESIZES - 1  # kernels have numbers from 1 on
_STATE = never_freed(np.zeros(_KERNELS_BEHIND + 1 + len(KERNELS), np.uintp))
_STATE[_NUM_ENTRIES], _STATE[_NUM_PARAMETERS] = len(_STATE), NUM_PARAMETERS
_STATE[_REFUSAL] = ctypes.cast(_REFUSAL_TEXT, ctypes.c_void_p).value


@intrinsic
def _call_kernel(typing_context: Any, address: Any, image: Any, out: Any, parameters: Any) -> tuple[Any, Callable]:
    """Calls the kernel at an address: a C function of KERNEL_SIGNATURE."""

    def generate(context: Any, builder: Any, signature: Any, arguments: list) -> Any:
        types = [context.get_value_type(kind) for kind in KERNEL_SIGNATURE.args]
        function_type = ir.FunctionType(ir.VoidType(), types)
        builder.call(builder.inttoptr(arguments[0], function_type.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return numba.types.void(ADDRESS, *KERNEL_SIGNATURE.args), generate


@compiled
def _are_valid(image, kernels, parameters, state):
    """Checks the tensors' handles: with other shapes or kernels, memory of others would be read."""
    dimension, num_dimensions = tf_c_api.dimension, tf_c_api.num_dimensions
    if num_dimensions(image) != 3 or num_dimensions(kernels) != 1 or num_dimensions(parameters) != 2:
        return False
    for kernel in numba.carray(pointer(tf_c_api.tensor_data(kernels)), (dimension(kernels, 0),), np.int32):
        if kernel < NO_OP or _KERNELS_BEHIND + kernel >= state[_NUM_ENTRIES]:
            return False
        if kernel != NO_OP and state[_KERNELS_BEHIND + kernel] == 0:
            return False
    if dimension(parameters, 0) != dimension(kernels, 0) or dimension(parameters, 1) != state[_NUM_PARAMETERS]:
        return False
    return dimension(image, 0) > 0 and dimension(image, 1) > 0 and dimension(image, 2) == 3


@compiled
def _prepare(tensors, out, state):
    """Prepares the image of the tensors, which are handles of the operation's inputs.

    It is resized, then goes from `out` to another image and back, so that the last call writes `out`.
    """
    data, dimension = tf_c_api.tensor_data, tf_c_api.dimension
    image, num_calls = tensors[_IMAGE], dimension(tensors[_KERNELS], 0)
    pixels = numba.carray(pointer(data(image)), (dimension(image, 0), dimension(image, 1), 3), np.uint8)
    resizing = np.empty(2, np.float64)
    resizing[0] = numba.carray(pointer(data(tensors[_ROUNDING])), (1,), np.float32)[0]
    resizing[1] = numba.carray(pointer(data(tensors[_MIRRORED])), (1,), np.uint8)[0]
    kernels = numba.carray(pointer(data(tensors[_KERNELS])), (num_calls,), np.int32)
    shape = (num_calls, dimension(tensors[_PARAMETERS], 1))
    parameters = numba.carray(pointer(data(tensors[_PARAMETERS])), shape, np.float64)
    num_left = 0
    for kernel in kernels:
        num_left += kernel != NO_OP
    images = (out, np.empty_like(out) if num_left else out)
    interpolation = numba.carray(pointer(data(tensors[_INTERPOLATION])), (1,), np.int32)[0]
    _call_kernel(state[_RESIZE + (interpolation == 1)], pixels, images[num_left % 2], resizing)
    for index in range(kernels.size):
        if kernels[index] != NO_OP:
            source, target = images[num_left % 2], images[(num_left - 1) % 2]
            _call_kernel(state[_KERNELS_BEHIND + kernels[index]], source, target, parameters[index])
            num_left -= 1


def _compute(state_at, call):
    """Runs the operation: the C function that TensorFlow calls with the operation's state and a handle of the call."""
    num_entries = numba.carray(pointer(state_at), (1,), np.uintp)[_NUM_ENTRIES]
    state = numba.carray(pointer(state_at), (num_entries,), np.uintp)
    status, tensors = tf_c_api.new_status(), np.zeros(_NUM_INPUTS + 1, np.uintp)
    for index in range(_NUM_INPUTS):
        tf_c_api.get_input(call, index, np.uintp(tensors.ctypes.data) + np.uintp(8 * index), status)
    if _are_valid(tensors[_IMAGE], tensors[_KERNELS], tensors[_PARAMETERS], state):
        size = numba.carray(pointer(tf_c_api.tensor_data(tensors[_SIZE])), (2,), np.int32)
        shape = np.array([size[0], size[1], 3], np.int64)
        num_bytes = np.uintp(shape[0] * shape[1] * 3)
        shape_at = np.uintp(shape.ctypes.data)
        output = tf_c_api.allocate_output(call, 0, tf_c_api.UINT8, shape_at, 3, num_bytes, status)
        if tf_c_api.status_code(status) == 0:
            tensors[_NUM_INPUTS] = output
            # `shape` is read here: numba frees an array after its last visible use, and an address is none.
            out = numba.carray(pointer(tf_c_api.tensor_data(output)), (shape[0], shape[1], 3), np.uint8)
            _prepare(tensors, out, state)
    else:
        tf_c_api.set_status(status, tf_c_api.INVALID_ARGUMENT, state[_REFUSAL])
    if tf_c_api.status_code(status) != 0:
        tf_c_api.fail(call, status)
    for tensor in tensors:
        if tensor != 0:
            tf_c_api.delete_tensor(tensor)
    tf_c_api.delete_status(status)
