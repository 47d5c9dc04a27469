"""AutoAugment and RandAugment: which operations an image gets.

A policy is a table with a row for each operation that it may apply. An image's draws choose rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.augment import image_ops, operations
from efficientnet_tpu.data.augment.operations import OPERATIONS
from efficientnet_tpu.data.augment.policies import (
    AUTOAUGMENT_FLAGS,
    POLICIES,
    RANDAUGMENT_OPERATIONS,
    RANDAUGMENT_PIXELS,
    PolicyStep,
    autoaugment_pixels,
)
from efficientnet_tpu.data.kernels.kernel_calls import NO_OP, KernelCalls

# From an image's seed, int32 [2].
DrawCalls = Callable[[tf.Tensor], KernelCalls]

_UNIFORMS = 4  # of a layer: whether to apply, sign, center of Cutout


@dataclass(frozen=True)
class Policy:
    """Rows of operations. One draw chooses rows_per_choice consecutive rows."""

    rows: tuple[PolicyStep, ...]
    num_layers: int  # operations that an image gets
    rows_per_choice: int  # AutoAugment: 2, a sub-policy; RandAugment: 1, drawn for each layer
    pixels: tuple[float, float]  # Translate's and Cutout's at the highest level


@dataclass(frozen=True)
class Draws:
    """The draws of one image, layer by layer.

    rows: int32 [num_layers], rows of the policy.
    applied: bool [num_layers], whether the operation is applied.
    negative: bool [num_layers], whether its argument is negated, if it has a sign.
    centers: float32 [num_layers, 2] in [0, 1), the center of Cutout as a share of height and width.
    """

    rows: tf.Tensor
    applied: tf.Tensor
    negative: tf.Tensor
    centers: tf.Tensor


def find_policy(config: DataConfig, size: int) -> Policy | None:
    """Returns the policy that --augment names, for images of `size` x `size` pixels. None for `none`."""
    if config.augment == "none":
        return None
    if config.augment == "randaugment":
        # The reference draws a probability for each operation and does not use it: all are applied.
        rows = tuple(PolicyStep(name, 1.0, config.randaug_magnitude) for name in RANDAUGMENT_OPERATIONS)
        return Policy(rows, config.randaug_num_layers, 1, RANDAUGMENT_PIXELS)
    name = AUTOAUGMENT_FLAGS[config.augment]
    rows = tuple(step for sub_policy in POLICIES[name] for step in sub_policy)
    return Policy(rows, 2, 2, autoaugment_pixels(name, size))


def draw(policy: Policy, seed: tf.Tensor) -> Draws:
    """Draws for one image. seed: int32 [2]."""
    num_choices = 1 if policy.rows_per_choice > 1 else policy.num_layers
    uniforms = tf.random.stateless_uniform([num_choices + _UNIFORMS * policy.num_layers], seed)
    choices = tf.cast(uniforms[:num_choices] * (len(policy.rows) // policy.rows_per_choice), tf.int32)
    rows = choices
    if policy.rows_per_choice > 1:
        rows = choices * policy.rows_per_choice + tf.range(policy.num_layers)
    layers = tf.reshape(uniforms[num_choices:], [policy.num_layers, _UNIFORMS])
    probabilities = tf.constant([step.probability for step in policy.rows])
    # The reference writes it floor(u + p) == 1.
    applied = layers[:, 0] + tf.gather(probabilities, rows) >= 1
    return Draws(rows, applied, layers[:, 1] < 0.5, layers[:, 2:])


def make_draw_calls(policy: Policy, size: int, semantics: str) -> DrawCalls:
    """Returns the function that draws the kernel calls of an image of `size` x `size` pixels from its seed.

    semantics: one of config.data.AUGMENT_SEMANTICS.
    """
    kernels, coefficients = [], []
    for step in policy.rows:
        argument = operations.argument(step.name, step.level, *policy.pixels)
        # Two entries for each row: with the argument and with its negative.
        for signed in (argument, -argument if OPERATIONS[step.name].is_signed else argument):
            kernel, row = image_ops.make_call(step.name, signed, semantics, size, size)
            coefficients.append(row)
        kernels.append(kernel)
    kernel_table, coefficient_table = tf.constant(kernels), tf.stack(coefficients)

    def draw_calls(seed: tf.Tensor) -> KernelCalls:
        draws = draw(policy, seed)
        drawn_kernels = tf.where(draws.applied, tf.gather(kernel_table, draws.rows), NO_OP)
        drawn_coefficients = tf.gather(coefficient_table, 2 * draws.rows + tf.cast(draws.negative, tf.int32))
        return KernelCalls(drawn_kernels, tf.concat([drawn_coefficients, tf.cast(draws.centers, tf.float64)], axis=1))

    return draw_calls
