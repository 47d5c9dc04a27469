"""What happens to an image after decoding: it is resized, mirrored and augmented.

`prepare_image_op` does it in one operation, compiled by numba.
"""

from collections.abc import Sequence

import tensorflow as tf

from efficientnet_tpu.data.kernels import prepare_image_op
from efficientnet_tpu.data.kernels.kernel_calls import KERNEL_NUMBERS, NUM_PARAMETERS, KernelCalls


def prepare_image(
    image: tf.Tensor,
    size: Sequence[int],
    mirrored: tf.Tensor | None = None,
    truncate: bool = False,
    calls: KernelCalls | None = None,
) -> tf.Tensor:
    """Resizes an image, exchanges left and right where `mirrored`, and runs the kernels.

    image: uint8 [height, width, 3]. InvalidArgumentError for an image without pixels.
    size: height and width of the result.
    mirrored: bool scalar.
    truncate: whether resizing truncates decimals, instead of rounding to the nearest level.

    Returns uint8 [*size, 3].
    """
    if calls is None:
        calls = KernelCalls(tf.zeros([0], tf.int32), tf.zeros([0, NUM_PARAMETERS], tf.float64))
    mirrored = tf.constant(False) if mirrored is None else mirrored
    return prepare_image_op.prepare_image(image, size, mirrored, truncate, calls)


def kernel_number(name: str) -> int:
    """Returns the number of a kernel, which is ready to be called from now on. KeyError for an unknown name."""
    prepare_image_op.load_kernel(name)
    return KERNEL_NUMBERS[name]
