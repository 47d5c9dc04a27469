"""One TensorFlow operation for all that happens to an image after decoding: resized, mirrored, augmented.

TensorFlow's own take several times as long, for the passes over memory that they make. This one is registered through
TensorFlow's interface for C and compiled by numba, so that no C++ compiler is needed. It exists in this process, and in
others that have called `register_all`; no exported model contains it.
"""

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import tensorflow as tf
from llvmlite import ir
from numba.extending import intrinsic

from efficientnet_tpu.data.kernels import tf_c_api
from efficientnet_tpu.data.kernels.bicubic import resize
from efficientnet_tpu.data.kernels.image_kernels import KERNELS, NUMBERS
from efficientnet_tpu.data.kernels.numba_compile import ADDRESS, INT, c_function, compiled, never_freed, pointer

NAME = "EfficientnetPrepareImage"
INPUTS = ("image: uint8", "size: int32", "rounding: float", "mirrored: bool", "kernels: int32", "numbers: double")
KEEP = 0  # a kernel's number that stands for none


@dataclass(frozen=True)
class Steps:
    """What is done to an image after it is resized, in this order.

    kernels: int32 [steps], of `kernel_number`, or KEEP; numbers: float64 [steps, NUMBERS], see `image_kernels`.
    """

    kernels: tf.Tensor
    numbers: tf.Tensor


def prepare_image(
    image: tf.Tensor,
    size: Sequence[int],
    mirrored: tf.Tensor | None = None,
    cut_off: bool = False,
    steps: Steps | None = None,
) -> tf.Tensor:
    """Resizes as `preprocessing.resize` does, exchanges left and right where `mirrored`, and applies the steps.

    image: uint8 [h, w, 3]; size: height and width; mirrored: bool scalar. Returns uint8 [*size, 3]. cut_off: resizing
    cuts decimals off, instead of rounding to the nearest level. InvalidArgumentError for an image without pixels.
    """
    _register()
    if steps is None:
        steps = Steps(tf.zeros([0], tf.int32), tf.zeros([0, NUMBERS], tf.float64))
    rounding = tf.constant(0.0 if cut_off else 0.5)
    mirrored = tf.constant(False) if mirrored is None else mirrored
    inputs = [image, tf.constant(list(size)), rounding, mirrored, steps.kernels, steps.numbers]
    prepared = _eagerly(*inputs) if tf.executing_eagerly() else _add_operation(*inputs)
    return tf.ensure_shape(prepared, [*size, 3])


def kernel_number(name: str) -> int:
    """The number of a kernel of KERNELS, which is compiled from now on. KeyError for an unknown name."""
    number = _KERNEL_NUMBERS[name]
    if not _STATE[number]:
        _STATE[number] = c_function(KERNELS[name], _KERNEL_SIGNATURE)
    return number


def register_all() -> None:
    """For a process that runs what others have put together: the operation with all its kernels."""
    _register()
    for name in KERNELS:
        kernel_number(name)


@functools.cache
def _register() -> None:
    tf_c_api.link()
    _STATE[_RESIZE] = c_function(resize, _KERNEL_SIGNATURE)
    # New in every process, and the only thing about the operation that is: not kept.
    state_at = _STATE.ctypes.data
    create = c_function(lambda construction: state_at, ADDRESS(ADDRESS), keep=False)
    compute = c_function(_compute, numba.types.void(ADDRESS, ADDRESS))
    tf_c_api.register_operation(NAME, INPUTS, "prepared: uint8", create, compute)


def _add_operation(*inputs: tf.Tensor) -> tf.Tensor:
    return tf.compat.v1.get_default_graph().create_op(NAME, list(inputs), [tf.uint8]).outputs[0]


_eagerly = tf.function(_add_operation, autograph=False, reduce_retracing=True)

# ---- What the operation does

_KERNEL_SIGNATURE = numba.types.void(ADDRESS, ADDRESS, INT, INT, ADDRESS)
_REFUSAL_TEXT = never_freed(
    b"an image is [height, width, 3] with pixels; steps are [steps] and [steps, %d], of kernels known in this process"
    % NUMBERS
)

# The operation's state: how many entries it has, how many numbers a kernel has, and addresses: of the text, of
# resizing, and of each kernel, 0 until it is compiled. It is read whenever the operation runs: what comes from other
# files, or is another in each process, can be in no compiled function that is kept.
_NUM_ENTRIES, _NUM_NUMBERS, _REFUSAL, _RESIZE = range(4)
_FIRST_KERNEL = 4
_KERNEL_NUMBERS = {name: number for number, name in enumerate(KERNELS, start=_FIRST_KERNEL)}
_STATE = never_freed(np.zeros(_FIRST_KERNEL + len(KERNELS), np.uintp))
_STATE[_NUM_ENTRIES], _STATE[_NUM_NUMBERS] = len(_STATE), NUMBERS
_STATE[_REFUSAL] = ctypes.cast(_REFUSAL_TEXT, ctypes.c_void_p).value
_num_inputs = len(INPUTS)


@intrinsic
def _call_kernel(
    typing_context: Any, kernel: Any, image: Any, out: Any, height: Any, width: Any, numbers: Any
) -> tuple[Any, Callable]:
    """The kernel at an address, of _KERNEL_SIGNATURE."""
    types = _KERNEL_SIGNATURE.args

    def generate(context: Any, builder: Any, signature: Any, arguments: list) -> Any:
        function_type = ir.FunctionType(ir.VoidType(), [context.get_value_type(kind) for kind in types])
        builder.call(builder.inttoptr(arguments[0], function_type.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return numba.types.void(ADDRESS, *types), generate


@compiled
def _is_right(image, kernels, numbers, state):
    """Whether these tensors are what they should be; otherwise memory would be read that is somebody else's."""
    dimension, num_dimensions = tf_c_api.dimension, tf_c_api.num_dimensions
    if num_dimensions(image) != 3 or num_dimensions(kernels) != 1 or num_dimensions(numbers) != 2:
        return False
    for kernel in numba.carray(pointer(tf_c_api.tensor_data(kernels)), (dimension(kernels, 0),), np.int32):
        if kernel != KEEP and (kernel < _FIRST_KERNEL or kernel >= state[_NUM_ENTRIES] or state[kernel] == 0):
            return False
    if dimension(numbers, 0) != dimension(kernels, 0) or dimension(numbers, 1) != state[_NUM_NUMBERS]:
        return False
    return dimension(image, 0) > 0 and dimension(image, 1) > 0 and dimension(image, 2) == 3


@compiled
def _num_steps(kernels):
    count = 0
    for kernel in kernels:
        count += kernel != KEEP
    return count


@compiled
def _run(tensors, kernels, state, resizing, out, other):
    """tensors: handles of the inputs, in their order; resizing: numbers of that kernel; out, other: see below.

    What is only used by its address has to be an argument: of its own arrays, a function drops each after its last use.
    """
    image_at, numbers_at = tf_c_api.tensor_data(tensors[0]), tf_c_api.tensor_data(tensors[5])
    height, width, _ = out.shape
    places = (np.uintp(out.ctypes.data), np.uintp(other.ctypes.data))
    # From one image to the other and back, so that the last step ends in `out`.
    num_left = _num_steps(kernels)
    resized_at = places[num_left % 2]
    _call_kernel(state[_RESIZE], image_at, resized_at, height, width, np.uintp(resizing.ctypes.data))
    for step in range(kernels.size):
        if kernels[step] != KEEP:
            source_at, target_at = places[num_left % 2], places[(num_left - 1) % 2]
            step_numbers_at = numbers_at + np.uintp(8 * step) * state[_NUM_NUMBERS]
            _call_kernel(state[kernels[step]], source_at, target_at, height, width, step_numbers_at)
            num_left -= 1


@compiled
def _prepare(tensors, shape, output, state):
    """shape: of the output, int64 [3]; output: its handle."""
    data, dimension = tf_c_api.tensor_data, tf_c_api.dimension
    resizing = np.empty(4, np.float64)
    resizing[0], resizing[1] = dimension(tensors[0], 0), dimension(tensors[0], 1)
    resizing[2] = numba.carray(pointer(data(tensors[2])), (1,), np.float32)[0]
    resizing[3] = numba.carray(pointer(data(tensors[3])), (1,), np.uint8)[0]
    kernels = numba.carray(pointer(data(tensors[4])), (dimension(tensors[4], 0),), np.int32)
    out = numba.carray(pointer(data(output)), (shape[0], shape[1], shape[2]), np.uint8)
    other = np.empty(out.size if _num_steps(kernels) else 0, np.uint8)
    _run(tensors, kernels, state, resizing, out, other)


@compiled
def _inputs(call, tensors, status):
    """Fills in the handles."""
    for index in range(_num_inputs):
        tf_c_api.get_input(call, index, np.uintp(tensors.ctypes.data) + np.uintp(8 * index), status)


@compiled
def _new_output(call, shape, status):
    num_bytes = np.uintp(shape[0] * shape[1] * shape[2])
    return tf_c_api.allocate_output(call, 0, tf_c_api.UINT8, np.uintp(shape.ctypes.data), 3, num_bytes, status)


def _compute(state_at, call):
    """A call of the operation."""
    num_entries = numba.carray(pointer(state_at), (1,), np.uintp)[_NUM_ENTRIES]
    state = numba.carray(pointer(state_at), (num_entries,), np.uintp)
    status, tensors = tf_c_api.new_status(), np.zeros(_num_inputs + 1, np.uintp)
    _inputs(call, tensors, status)
    if _is_right(tensors[0], tensors[4], tensors[5], state):
        size = numba.carray(pointer(tf_c_api.tensor_data(tensors[1])), (2,), np.int32)
        shape = np.array([size[0], size[1], 3], np.int64)
        output = _new_output(call, shape, status)
        if tf_c_api.status_code(status) == 0:
            tensors[_num_inputs] = output
            _prepare(tensors, shape, output, state)
    else:
        tf_c_api.set_status(status, tf_c_api.INVALID_ARGUMENT, state[_REFUSAL])
    if tf_c_api.status_code(status) != 0:
        tf_c_api.fail(call, status)
    for tensor in tensors:
        if tensor != 0:
            tf_c_api.delete_tensor(tensor)
    tf_c_api.delete_status(status)
