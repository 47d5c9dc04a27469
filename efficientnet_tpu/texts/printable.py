"""One rule for texts that others wrote: names of files and classes, values of flags, what a file says.

Control characters, ends of lines, separators of lines and paragraphs, overrides of the direction of writing, halves of
surrogate pairs, byte order marks and noncharacters are printed as Python escapes them, wherever the text goes: a line
stays a line, a terminal is told nothing, and nothing looks like what it is not. Letters of any script are left as they
are.
"""

import html
import re

_UNPRINTABLE = (
    "\x00-\x1f\x7f-\x9f"  # control characters, escape, tab and the ends of lines among them
    "\u2028\u2029"  # separators of lines and paragraphs
    "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates of the direction of writing
    "\ud800-\udfff"  # halves of surrogate pairs: what JSON's \\ud800 leaves, and bytes that are not UTF-8
    "\ufeff\ufff9-\ufffb\ufffe\uffff"  # byte order mark, annotations, noncharacters
)
_ANYWHERE = re.compile(f"[{_UNPRINTABLE}]")
_BESIDE_LINES = re.compile(f"(?![\n\t])[{_UNPRINTABLE}]")
_LONG = 200  # characters of a value in a message
_LONGEST_MESSAGE = 8000


def is_printable(text: str) -> bool:
    """Returns whether `escaped` leaves a text as it is."""
    return not _ANYWHERE.search(text)


def escaped(text: str) -> str:
    r"""Returns a text on one line, with \n for a line's end, \x1b for the escape character and so on."""
    return _ANYWHERE.sub(_escape, text)


def escaped_lines(text: str) -> str:
    """Returns a text of lines, in which tabs and the lines' ends are left."""
    return _BESIDE_LINES.sub(_escape, text)


def shown(text: object, most: int = _LONG) -> str:
    """Returns a value as a message may quote it: escaped, and of a long one the beginning and the length."""
    text = str(text)
    return escaped(text) if len(text) <= most else f"{escaped(text[:most])}... ({len(text):,} characters)"


def shortened(text: str, most: int = _LONGEST_MESSAGE) -> str:
    """Returns a text without its middle where it is too long for a message."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} ... ({len(text):,} characters) ... {text[-most // 2 :]}"


def html_text(text: str) -> str:
    """Returns a text for an element or an attribute of a page."""
    return html.escape(escaped(text))


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if "\udc80" <= character <= "\udcff":  # stands for a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
