"""Names of classes, and lists of them, one name a line, as runs and exports have them for programs of all kinds.

A label is a line's number there. A name that has a line's end in it, by any program's idea of one, would shift every
class behind it, and so would an empty one: such names are refused where they are read.
"""

from collections.abc import Iterable, Sequence

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts.printable import escaped, is_printable, shown


def require_printable(names: Iterable[str], named: str) -> None:
    """Raises UserError for a name with a control character, a line's end or another sign that cannot be printed, and
    for an empty one. named: how messages begin, with the flag or file that has the names.
    """
    for number, name in enumerate(names):
        if not name.strip():
            raise UserError(f"{named}: class {number} has no name{', but blanks' * bool(name)}. Give it one.")
        if not is_printable(name):
            raise UserError(
                f"{named}: the class {shown(name)} has a sign in its name that is no letter but a command, such as a "
                "line's end, which would shift the classes behind it in lists of one name a line. Rename it."
            )


def labels_text(names: Iterable[str]) -> str:
    """Returns names, one a line. Names of runs from before names were checked are escaped, a line each."""
    return "".join(f"{escaped(name)}\n" for name in names)


def read_labels(text: str, named: str) -> tuple[str, ...]:
    """Returns the names in such a list. named: as in `require_printable`, which refuses some."""
    names = text.removesuffix("\n").split("\n") if text else []
    require_printable(names, named)
    return tuple(names)


def are_names(names: object) -> bool:
    """Returns whether a value from a file is a list of names of classes, of runs from before names were checked too."""
    return isinstance(names, Sequence) and bool(names) and all(isinstance(name, str) for name in names)
