"""AutoAugment and RandAugment: which operations an image gets.

A policy is a table with a row for each operation it may apply. An image's draws choose rows, and a row says all that
the operation needs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config.run import DataConfig
from efficientnet_tpu.data.augment import image_ops, policies
from efficientnet_tpu.data.augment.policies import (
    AUTOAUGMENT_FLAGS,
    POLICIES,
    RANDAUGMENT_OPERATIONS,
    RANDAUGMENT_PIXELS,
    SIGNED,
    Operation,
    autoaugment_pixels,
)
from efficientnet_tpu.data.kernels.kernel_calls import NO_OP, KernelCalls

# Of an image's seed int32 [2].
DrawCalls = Callable[[tf.Tensor], KernelCalls]

_UNIFORMS = 4  # of a layer: whether to apply, sign, centre of Cutout


@dataclass(frozen=True)
class Policy:
    """Rows of operations; a choice is as many consecutive rows as there are layers, or each layer's row anew."""

    rows: tuple[Operation, ...]
    num_layers: int
    rows_per_choice: int  # AutoAugment: 2, a sub-policy; RandAugment: 1
    pixels: tuple[float, float]  # what Translate and Cutout do at the highest level


@dataclass(frozen=True)
class Draws:
    """What is done to one image, layer by layer: row of the policy int32, whether applied bool, whether its sign is
    turned bool [num_layers]; centre of Cutout float32 [num_layers, 2], as a share of height and width.
    """

    rows: tf.Tensor
    applied: tf.Tensor
    negative: tf.Tensor
    centres: tf.Tensor


def policy_of(config: DataConfig, size: int) -> Policy | None:
    """The policy that --augment names, for images of `size` x `size` pixels; None for none."""
    if config.augment == "none":
        return None
    if config.augment == "randaugment":
        # The reference draws a probability for each operation and does not use it: all are applied.
        rows = tuple(Operation(name, 1.0, config.randaug_magnitude) for name in RANDAUGMENT_OPERATIONS)
        return Policy(rows, config.randaug_num_layers, 1, RANDAUGMENT_PIXELS)
    name = AUTOAUGMENT_FLAGS[config.augment]
    rows = tuple(operation for sub_policy in POLICIES[name] for operation in sub_policy)
    return Policy(rows, 2, 2, autoaugment_pixels(name, size))


def draw(policy: Policy, seed: tf.Tensor) -> Draws:
    """The draws of one image. seed: int32 [2]."""
    num_choices = 1 if policy.rows_per_choice > 1 else policy.num_layers
    uniforms = tf.random.stateless_uniform([num_choices + _UNIFORMS * policy.num_layers], seed)
    choices = tf.cast(uniforms[:num_choices] * (len(policy.rows) // policy.rows_per_choice), tf.int32)
    rows = choices
    if policy.rows_per_choice > 1:
        rows = choices * policy.rows_per_choice + tf.range(policy.num_layers)
    layers = tf.reshape(uniforms[num_choices:], [policy.num_layers, _UNIFORMS])
    probabilities = tf.constant([operation.probability for operation in policy.rows])
    # As the reference has it: floor(u + p) == 1.
    applied = layers[:, 0] + tf.gather(probabilities, rows) >= 1
    return Draws(rows, applied, layers[:, 1] < 0.5, layers[:, 2:])


def make_draw_calls(policy: Policy, size: int, semantics: str) -> DrawCalls:
    """What a policy does to images of `size` x `size` pixels. semantics: one of config.AUGMENT_SEMANTICS."""
    kernels_of_rows, parameters_of_rows = _tables(policy, size, semantics)

    def draw_calls(seed: tf.Tensor) -> KernelCalls:
        draws = draw(policy, seed)
        kernels = tf.where(draws.applied, tf.gather(kernels_of_rows, draws.rows), NO_OP)
        parameters = tf.gather(parameters_of_rows, 2 * draws.rows + tf.cast(draws.negative, tf.int32))
        return KernelCalls(kernels, tf.concat([parameters, tf.cast(draws.centres, tf.float64)], axis=1))

    return draw_calls


def _tables(policy: Policy, size: int, semantics: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Of each row of the policy: its kernel, int32 [rows]; its parameters as drawn and with the sign turned, float64
    [2 * rows, PARAMETERS].
    """
    kernels, parameters = [], []
    for operation in policy.rows:
        argument = policies.argument(operation.name, operation.level, *policy.pixels)
        for signed in (argument, -argument if operation.name in SIGNED else argument):
            kernel, numbers = image_ops.parameters(operation.name, signed, semantics, size, size)
            parameters.append(numbers)
        kernels.append(kernel)
    return tf.constant(kernels), tf.stack(parameters)
