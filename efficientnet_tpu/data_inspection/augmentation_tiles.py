"""Tiles that show augmentation on one image: every operation by itself, and what a policy makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.augment import autoaugment, image_ops, operations
from efficientnet_tpu.data.augment.autoaugment import Policy, find_policy
from efficientnet_tpu.data.augment.operations import MAX_LEVEL, OPERATIONS
from efficientnet_tpu.data.augment.policies import RANDAUGMENT_PIXELS, PolicyStep
from efficientnet_tpu.data.kernels.prepare_image import prepare_image
from efficientnet_tpu.display.image_grid import Tile

_CENTER = (0.5, 0.5)  # of Cutout's square in the pictures
_RANDAUGMENT_DRAWS = 16


@dataclass(frozen=True)
class Section:
    """A part of the picture. summary: a few words about its content."""

    title: str
    notes: Sequence[str]
    tiles: Sequence[Tile]
    summary: str
    headings: Sequence[str] = ()  # of the columns


def sections(config: DataConfig, image: np.ndarray) -> list[Section]:
    """Shows --augment on an image, and the operations that it does not use.

    image: uint8 [size, size, 3].
    """
    size = len(image)
    policy = find_policy(config, size)
    shown = shown_arguments(policy)
    semantics = config.augment_semantics
    others = [name for name in OPERATIONS if name not in shown]
    pixels = policy.pixels if policy else RANDAUGMENT_PIXELS
    found = []
    if policy:
        strengths = (
            f"At --randaug_magnitude={config.randaug_magnitude:g}; both signs where the sign is drawn."
            if config.augment == "randaugment"
            else "At the smallest and the largest argument that the policy has for each; both signs of the largest "
            "where the sign is drawn."
        )
        used = [(name, argument) for name in OPERATIONS for argument in shown.get(name, ())]
        found.append(
            Section(
                f"The operations of --augment={config.augment}, one at a time",
                [strengths],
                [Tile(image, ["unchanged"]), *(operation_tile(image, *operation, semantics) for operation in used)],
                f"{len(shown)} operations of --augment={config.augment}",
            )
        )
        found.append(_show_policy(config, policy, image))
    if others:
        tiles = [] if policy else [Tile(image, ["unchanged"])]
        for name in others:
            argument = operations.argument(name, MAX_LEVEL, *pixels)
            tiles += [operation_tile(image, name, value, semantics) for value in _signs(name, argument) or [argument]]
        unused = "Operations that it does not use" if policy else "The operations that --augment would use"
        found.append(
            Section(
                unused,
                [f"At level {MAX_LEVEL}, the nominal highest; both signs where the sign is drawn."],
                tiles,
                f"{len(others)} operations not in use",
            )
        )
    return found


def shown_arguments(policy: Policy | None) -> dict[str, list[float]]:
    """Returns the arguments to show for each operation that a policy ever applies.

    The smallest and the largest; where the sign is drawn, the largest with both signs.
    """
    found: dict[str, set[float]] = {}
    for step in policy.rows if policy else ():
        if step.probability > 0:
            found.setdefault(step.name, set()).add(operations.argument(step.name, step.level, *policy.pixels))
    return {name: _signs(name, max(values)) or sorted({min(values), max(values)}) for name, values in found.items()}


def operation_tile(image: np.ndarray, name: str, argument: float, semantics: str) -> Tile:
    """Applies one operation, with Cutout's square in the center, and captions the result.

    image: uint8 [size, size, 3].
    """
    words = describe_argument(name, argument)
    if OPERATIONS[name].pixels == "translate":
        words += f" of {len(image)}"
    return Tile(_apply(image, name, argument, semantics), [name, words])


def describe_argument(name: str, argument: float) -> str:
    """Returns '+24 degrees' with its sign, 'x 1.7', '2 bits', '+225 px'; an empty string if there is no argument."""
    if name == "Cutout":  # the argument is half the side
        return f"{2 * argument:g} x {2 * argument:g} px"
    caption = OPERATIONS[name].caption
    return (caption if argument else caption.replace("+", "")).format(argument)  # no sign before 0


def _show_policy(config: DataConfig, policy: Policy, image: np.ndarray) -> Section:
    if policy.rows_per_choice == 1:
        draw_calls = autoaugment.make_draw_calls(policy, len(image), config.augment_semantics)
        seeds = [tf.constant([config.randaug_num_layers, number]) for number in range(_RANDAUGMENT_DRAWS)]
        images = [prepare_image(tf.constant(image), image.shape[:2], calls=draw_calls(seed)) for seed in seeds]
        tiles = [Tile(drawn.numpy(), _describe_draws(policy, seed)) for drawn, seed in zip(images, seeds, strict=True)]
        return Section(
            f"--augment=randaugment: {policy.num_layers} of {len(policy.rows)} operations, drawn for each image",
            [f"{_RANDAUGMENT_DRAWS} draws, operations in the order in which they are applied."],
            tiles,
            f"{_RANDAUGMENT_DRAWS} draws of --augment=randaugment",
        )
    starts = range(0, len(policy.rows), policy.rows_per_choice)
    choices = [policy.rows[start : start + policy.rows_per_choice] for start in starts]
    return Section(
        f"The {len(choices)} sub-policies of --augment={config.augment}, of which an image gets one",
        ["Both operations applied, unless their probability, in brackets, is 0; where the sign is drawn, one of them."],
        [_sub_policy_tile(image, choice, policy, config.augment_semantics) for choice in choices],
        f"its {len(choices)} sub-policies",
    )


def _sub_policy_tile(image: np.ndarray, steps: Sequence[PolicyStep], policy: Policy, semantics: str) -> Tile:
    caption = []
    for step in steps:
        argument = operations.argument(step.name, step.level, *policy.pixels)
        words = f"{step.name} {describe_argument(step.name, argument)}".rstrip()
        caption.append(f"{words} ({step.probability:.0%})")
        if step.probability > 0:
            image = _apply(image, step.name, argument, semantics)
    return Tile(image, caption)


def _describe_draws(policy: Policy, seed: tf.Tensor) -> list[str]:
    """Returns a line for each operation that the policy applies with a seed, int32 [2]."""
    draws = autoaugment.draw(policy, seed)
    lines = []
    for row, applied, negative in zip(draws.rows.numpy(), draws.applied.numpy(), draws.negative.numpy(), strict=True):
        step = policy.rows[row]
        argument = operations.argument(step.name, step.level, *policy.pixels)
        sign = -1 if negative and OPERATIONS[step.name].is_signed else 1
        if applied:
            lines.append(f"{step.name} {describe_argument(step.name, sign * argument)}".rstrip())
    return lines


def _apply(image: np.ndarray, name: str, argument: float, semantics: str) -> np.ndarray:
    return image_ops.apply(name, tf.constant(image), argument, semantics, tf.constant(_CENTER)).numpy()


def _signs(name: str, argument: float) -> list[float]:
    """Returns the argument with both signs if its sign is drawn; else nothing."""
    return [argument, -argument] if OPERATIONS[name].is_signed and argument else []
