"""PNG files for people: images of any size as tiles of one size, with words under them.

Words are drawn in the font that comes with Pillow, which is much the same as ASCII: letters it lacks lose their accents
or become question marks.
"""

import functools
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import explained_write_errors

TEXT, TITLE = 13, 19  # sizes of letters in pixels
INK, FAINT, FRAME = "#111111", "#666666", "#cccccc"
MARGIN = 12
_LINE = TEXT + 4
_ELLIPSIS = "..."
_CERTAINLY_LACKING = "\uffff"  # no character at all


@dataclass(frozen=True)
class Tile:
    """An image uint8 [height, width, 3] and the lines under it."""

    pixels: np.ndarray
    caption: Sequence[str] = ()


def write_png(picture: Image.Image, path: str, flag: str = "picture") -> None:
    """Writes a PNG file, whole or not at all. flag: by which `path`, or its folder, was named, for the UserError."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    with explained_write_errors(f"--{flag}={path}"):
        write_atomically(path, buffer.getvalue())


def fitted(pixels: np.ndarray, side: int) -> Image.Image:
    """Scales an image, uint8 [height, width, 3], to `side` pixels on its longer side."""
    picture = Image.fromarray(pixels)
    scale = side / max(picture.size)
    # Small pictures keep their pixels visible, large ones are smoothed.
    method = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
    return picture.resize([max(1, round(length * scale)) for length in picture.size], method)


def grid(tiles: Sequence[Tile], columns: int, side: int, headings: Sequence[str] = ()) -> Image.Image:
    """Draws tiles in rows, centered, with their captions under them and `headings` over the columns."""
    pitch = side + MARGIN
    caption_height = _LINE * max((len(tile.caption) for tile in tiles), default=0) + MARGIN
    top = _LINE + 4 if headings else 0
    rows = -(-len(tiles) // columns)
    picture = Image.new("RGB", (columns * pitch + MARGIN, top + rows * (side + caption_height)), "white")
    draw = ImageDraw.Draw(picture)
    for column, heading in enumerate(headings):
        _centered(draw, heading, MARGIN + column * pitch, 0, side, FAINT)
    for index, tile in enumerate(tiles):
        left, upper = MARGIN + index % columns * pitch, top + index // columns * (side + caption_height)
        image = fitted(tile.pixels, side)
        corner = left + (side - image.width) // 2, upper + side - image.height
        picture.paste(image, corner)
        frame = (corner[0] - 1, corner[1] - 1, corner[0] + image.width, corner[1] + image.height)
        draw.rectangle(frame, outline=FRAME)  # seen where the image is white
        for number, line in enumerate(tile.caption):
            _centered(draw, line, left, upper + side + 3 + number * _LINE, side, INK)
    return picture


def text_lines(title: str, lines: Sequence[str], width: int) -> Image.Image:
    """Draws a title and lines under it. What does not fit into the width is cut off."""
    picture = Image.new("RGB", (width, TITLE + 14 + _LINE * len(lines)), "white")
    draw = ImageDraw.Draw(picture)
    space = width - 2 * MARGIN
    draw.text((MARGIN, 4), shortened(title, space, TITLE), INK, font(TITLE))
    for number, line in enumerate(lines):
        draw.text((MARGIN, TITLE + 10 + number * _LINE), shortened(line, space), FAINT, font(TEXT))
    return picture


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Draws pictures one under the other, on white."""
    width = max(picture.width for picture in pictures)
    whole = Image.new("RGB", (width, sum(picture.height for picture in pictures) + MARGIN), "white")
    top = MARGIN // 2
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole


def shortened(text: str, width: int, size: int = TEXT) -> str:
    """Returns what `font` can draw of a text in `width` pixels, with '...' in place of an end that does not fit."""
    text = drawable(text)
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + _ELLIPSIS) > width:
        text = text[:-1]
    return text.rstrip() + _ELLIPSIS


def drawable(text: str) -> str:
    """Returns the text in letters that `font` has: without accents that it lacks, with '?' for other letters."""
    return "".join(_drawable(letter) for letter in unicodedata.normalize("NFC", text))


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Loads the font that comes with Pillow, with letters of `size` pixels."""
    return ImageFont.load_default(size)


@functools.cache
def _drawable(letter: str) -> str:
    if _has(letter):
        return letter
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    return plain if plain and all(_has(part) for part in plain) else "?"


def _has(letter: str) -> bool:
    """A font draws one and the same sign for all letters it lacks."""
    if not letter.isprintable():
        return False
    return bytes(font(TEXT).getmask(letter)) != bytes(font(TEXT).getmask(_CERTAINLY_LACKING))


def _centered(draw: ImageDraw.ImageDraw, text: str, left: int, top: int, width: int, color: str) -> None:
    draw.text((left + width / 2, top), shortened(text, width), color, font(TEXT), anchor="ma")
