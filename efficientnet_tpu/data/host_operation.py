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

from efficientnet_tpu.data import tensorflow_c
from efficientnet_tpu.data.bicubic import resize
from efficientnet_tpu.data.compiled import ADDRESS, INT, c_function, compiled, pointer
from efficientnet_tpu.data.image_kernels import KERNELS, NUMBERS

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
    number = _NUMBERS[name]
    if not _ADDRESSES[number]:
        _ADDRESSES[number] = c_function(_FUNCTIONS[name], numba.types.void(*_KERNEL_TYPES))
    return number


def register_all() -> None:
    """For a process that runs what others have put together: the operation with all its kernels."""
    _register()
    for name in KERNELS:
        kernel_number(name)


@functools.cache
def _register() -> None:
    tensorflow_c.link()
    kernel_number("resize")
    # New in every process, and the only thing about the operation that is: not kept.
    create = c_function(lambda construction: _addresses_at, ADDRESS(ADDRESS), keep=False)
    compute = c_function(_compute, numba.types.void(ADDRESS, ADDRESS))
    tensorflow_c.register_operation(NAME, INPUTS, "prepared: uint8", create, compute)


def _add_operation(*inputs: tf.Tensor) -> tf.Tensor:
    return tf.compat.v1.get_default_graph().create_op(NAME, list(inputs), [tf.uint8]).outputs[0]


_eagerly = tf.function(_add_operation, autograph=False, reduce_retracing=True)

# ---- What the operation does

_FUNCTIONS = {"refusal": None, "resize": resize, **KERNELS}
_NUMBERS = {name: number for number, name in enumerate(_FUNCTIONS)}
_REFUSAL, _RESIZE = _NUMBERS["refusal"], _NUMBERS["resize"]
_KERNEL_TYPES = (ADDRESS, ADDRESS, INT, INT, ADDRESS)
_num_functions, _num_inputs = len(_FUNCTIONS), len(INPUTS)

# Of the functions, by number; 0 until compiled. The operation reads them whenever it runs.
_ADDRESSES = np.zeros(_num_functions, np.uintp)
_addresses_at = _ADDRESSES.ctypes.data
_REFUSAL_TEXT = ctypes.create_string_buffer(
    b"an image is [height, width, 3] with pixels; steps are [steps] and [steps, 8], of kernels known in this process"
)
# Number 0 is no function's: KEEP.
_ADDRESSES[_REFUSAL] = ctypes.addressof(_REFUSAL_TEXT)


@intrinsic
def _call_kernel(
    typing_context: Any, kernel: Any, image: Any, out: Any, height: Any, width: Any, numbers: Any
) -> tuple[Any, Callable]:
    """The kernel at an address, with arguments of _KERNEL_TYPES."""

    def generate(context: Any, builder: Any, signature: Any, arguments: list) -> Any:
        function_type = ir.FunctionType(ir.VoidType(), [context.get_value_type(kind) for kind in _KERNEL_TYPES])
        builder.call(builder.inttoptr(arguments[0], function_type.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return numba.types.void(ADDRESS, *_KERNEL_TYPES), generate


@compiled
def _is_right(image, kernels, numbers, addresses):
    """Whether these tensors are what they should be; otherwise memory would be read that is somebody else's."""
    dimension, num_dimensions = tensorflow_c.dimension, tensorflow_c.num_dimensions
    if num_dimensions(image) != 3 or num_dimensions(kernels) != 1 or num_dimensions(numbers) != 2:
        return False
    for kernel in numba.carray(pointer(tensorflow_c.tensor_data(kernels)), (dimension(kernels, 0),), np.int32):
        if kernel < 0 or kernel >= _num_functions or addresses[kernel] == 0:
            return False
    has_pixels = dimension(image, 0) * dimension(image, 1) > 0 and dimension(image, 2) == 3
    return has_pixels and dimension(numbers, 0) == dimension(kernels, 0) and dimension(numbers, 1) == NUMBERS


@compiled
def _num_steps(kernels):
    count = 0
    for kernel in kernels:
        count += kernel != KEEP
    return count


@compiled
def _run(tensors, kernels, addresses, resizing, out, other):
    """tensors: handles of the inputs, in their order; resizing: numbers of that kernel; out, other: see below.

    What is only used by its address has to be an argument: of its own arrays, a function drops each after its last use.
    """
    image_at, numbers_at = tensorflow_c.tensor_data(tensors[0]), tensorflow_c.tensor_data(tensors[5])
    height, width, _ = out.shape
    places = (np.uintp(out.ctypes.data), np.uintp(other.ctypes.data))
    # From one image to the other and back, so that the last step ends in `out`.
    num_left = _num_steps(kernels)
    resized_at = places[num_left % 2]
    _call_kernel(addresses[_RESIZE], image_at, resized_at, height, width, np.uintp(resizing.ctypes.data))
    for step in range(kernels.size):
        if kernels[step] != KEEP:
            source_at, target_at = places[num_left % 2], places[(num_left - 1) % 2]
            step_numbers_at = numbers_at + np.uintp(8 * NUMBERS * step)
            _call_kernel(addresses[kernels[step]], source_at, target_at, height, width, step_numbers_at)
            num_left -= 1


@compiled
def _prepare(tensors, shape, output, addresses):
    """shape: of the output, int64 [3]; output: its handle."""
    data, dimension = tensorflow_c.tensor_data, tensorflow_c.dimension
    resizing = np.empty(4, np.float64)
    resizing[0], resizing[1] = dimension(tensors[0], 0), dimension(tensors[0], 1)
    resizing[2] = numba.carray(pointer(data(tensors[2])), (1,), np.float32)[0]
    resizing[3] = numba.carray(pointer(data(tensors[3])), (1,), np.uint8)[0]
    kernels = numba.carray(pointer(data(tensors[4])), (dimension(tensors[4], 0),), np.int32)
    out = numba.carray(pointer(data(output)), (shape[0], shape[1], shape[2]), np.uint8)
    other = np.empty(out.size if _num_steps(kernels) else 0, np.uint8)
    _run(tensors, kernels, addresses, resizing, out, other)


@compiled
def _inputs(call, tensors, status):
    """Fills in the handles."""
    for index in range(_num_inputs):
        tensorflow_c.get_input(call, index, np.uintp(tensors.ctypes.data) + np.uintp(8 * index), status)


@compiled
def _new_output(call, shape, status):
    num_bytes = np.uintp(shape[0] * shape[1] * shape[2])
    return tensorflow_c.allocate_output(call, 0, tensorflow_c.UINT8, np.uintp(shape.ctypes.data), 3, num_bytes, status)


def _compute(addresses_at, call):
    """A call of the operation, whose state is the address of _ADDRESSES."""
    addresses = numba.carray(pointer(addresses_at), (_num_functions,), np.uintp)
    status, tensors = tensorflow_c.new_status(), np.zeros(_num_inputs + 1, np.uintp)
    _inputs(call, tensors, status)
    if _is_right(tensors[0], tensors[4], tensors[5], addresses):
        size = numba.carray(pointer(tensorflow_c.tensor_data(tensors[1])), (2,), np.int32)
        shape = np.array([size[0], size[1], 3], np.int64)
        output = _new_output(call, shape, status)
        if tensorflow_c.status_code(status) == 0:
            tensors[_num_inputs] = output
            _prepare(tensors, shape, output, addresses)
    else:
        tensorflow_c.set_status(status, tensorflow_c.INVALID_ARGUMENT, addresses[_REFUSAL])
    if tensorflow_c.status_code(status) != 0:
        tensorflow_c.fail(call, status)
    for tensor in tensors:
        if tensor != 0:
            tensorflow_c.delete_tensor(tensor)
    tensorflow_c.delete_status(status)
