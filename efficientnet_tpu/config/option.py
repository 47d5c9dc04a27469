"""An option of a section: its default, help and limits, and the check of a value against them."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

from efficientnet_tpu.errors import UserError, nearest


def option(default: Any, help: str, **limits: Any) -> Any:
    """A field of a section. Limits: minimum, above, maximum (numbers), choices (names), parts (names in a list)."""
    return dataclasses.field(default=default, metadata={"help": help, **limits})


_LIMITS = {
    "minimum": (lambda value, limit: value >= limit, "at least"),
    "above": (lambda value, limit: value > limit, "greater than"),
    "maximum": (lambda value, limit: value <= limit, "at most"),
    "below": (lambda value, limit: value < limit, "less than"),
}


def check_type(name: str, value: Any, kind: Any) -> None:
    """Raises UserError for a value of another type than `kind`. Integers pass as floats, nothing else.

    Flags come typed; a run record may have been edited by hand.
    """
    allowed = typing.get_args(kind) or (kind,)
    whole_for_real = isinstance(value, int) and not isinstance(value, bool) and float in allowed
    if not (type(value) in allowed or whole_for_real):
        raise UserError(f"--{name}={value}: must be {' or '.join(one.__name__ for one in allowed)}.")
    if isinstance(value, float) and math.isinf(value):
        raise UserError(f"--{name}={value}: must be a finite number.")


def check_limits(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    """Raises UserError for a value that the choices, parts or limits of the option exclude; None always passes."""
    if value is None:
        return
    choices = limits.get("choices")
    if choices and value not in choices:
        raise UserError(f"--{name}={value}: must be one of {', '.join(choices)}.{nearest(str(value), choices)}")
    parts = limits.get("parts", ())
    for part in value.split(",") if parts else ():
        if part not in parts:
            raise UserError(
                f"--{name}={value}: must be of {', '.join(parts)}, with commas between.{nearest(part, parts)}"
            )
    for kind, (holds, words) in _LIMITS.items():
        # `not holds`, so that nan is refused too.
        if kind in limits and not holds(value, limits[kind]):
            raise UserError(f"--{name}={value}: must be {words} {limits[kind]}.")
