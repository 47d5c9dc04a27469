"""Words in pictures, in any script that a font on this machine has: Pillow's own font first, then installed ones.

Pillow's own font is much the same as ASCII. A letter that no font has loses its accent, or is written as Python escapes
it; names of classes that would be left with escapes are replaced by numbers, which `legend` explains.
"""

import functools
import importlib.util
import itertools
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import ImageDraw, ImageFont

TEXT, TITLE = 13, 19  # sizes of letters in pixels
ELLIPSIS = "..."
_CERTAINLY_LACKING = "\uffff"  # no character at all
# Where systems keep fonts.
_FOLDERS = (
    "~/.fonts", "~/.local/share/fonts", "/usr/local/share/fonts", "/usr/share/fonts",
    "~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
# Parts of the names of fonts that have many scripts and are upright: these are tried first, in this order.
_PREFERRED = (
    "dejavusans.",
    "notosanscjk-regular",
    "notosans-regular",
    "arialunicode",
    "wqy",
    "ipag",
    "droidsansfallback",
)
_MOST_FONTS = 300
_PLACEHOLDERS = ("lastresort", "adobeblank")  # fonts that have a box, or nothing, for every letter
_LISTED_NAMES = 40


def is_drawable(text: str) -> bool:
    """Returns whether every letter can be drawn, if need be without its accent."""
    return all(_drawn(letter) is not None for letter in _composed(text))


def drawable(text: str) -> str:
    """Returns the text in letters that can be drawn: without accents that no font has, other letters escaped."""
    drawn = ((letter, _drawn(letter)) for letter in _composed(text))
    return "".join(_escaped(letter) if found is None else found for letter, found in drawn)


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
        f"{', '.join(numbered[:_LISTED_NAMES])}{more}. Install a font that has them, for example Noto Sans CJK."
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
    """Draws a text that can be drawn. anchor: Pillow's, l, m or r and a or m, of the own font."""
    runs = list(_runs(text))
    if all(index == 0 for index, _ in runs):
        draw.text(place, text, color, _font(0, size), anchor=anchor)
        return
    left, top = place
    left -= {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * text_width(text, size)
    ascent, descent = _font(0, size).getmetrics()
    baseline = top + (ascent if anchor[1] == "a" else (ascent - descent) / 2)
    for index, run in runs:
        draw.text((left, baseline), run, color, _font(index, size), anchor="ls")
        left += _font(index, size).getlength(run)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _runs(text: str) -> Iterator[tuple[int, str]]:
    """Yields pieces of the text with the numbers of the fonts that have them."""
    numbered = [(_font_of(letter) or 0, letter) for letter in text]
    for index, letters in itertools.groupby(numbered, key=lambda pair: pair[0]):
        yield index, "".join(letter for _, letter in letters)


@functools.cache
def _drawn(letter: str) -> str | None:
    """Returns the letter, what is left of it without accents, or None if neither can be drawn."""
    if _font_of(letter) is not None:
        return letter
    parts = unicodedata.normalize("NFKD", letter)
    plain = "".join(part for part in parts if not unicodedata.combining(part))
    return plain if all(_font_of(part) is not None for part in plain) else None


def _escaped(letter: str) -> str:
    return repr(letter)[1:-1] if not letter.isprintable() else letter.encode("ascii", "backslashreplace").decode()


@functools.cache
def _font_of(letter: str) -> int | None:
    """Returns the number of the first font that has a letter; None if none has."""
    if not letter.isprintable():
        return None
    return next((index for index in range(1 + len(_font_files())) if _has(index, letter)), None)


def _has(index: int, letter: str) -> bool:
    """A font draws one and the same sign for all letters it lacks."""
    try:
        font = _font(index, TEXT)
        return letter == " " or bytes(font.getmask(letter)) != bytes(font.getmask(_CERTAINLY_LACKING))
    except OSError:  # not of this size, or damaged
        return False


@functools.cache
def _font(index: int, size: int) -> ImageFont.FreeTypeFont:
    """Loads a font with letters of `size` pixels: 0, the one that comes with Pillow, or one of _font_files. OSError."""
    return ImageFont.load_default(size) if index == 0 else ImageFont.truetype(_font_files()[index - 1], size)


@functools.cache
def _font_files() -> tuple[str, ...]:
    """Lists font files of this machine, and the one with most scripts that matplotlib brings along, if it is there."""
    found = [
        os.path.join(folder, name)
        for top in map(os.path.expanduser, _FOLDERS)
        for folder, _, names in os.walk(top)
        for name in names
        if name.lower().endswith((".ttf", ".otf", ".ttc")) and not name.lower().startswith(_PLACEHOLDERS)
    ]
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib and matplotlib.origin:  # its other fonts have symbols in the places of letters
        found.append(str(Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"))
    return tuple(sorted(found, key=_preference)[:_MOST_FONTS])


def _preference(path: str) -> tuple[int, int, str]:
    name = os.path.basename(path).lower()
    rank = next((rank for rank, part in enumerate(_PREFERRED) if name.startswith(part)), len(_PREFERRED))
    return rank, any(style in name for style in ("bold", "italic", "oblique", "light", "thin", "mono")), path
