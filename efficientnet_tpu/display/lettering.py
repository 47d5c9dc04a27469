"""Words in pictures, in any script that a font has: matplotlib's DejaVu Sans, the one in `fonts/`, installed ones.

DejaVu Sans has Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian and Georgian letters, the font of this package Chinese,
Japanese and Korean ones. A name with a letter that no font here has is replaced by the number of its class, which
`legend` explains; other texts have that letter as Python escapes it.
"""

import functools
import importlib.util
import itertools
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import ImageDraw, ImageFont, features

TEXT, TITLE = 12, 18  # sizes of letters in pixels
ELLIPSIS = "..."
_CERTAINLY_LACKING = "\uffff"  # no character at all
# Where systems keep fonts.
_FOLDERS = (
    "~/.fonts", "~/.local/share/fonts", "/usr/local/share/fonts", "/usr/share/fonts",
    "~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
# Beginnings of the names of fonts that have many scripts: of the installed ones these are tried first, in this order.
_PREFERRED = ("notosans-regular", "notosanscjk-regular", "arialunicode", "notosans")
_STYLES = ("bold", "italic", "oblique", "light", "thin", "mono", "condensed", "medium", "black", "serif")
_MOST_FONTS = 300
_PLACEHOLDERS = ("lastresort", "adobeblank")  # fonts that have a box, or nothing, for every letter
_LISTED_NAMES = 40


def is_drawable(text: str) -> bool:
    """Returns whether every letter can be drawn."""
    return all(_font_of(letter) is not None for letter in _composed(text))


def drawable(text: str) -> str:
    """Returns the text in letters that can be drawn, the others escaped."""
    return "".join(letter if _font_of(letter) is not None else _escaped(letter) for letter in _composed(text))


def fonts_of(text: str) -> list[str]:
    """Returns the files of the fonts, in order, that have the letters of a text that can be drawn; the first always."""
    return [_font_files()[index] for index in sorted({0, *(index for index, _ in _runs(text))})]


def own_font() -> str:
    """Returns the font file that comes with this package."""
    return str(Path(__file__).parent / "fonts" / "DroidSansFallback.ttf")


def class_captions(label_names: Sequence[str]) -> list[str]:
    """Returns what stands for each class in a picture: its name, or 'class 3' where that cannot be drawn."""
    return [drawable(name) if is_drawable(name) else f"class {number}" for number, name in enumerate(label_names)]


def legend(label_names: Sequence[str]) -> str:
    """Returns a line that names the classes which `class_captions` numbers; empty if it numbers none."""
    numbered = [f"class {number}: {name}" for number, name in enumerate(label_names) if not is_drawable(name)]
    if not numbered:
        return ""
    more = f", and {len(numbered) - _LISTED_NAMES:,} more" if len(numbered) > _LISTED_NAMES else ""
    return (
        f"in pictures, numbers stand for names that no font here has the letters of: "
        f"{', '.join(numbered[:_LISTED_NAMES])}{more}. Install a font that has them, as Noto Sans of that script"
        + ("." if _orders_letters() else ", and libfribidi for Arabic and Hebrew.")
    )


def shortened(text: str, width: float, size: int = TEXT) -> str:
    """Returns what can be drawn of a text in `width` pixels, with '...' in place of an end that does not fit."""
    text = drawable(text)
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + ELLIPSIS, size) > width:
        text = text[:-1]
    return text.rstrip() + ELLIPSIS


def text_width(text: str, size: int = TEXT) -> float:
    """Returns the width of a text that can be drawn, in pixels."""
    return sum(_font(index, size).getlength(run) for index, run in _runs(text))


def draw_text(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, color: str, size: int = TEXT, anchor: str = "la"
) -> None:
    """Draws a text that can be drawn. anchor: Pillow's, l, m or r and a or m, of the first font."""
    left, top = place
    left -= {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * text_width(text, size)
    ascent, descent = _font(0, size).getmetrics()
    baseline = top + (ascent if anchor[1] == "a" else (ascent - descent) / 2)
    for index, run in _runs(text):
        draw.text((left, baseline), run, color, _font(index, size), anchor="ls")
        left += _font(index, size).getlength(run)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _runs(text: str) -> Iterator[tuple[int, str]]:
    """Yields pieces of the text with the numbers of the fonts that have them."""
    numbered: list[tuple[int, str]] = []
    for letter in text:
        before = numbered[-1][0] if numbered else 0
        # A space between two words of one font is part of the run, in which words may stand from right to left.
        index = before if not letter.isalnum() and _has(before, letter) else _font_of(letter) or 0
        numbered.append((index, letter))
    for index, letters in itertools.groupby(numbered, key=lambda pair: pair[0]):
        yield index, "".join(letter for _, letter in letters)


def _escaped(letter: str) -> str:
    return repr(letter)[1:-1] if not letter.isprintable() else letter.encode("ascii", "backslashreplace").decode()


@functools.cache
def _font_of(letter: str) -> int | None:
    """Returns the number of the first font that has a letter; None if none has, or its place cannot be found."""
    if not letter.isprintable():
        return None
    if unicodedata.bidirectional(letter) in ("R", "AL", "AN") and not _orders_letters():
        return None
    return next((index for index in range(len(_font_files())) if _has(index, letter)), None)


@functools.cache
def _orders_letters() -> bool:
    """Returns whether Pillow writes from right to left and joins letters, for which it looks for a library."""
    return bool(features.check("raqm") and features.check("fribidi"))


@functools.cache
def _has(index: int, letter: str) -> bool:
    """A font draws one and the same sign for all letters it lacks."""
    try:
        own, lacking = (_font(index, TEXT).getmask(one) for one in (letter, _CERTAINLY_LACKING))
        return letter == " " or _levels(own) != _levels(lacking)
    except OSError:  # not of this size, or damaged
        return False


def _levels(mask: Any) -> bytes:
    """Returns the gray levels of Pillow's picture of a letter, a level for each pixel."""
    return bytes(mask)


@functools.cache
def _font(index: int, size: int) -> ImageFont.FreeTypeFont:
    """Loads one of _font_files with letters of `size` pixels. OSError."""
    return ImageFont.truetype(_font_files()[index], size)


@functools.cache
def _font_files() -> tuple[str, ...]:
    """Lists the font in matplotlib, which is not imported for it, that of this package, and those of this machine."""
    matplotlib = importlib.util.find_spec("matplotlib")
    if not matplotlib or not matplotlib.origin:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    # Of matplotlib's other fonts some have symbols in the places of letters.
    dejavu = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return str(dejavu), own_font(), *_installed_fonts()


def _installed_fonts() -> list[str]:
    """Lists font files of this machine, plain ones of many scripts first."""
    found = [
        os.path.join(folder, name)
        for top in map(os.path.expanduser, _FOLDERS)
        for folder, _, names in os.walk(top)
        for name in names
        if name.lower().endswith((".ttf", ".otf", ".ttc")) and not name.lower().startswith(_PLACEHOLDERS)
    ]
    return sorted(found, key=_preference)[:_MOST_FONTS]


def _preference(path: str) -> tuple[bool, int, str]:
    name = os.path.basename(path).lower()
    rank = next((rank for rank, part in enumerate(_PREFERRED) if name.startswith(part)), len(_PREFERRED))
    return any(style in name for style in _STYLES), rank, path
