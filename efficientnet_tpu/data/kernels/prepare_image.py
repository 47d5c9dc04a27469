"""Preparation of an image after decoding: it is resized, mirrored and augmented.

`prepare_image_op` does it in one operation, compiled by numba; `tf_kernels` by TensorFlow's own operations, to the same
bits, where numba or TensorFlow's interface for C cannot be used.
"""

import functools
import threading
from collections.abc import Sequence
from types import ModuleType

import tensorflow as tf

from efficientnet_tpu.data.kernels import tf_kernels
from efficientnet_tpu.data.kernels.kernel_calls import KERNEL_NUMBERS, NUM_PARAMETERS, KernelCalls

_LOADING = threading.Lock()


def prepare_image(
    image: tf.Tensor,
    size: Sequence[int],
    mirrored: tf.Tensor | None = None,
    truncate: bool = False,
    calls: KernelCalls | None = None,
    interpolation: str = "bicubic",
) -> tf.Tensor:
    """Resizes an image, exchanges left and right where `mirrored`, and runs the kernels.

    image: uint8 [height, width, 3]. InvalidArgumentError for an image without pixels.
    size: height and width of the result.
    mirrored: bool scalar.
    truncate: whether resizing truncates decimals, instead of rounding to the nearest level.
    interpolation: one of INTERPOLATIONS.

    Returns uint8 [*size, 3].
    """
    if calls is None:
        calls = KernelCalls(tf.zeros([0], tf.int32), tf.zeros([0, NUM_PARAMETERS], tf.float64))
    mirrored = tf.constant(False) if mirrored is None else mirrored
    return (load_op() or tf_kernels).prepare_image(image, size, mirrored, truncate, calls, interpolation)


def kernel_number(name: str) -> int:
    """Returns the number of a kernel, which is ready to be called from now on. KeyError for an unknown name."""
    number = KERNEL_NUMBERS[name]
    if op := load_op():
        op.load_kernel(name)
    return number


def load_op() -> ModuleType | None:
    """Returns `prepare_image_op` with its operation registered. Where that fails, prints why and returns None."""
    # Threads build pipelines at the same time, and a second registration would end the process.
    with _LOADING:
        return _load_op_once()


@functools.cache
def _load_op_once() -> ModuleType | None:
    try:
        from efficientnet_tpu.data.kernels import prepare_image_op

        prepare_image_op.register()
    except Exception as error:  # noqa: BLE001 - no numba, no LLVM for this processor, another interface for C, ...
        reason = str(error).partition("\n")[0]
        print(
            f"numba cannot be used ({type(error).__name__}: {reason}): TensorFlow's own operations prepare the same "
            "images in about 3 times the CPU time",  # with decoding, at 224 x 224: 2.9 ms for 1.2, 5.1 for 1.7
            flush=True,
        )
        return None
    return prepare_image_op
