"""YAML of mappings, lists, texts and numbers, as it is written for other programs. Every text keeps its exact content.

A text is written as JSON writes it, which is YAML too, and cannot be taken for a number, a key or a comment; one of
several lines is a literal block. Control characters, which YAML forbids, are for the caller to refuse.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from efficientnet_tpu.texts.printable import is_printable

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*([./][A-Za-z0-9_]+)*")
_WORDS_OF_YAML = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")


def yaml_text(content: Any) -> str:
    """Returns YAML for mappings with texts as keys, lists, texts, numbers, booleans and None."""
    return "".join(f"{line}\n" for line in _lines(content))


def _lines(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _headed(f"{_scalar(key)}:", value)
    elif isinstance(content, list) and content:
        for value in content:
            if isinstance(value, Mapping | list) and value:
                first, *rest = _lines(value)
                yield f"- {first}"
                yield from (f"  {line}" for line in rest)
            else:
                yield from _headed("-", value)
    else:
        yield _scalar(content)


def _headed(head: str, value: Any) -> Iterator[str]:
    """Yields the lines of a value behind its key or its dash."""
    if _is_block(value):
        yield f"{head} |"
        yield from (f"  {line}" if line else "" for line in value.removesuffix("\n").split("\n"))
    elif isinstance(value, Mapping | list) and value:
        yield head
        yield from (f"  {line}" for line in _lines(value))
    else:
        yield f"{head} {_scalar(value)}"


def _is_block(value: Any) -> bool:
    """Returns whether a text can be a literal block: printable lines, of which the first begins with no space."""
    if not isinstance(value, str) or not value.endswith("\n"):
        return False
    lines = value.removesuffix("\n").split("\n")
    return bool(lines[0] and lines[-1]) and not lines[0].startswith(" ") and all(map(is_printable, lines))


def _scalar(value: Any) -> str:
    """Returns a value on one line. A word that YAML takes for nothing else is left without quotes."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML:
        return value
    return json.dumps(value, ensure_ascii=False)
