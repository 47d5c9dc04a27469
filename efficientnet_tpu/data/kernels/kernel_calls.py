"""Names and numbers of the kernels that images can go through, and the calls of them that one image gets."""

from dataclasses import dataclass

import tensorflow as tf

NUM_COEFFICIENTS = 6  # what an operation's argument becomes: at most the six of an affine transform
NUM_UNIFORMS = 2  # float32 in [0, 1): the center of Cutout as a share of height and width
NUM_PARAMETERS = NUM_COEFFICIENTS + NUM_UNIFORMS

INTERPOLATIONS = ("bicubic", "bilinear")  # in the order of their numbers
NO_OP = 0  # stands for no kernel; part of compiled code, which a change here does not renew
# In the order of their numbers, which begin with 1.
KERNEL_NAMES = (
    "levels",
    "blend",
    "pil_contrast",
    "autocontrast",
    "pil_autocontrast",
    "equalize",
    "color",
    "pil_color",
    "sharpness",
    "pil_sharpness",
    "transform",
    "pil_transform",
    "cutout",
)
KERNEL_NUMBERS = {name: number for number, name in enumerate(KERNEL_NAMES, start=NO_OP + 1)}


@dataclass(frozen=True)
class KernelCalls:
    """Kernels that one image goes through after it is resized, in this order.

    kernels: int32 [calls], values of KERNEL_NUMBERS, or NO_OP.
    parameters: float64 [calls, NUM_PARAMETERS], coefficients followed by uniforms.
    """

    kernels: tf.Tensor
    parameters: tf.Tensor
