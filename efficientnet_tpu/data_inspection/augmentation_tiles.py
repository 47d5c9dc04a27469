"""Tiles that show augmentation on one image: every operation by itself, and what a policy makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.run import DataConfig
from efficientnet_tpu.data.augment import autoaugment, image_ops, policies
from efficientnet_tpu.data.augment.autoaugment import Policy, policy_of
from efficientnet_tpu.data.augment.policies import (
    MAX_LEVEL,
    RANDAUGMENT_OPERATIONS,
    RANDAUGMENT_PIXELS,
    SIGNED,
    Operation,
)
from efficientnet_tpu.data.kernels.prepare_image import prepare_image
from efficientnet_tpu.display.image_grid import Tile

_CENTRE = (0.5, 0.5)  # of Cutout's square, where it is shown
_RANDAUGMENT_DRAWS = 16
# How an operation's argument is written; what is missing here takes none.
_FORMS = {
    "Rotate": "{:+.3g}\N{DEGREE SIGN}",
    "Posterize": "{:g} bits",
    "Solarize": "from {:g}",
    "SolarizeAdd": "+{:g}",
    "Color": "x {:.2g}",
    "Contrast": "x {:.2g}",
    "Brightness": "x {:.2g}",
    "Sharpness": "x {:.2g}",
    "ShearX": "{:+.2g}",
    "ShearY": "{:+.2g}",
    "TranslateX": "{:+.3g} px",
    "TranslateY": "{:+.3g} px",
}


@dataclass(frozen=True)
class Section:
    """A part of the picture; `summary` says in a few words what it shows."""

    title: str
    notes: Sequence[str]
    tiles: Sequence[Tile]
    summary: str
    headings: Sequence[str] = ()  # of the columns


def sections(config: DataConfig, image: np.ndarray) -> list[Section]:
    """What --augment does to an image uint8 [size, size, 3]; for `none`, what the operations would do."""
    size = len(image)
    policy = policy_of(config, size)
    arguments = arguments_of(policy)
    semantics = config.augment_semantics
    used = [name for name in RANDAUGMENT_OPERATIONS if name in arguments]
    others = [name for name in RANDAUGMENT_OPERATIONS if name not in arguments]
    pixels = policy.pixels if policy else RANDAUGMENT_PIXELS
    found = []
    if policy:
        tiles = [Tile(image, ["unchanged"])]
        tiles += [operation_tile(image, name, value, semantics) for name in used for value in arguments[name]]
        found.append(
            Section(
                f"The operations of --augment={config.augment}, one at a time",
                [_strengths(config)],
                tiles,
                f"{len(used)} operations of --augment={config.augment}",
            )
        )
        found.append(_whole_policy(config, policy, image))
    if others:
        tiles = [] if policy else [Tile(image, ["unchanged"])]
        for name in others:
            tiles += [operation_tile(image, name, value, semantics) for value in _nominal(name, pixels)]
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


def arguments_of(policy: Policy | None) -> dict[str, list[float]]:
    """Of each operation that a policy ever applies the arguments to show: the weakest and the strongest, which is to
    say smallest and largest; where the sign is drawn, the largest with both signs.
    """
    found: dict[str, set[float]] = {}
    for operation in policy.rows if policy else ():
        if operation.probability > 0:
            found.setdefault(operation.name, set()).add(_argument(operation, policy.pixels))
    return {name: _signed(name, max(values)) or sorted({min(values), max(values)}) for name, values in found.items()}


def operation_tile(image: np.ndarray, name: str, argument: float, semantics: str) -> Tile:
    """One operation, with its name and argument as caption. Cutout's square is put in the centre."""
    words = describe_argument(name, argument)
    if name in ("TranslateX", "TranslateY"):
        words += f" of {len(image)}"
    return Tile(_apply(image, name, argument, semantics), [name, words])


def describe_argument(name: str, argument: float) -> str:
    """'+24 degrees' with its sign, 'x 1.7', '2 bits', '+225 px'; empty where an operation takes none."""
    if name == "Cutout":  # the argument is half the side
        return f"{2 * argument:g} x {2 * argument:g} px"
    form = _FORMS.get(name, "") if argument else _FORMS.get(name, "").replace("+", "")  # no sign before 0
    return form.format(argument)


def _strengths(config: DataConfig) -> str:
    if config.augment == "randaugment":
        return f"At --randaug_magnitude={config.randaug_magnitude:g}; both signs where the sign is drawn."
    return (
        "At the smallest and the largest argument that the policy has for each; both signs of the largest where the "
        "sign is drawn."
    )


def _whole_policy(config: DataConfig, policy: Policy, image: np.ndarray) -> Section:
    if policy.rows_per_choice == 1:
        draw_calls = autoaugment.make_draw_calls(policy, len(image), config.augment_semantics)
        seeds = [tf.constant([config.randaug_num_layers, number]) for number in range(_RANDAUGMENT_DRAWS)]
        images = [prepare_image(tf.constant(image), image.shape[:2], calls=draw_calls(seed)) for seed in seeds]
        tiles = [Tile(drawn.numpy(), _drawn(policy, seed)) for drawn, seed in zip(images, seeds, strict=True)]
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


def _sub_policy_tile(image: np.ndarray, operations: Sequence[Operation], policy: Policy, semantics: str) -> Tile:
    caption = []
    for operation in operations:
        argument = _argument(operation, policy.pixels)
        words = f"{operation.name} {describe_argument(operation.name, argument)}".rstrip()
        caption.append(f"{words} ({operation.probability:.0%})")
        if operation.probability > 0:
            image = _apply(image, operation.name, argument, semantics)
    return Tile(image, caption)


def _drawn(policy: Policy, seed: tf.Tensor) -> list[str]:
    """The operations that the policy applies with a seed, a line each."""
    draws = autoaugment.draw(policy, seed)
    lines = []
    for row, applied, negative in zip(draws.rows.numpy(), draws.applied.numpy(), draws.negative.numpy(), strict=True):
        operation = policy.rows[row]
        argument = _argument(operation, policy.pixels) * (-1 if negative and operation.name in SIGNED else 1)
        if applied:
            lines.append(f"{operation.name} {describe_argument(operation.name, argument)}".rstrip())
    return lines


def _apply(image: np.ndarray, name: str, argument: float, semantics: str) -> np.ndarray:
    return image_ops.apply(name, tf.constant(image), argument, semantics, tf.constant(_CENTRE)).numpy()


def _argument(operation: Operation, pixels: tuple[float, float]) -> float:
    return policies.argument(operation.name, operation.level, *pixels)


def _nominal(name: str, pixels: tuple[float, float]) -> list[float]:
    argument = policies.argument(name, MAX_LEVEL, *pixels)
    return _signed(name, argument) or [argument]


def _signed(name: str, argument: float) -> list[float]:
    """The argument with both signs, where they are drawn; else nothing."""
    return [argument, -argument] if name in SIGNED and argument else []
