"""Matplotlib for pictures that are written and never shown. The module is imported only where one is drawn."""

import io
import logging

import matplotlib
from matplotlib.figure import Figure  # not pyplot, which keeps every figure and looks for a display

matplotlib.rcParams["text.parse_math"] = False  # a class or a network may have a dollar in its name
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports the first listing of fonts


def png(figure: Figure, cut: bool = True) -> bytes:
    """Returns the content of a PNG file with the figure, cut to what is drawn unless that is not wanted."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **({"bbox_inches": "tight", "pad_inches": 0.15} if cut else {}))
    return buffer.getvalue()
