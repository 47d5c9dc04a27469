"""Interprets the few pickle instructions that state dicts of PyTorch consist of, and executes nothing else.

A pickle is a program that may call any function. This interpreter knows dictionaries, lists, tuples, numbers, strings
and the names that its caller lists, which it replaces by the caller's functions. It refuses every other instruction and
name.
"""

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 4 << 20  # of a pickle: 250 kB describe the largest EfficientNet
_MOST_INSTRUCTIONS = 1_000_000  # some seconds; the largest EfficientNet with its optimizer has 200,000
_LARGEST_KEY, _MOST_ARGUMENTS = 2**31, 64


class PickleError(ValueError):
    """An error in a pickle: it is damaged, or asks for what a state dict does not need."""


@dataclass(frozen=True)
class Name:
    """A name of a function or class in a pickle, `module attribute`. Nothing is looked up by it."""

    text: str


_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(stream: io.BytesIO, calls: dict[str, Callable[..., Any]], persistent: Callable[[Any], Any]) -> Any:
    """Reads the pickle at the stream's position, and leaves the stream behind it.

    calls: by name, the replacement of a function, called with the pickled arguments.
    persistent: from a reference to something outside the pickle to the object it stands for.
    Raises PickleError.
    """
    machine = _Machine(calls, persistent)
    try:
        for number, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if instruction.name == "STOP":
                return machine.pop()
            if number == _MOST_INSTRUCTIONS:
                raise PickleError(f"the pickle has more than {_MOST_INSTRUCTIONS:,} instructions")
            machine.execute(instruction.name, argument)
    except PickleError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise PickleError(f"damaged pickle: {error}") from error
    raise PickleError("damaged pickle: no end")


class _Machine:
    """An interpreter with a stack and a memo.

    It never compares, prints or walks through values, because a few bytes can nest without bound.
    """

    def __init__(self, calls: dict[str, Callable[..., Any]], persistent: Callable[[Any], Any]):
        self._calls = calls
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        """Returns the value on top of the stack."""
        value = self._stack.pop()
        if value is _MARK:
            raise PickleError("damaged pickle: a mark where a value should be")
        return value

    def execute(self, name: str, argument: Any) -> None:
        """Executes one instruction."""
        if name in ("PROTO", "FRAME"):
            return
        value = self._value(name, argument)
        if value is not self:
            self._stack.append(value)
        elif name in _CHANGES:
            _CHANGES[name](self, argument)
        else:
            raise PickleError(f"the pickle instruction {name} has no place in a state dict; it is not executed")

    def _value(self, name: str, argument: Any) -> Any:
        """Returns the value that the instruction puts onto the stack, or the machine itself for other instructions."""
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in _LITERALS:
            return argument
        if name in _EMPTY:
            return _EMPTY[name]()
        if name in _TUPLES:
            return tuple(reversed([self.pop() for _ in range(_TUPLES[name])]))
        makers = {
            "TUPLE": lambda: tuple(self._since_mark()),
            "GLOBAL": lambda: self._name(argument),
            "REDUCE": self._call,
            "BINPERSID": lambda: self._persistent(self.pop()),
            "MARK": lambda: _MARK,
        }
        if name in makers:
            return makers[name]()
        return self._memo[argument] if name in ("BINGET", "LONG_BINGET") else self

    def _since_mark(self) -> list[Any]:
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _name(self, text: str) -> Name:
        if text not in self._calls:
            raise PickleError(f"the pickle names {text!r:.100}, which a state dict does not need; it is not called")
        return Name(text)

    def _call(self) -> Any:
        arguments, function = self.pop(), self.pop()
        if not (isinstance(function, Name) and isinstance(arguments, tuple)):
            raise PickleError("damaged pickle: a call of something that is no function")
        if len(arguments) > _MOST_ARGUMENTS:  # a tuple is copied by each call, and a few bytes are one
            raise PickleError("damaged pickle: a call with too many arguments")
        return self._calls[function.text](*arguments)

    def remember(self, number: int | None) -> None:
        """Stores the value on top of the stack in the memo."""
        value = self._stack[-1]
        if value is _MARK:
            raise PickleError("damaged pickle: a mark is remembered")
        self._memo[len(self._memo) if number is None else number] = value

    def set_items(self, pairs: list[Any]) -> None:
        """Stores keys and values, one after the other, in the dictionary on top of the stack."""
        target = self._stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise PickleError("damaged pickle: items of something that is no dictionary")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Anything else could take forever to hash. Of large numbers a file may choose those that collide: each is
            # compared with all before it then.
            if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < _LARGEST_KEY):
                raise PickleError("a dictionary's keys must be strings or small numbers")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        """Appends values to the list on top of the stack."""
        target = self._stack[-1]
        if not isinstance(target, list):
            raise PickleError("damaged pickle: items of something that is no list")
        target.extend(values)

    def set_item(self, _: Any) -> None:
        """Executes SETITEM."""
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def set_items_since_mark(self, _: Any) -> None:
        """Executes SETITEMS."""
        self.set_items(self._since_mark())

    def append_one(self, _: Any) -> None:
        """Executes APPEND."""
        self.append([self.pop()])

    def append_since_mark(self, _: Any) -> None:
        """Executes APPENDS."""
        self.append(self._since_mark())

    def forget_attributes(self, _: Any) -> None:
        """Executes BUILD, which sets attributes of an object: a state dict has some that nothing needs."""
        self.pop()
        if not isinstance(self._stack[-1], dict):
            raise PickleError("the pickle sets attributes of something else than a dictionary")


_CHANGES: dict[str, Callable[[_Machine, Any], None]] = {
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items_since_mark,
    "APPEND": _Machine.append_one,
    "APPENDS": _Machine.append_since_mark,
    "BUILD": _Machine.forget_attributes,
}
