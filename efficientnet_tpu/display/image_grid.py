"""PNG files for people: images of any size as tiles of one size, with words under them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from efficientnet_tpu.display.lettering import TEXT, TITLE, draw_text, shortened
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import explained_write_errors

INK, FAINT, FRAME = "#111111", "#666666", "#cccccc"
MARGIN = 12
_LINE = TEXT + 4


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
    draw_text(draw, (MARGIN, 4), shortened(title, space, TITLE), INK, TITLE)
    for number, line in enumerate(lines):
        draw_text(draw, (MARGIN, TITLE + 10 + number * _LINE), shortened(line, space), FAINT)
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


def _centered(draw: ImageDraw.ImageDraw, text: str, left: int, top: int, width: int, color: str) -> None:
    draw_text(draw, (left + width / 2, top), shortened(text, width), color, anchor="ma")
