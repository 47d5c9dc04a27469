"""Matplotlib for pictures that are written and never shown. The module is imported only where one is drawn."""

import io
import logging

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure  # not pyplot, which keeps every figure and looks for a display
from matplotlib.table import Cell
from matplotlib.text import Text

from efficientnet_tpu.display.lettering import drawable, fonts_of

matplotlib.rcParams["text.parse_math"] = False  # a class or a network may have a dollar in its name
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports the first listing of fonts


def with_letters(figure: Figure) -> Figure:
    """Gives every text of a figure the fonts that have its letters; what none has is escaped. Returns the figure."""
    for text in (*figure.findobj(Text), *(cell.get_text() for cell in figure.findobj(Cell))):
        words = text.get_text()
        if not words.isascii():
            words = "\n".join(map(drawable, words.split("\n")))
            text.set_text(words)
            text.set_fontfamily([_family(path) for path in fonts_of(words.replace("\n", " "))])
    return figure


def png(figure: Figure, cut: bool = True) -> bytes:
    """Returns the content of a PNG file with the figure, cut to what is drawn unless that is not wanted."""
    buffer = io.BytesIO()
    cutting = {"bbox_inches": "tight", "pad_inches": 0.15} if cut else {}
    with_letters(figure).savefig(buffer, format="png", **cutting)
    return buffer.getvalue()


def _family(path: str) -> str:
    """Returns the name by which matplotlib finds a font file; makes the file known to it."""
    family = font_manager.FontProperties(fname=path).get_name()
    if not any(font.fname == path for font in font_manager.fontManager.ttflist):
        font_manager.fontManager.addfont(path)
    return family
