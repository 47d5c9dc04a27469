"""One option of the program: its default, help, limits and every other fact about it, and the check of a value."""

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from efficientnet_tpu.config.data_paths import archives_in
from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.secrets import masked

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # Python has surrogates for bytes of a command line that are not UTF-8
_END_OF_INTEGERS = 1 << 63  # TensorFlow's, and NumPy's


@dataclass(frozen=True)
class Option:
    """The facts of one option.

    choices: the values it takes. parts: the names that a list with commas may hold. minimum, above, maximum, below:
    limits of a number.
    parse: reads a text, and raises ValueError, which says what it must be, for one that means nothing.
    none_word: what a user types for None, which leaves the value to the program.
    path: a file or directory, in which `~` is the home directory; "list": several, with commas between; "archives":
    one, or several archives.
    alias: another name of the flag, or its name in earlier versions.
    may_change: when a value other than the stored run's is accepted. "always"; "after training": not when the run
    continues, but when its weights are used; "never": the weights belong to the value.
    before: alone in a tuple, the value of runs whose run.json lacks the option, because an earlier version wrote it,
    where that is not the default.
    per_host: the hosts of one run may have different values.
    changes_step: the compiled training step has other operations, so that the planner has to know. Another constant in
    the same operations is no such change, and neither are the few scalars of the learning-rate schedule.
    scaled: compound scaling computes it.
    secret: the value may hold a password: env:NAME stands for it, and for the environment variable's content, which
    `texts.secrets.revealed` gives where it is used.
    commands: the commands that take it besides those that take its whole section.
    name, section, kinds: the flag, the section and the types of a value; `config.OPTIONS` fills them in.
    """

    default: Any
    help: str
    choices: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    parse: Callable[[str], Any] | None = None
    none_word: str = ""
    path: bool | Literal["list", "archives"] = False
    alias: str = ""
    may_change: Literal["always", "after training", "never"] = "always"
    before: tuple[Any, ...] = ()
    per_host: bool = False
    changes_step: bool = False
    scaled: bool = False
    secret: bool = False
    commands: tuple[str, ...] = ()
    name: str = ""
    section: str = ""
    kinds: tuple[type, ...] = ()

    def paths(self, value: Any) -> list[str]:
        """Returns the paths that a value names, none for an option of another kind."""
        if not self.path or not value:
            return []
        archives = archives_in(value) if self.path == "archives" else []
        return archives or (value.split(",") if self.path == "list" else [value])

    def check(self, value: Any) -> None:
        """Raises UserError for a value of another type, or one that the choices, parts or limits exclude.

        None passes where the option may be left to the model. Integers pass as floats.
        """
        # Flags come typed; a run record may have been edited by hand.
        whole_for_real = isinstance(value, int) and not isinstance(value, bool) and float in self.kinds
        if not (type(value) in self.kinds or whole_for_real):
            raise self._wrong(value, f"must be {' or '.join(kind.__name__ for kind in self.kinds)}.")
        if isinstance(value, float) and math.isinf(value):
            raise self._wrong(value, "must be a finite number.")
        if isinstance(value, int) and abs(value) >= _END_OF_INTEGERS:
            raise self._wrong(value, f"must be below {_END_OF_INTEGERS:,}.")
        if isinstance(value, str) and _NO_TEXT.search(value):
            raise self._wrong(value, "must be UTF-8, without the sign \\x00. Rename what it names.")
        if value is not None:
            self._check_limits(value)
        if isinstance(value, float) and math.isnan(value):
            raise self._wrong(value, "must be a number.")

    def _wrong(self, value: Any, what: str) -> UserError:
        return UserError(f"--{self.name}={shown(masked(str(value)))}: {what}")

    def _check_limits(self, value: Any) -> None:
        if self.choices and value not in self.choices:
            raise self._wrong(value, f"must be one of {', '.join(self.choices)}.{nearest(str(value), self.choices)}")
        for part in value.split(",") if self.parts else ():
            if part not in self.parts:
                raise self._wrong(
                    value, f"must be of {', '.join(self.parts)}, with commas between.{nearest(part, self.parts)}"
                )
        if self.parse:
            try:
                self.parse(value)
            except ValueError as error:
                raise self._wrong(value, f"must be {error}") from error
        for kind, (holds, words) in LIMITS.items():
            limit = getattr(self, kind)
            # `not holds`, so that nan is refused too.
            if limit is not None and not holds(value, limit):
                raise self._wrong(value, f"must be {words} {limit}.")


LIMITS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "minimum": (lambda value, limit: value >= limit, "at least"),
    "above": (lambda value, limit: value > limit, "greater than"),
    "maximum": (lambda value, limit: value <= limit, "at most"),
    "below": (lambda value, limit: value < limit, "less than"),
}


def option(default: Any, help: str, **facts: Any) -> Any:
    """Returns a field of a section. `facts` are the further fields of Option."""
    return dataclasses.field(default=default, metadata={"option": Option(default, help, **facts)})
