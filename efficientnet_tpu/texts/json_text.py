"""JSON that people and other machines wrote, read so that whatever is wrong with it is a ValueError of one line."""

import json
import math
import re
from typing import Any

from efficientnet_tpu.texts.printable import shown

_LONGEST_INTEGER = 300  # digits; every number up to here is a float too
_HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def read_json(text: str) -> Any:
    """Returns the value of a JSON text.

    Raises ValueError for a text that is no JSON, and for what Python's reader takes or fails at otherwise: a key that
    is there twice, numbers that are none or beyond a float's range, halves of surrogate pairs, and deep nesting.
    """
    try:
        value = _DECODER.decode(text)
        if _HALF_OF_A_PAIR.search(text):  # as a rule a whole pair: a character of other planes
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error
    except UnicodeEncodeError as error:
        half = shown(error.object[error.start : error.start + 1])
        raise ValueError(f"holds half of a surrogate pair, {half}, which is no character") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"says {shown(name, 80)} twice")
        found[name] = value
    return found


def _real(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"has a number out of range, {shown(digits, 40)}")
    return number


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(f"has a number out of range, {shown(digits, 40)}")
    return int(digits)


def _constant(name: str) -> float:
    raise ValueError(f"has {name}, which is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_real, parse_int=_integer, parse_constant=_constant)
