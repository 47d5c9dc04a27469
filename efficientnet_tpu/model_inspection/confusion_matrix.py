"""Draws a confusion matrix: with names and counts for few classes, as a heat map for many."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from efficientnet_tpu.display.image_grid import FAINT, INK, MARGIN
from efficientnet_tpu.display.lettering import TEXT, class_captions, draw_text, shortened, text_width

NAMED_CLASSES = 40  # more have no names beside their rows
SIDE = 900  # of the heat map in pixels, about; more classes than that are added up
_NAME_WIDTH = 170  # at most, in pixels
_DARK = np.array([8, 48, 107])


def draw_confusion(matrix: np.ndarray, label_names: Sequence[str]) -> Image.Image:
    """Draws the matrix of `confusion_matrix`: counts int64 [side, side] by class (row) and prediction (column).

    Color is the share of the row's images, on a square-root scale, so that rare confusions are seen.
    """
    side = len(matrix)
    named = side == len(label_names) and side <= NAMED_CLASSES
    cell = max(1, min(SIDE // side, 56))
    names = [shortened(name, _NAME_WIDTH) for name in class_captions(label_names)] if named else []
    widest = max(map(text_width, names), default=0)
    left = top = round(widest) + 2 * MARGIN + TEXT
    picture = Image.new("RGB", (left + side * cell + MARGIN, top + side * cell + MARGIN), "white")
    depth = np.sqrt(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))
    colors = np.uint8(255 + depth[..., np.newaxis] * (_DARK - 255))  # white to dark blue
    heat = Image.fromarray(colors).resize((side * cell, side * cell), Image.Resampling.NEAREST)
    picture.paste(heat, (left, top))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - 1, top - 1, left + side * cell, top + side * cell), outline=FAINT)
    middle = side * cell // 2
    draw_text(draw, (left + middle, 4), "predicted class", FAINT, anchor="ma")
    _upright(picture, "true class", (4, top + middle), "center", FAINT)
    if named:
        for number, name in enumerate(names):
            place = left + number * cell + cell // 2
            draw_text(draw, (left - 6, place), name, INK, anchor="rm")
            _upright(picture, name, (place - TEXT // 2 - 1, top - 6), "bottom", INK)
        _write_counts(draw, matrix, depth > 0.55, left, cell)
    return picture


def _write_counts(draw: ImageDraw.ImageDraw, matrix: np.ndarray, dark: np.ndarray, start: int, cell: int) -> None:
    """Writes the counts that are not 0 and have room, white on dark cells. dark: bool [side, side]."""
    for row, column in zip(*np.nonzero(matrix), strict=True):
        words = str(matrix[row, column])
        size = next((size for size in range(TEXT, 6, -1) if text_width(words, size) <= cell - 3), None)
        if size:
            center = (start + column * cell + cell / 2, start + row * cell + cell / 2)
            draw_text(draw, center, words, "white" if dark[row, column] else INK, size, anchor="mm")


def _upright(picture: Image.Image, words: str, place: tuple[int, int], anchor: str, color: str) -> None:
    """Draws text that reads upwards: `place` is its left edge, and the middle or the bottom of its height."""
    strip = Image.new("RGB", (round(text_width(words)) + 2, TEXT + 4), "white")
    draw_text(ImageDraw.Draw(strip), (1, 0), words, color)
    strip = strip.rotate(90, expand=True)
    top = place[1] - (strip.height // 2 if anchor == "center" else strip.height)
    picture.paste(strip, (place[0], top))
