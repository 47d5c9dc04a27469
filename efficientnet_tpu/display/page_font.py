"""The font that a page brings along for names in Chinese, Japanese and Korean, which not every reader's system has."""

import contextlib
import io

from efficientnet_tpu.display.lettering import own_font

_FIRST = "\u2e80"  # where the blocks of those scripts begin; browsers have fonts for what comes before


def font_for(text: str) -> bytes:
    """Returns a WOFF file with the letters of a text that are in this package's font alone; empty without any."""
    letters = [letter for letter in set(text) if letter >= _FIRST]
    if not letters:
        return b""
    from fontTools import subset  # of matplotlib's dependencies; takes a third of a second

    options = subset.Options(flavor="woff", layout_features=[], hinting=False, notdef_outline=True)
    buffer = io.BytesIO()
    with contextlib.closing(subset.load_font(own_font(), options)) as font:
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=map(ord, letters))
        subsetter.subset(font)
        subset.save_font(font, buffer, options)
    return buffer.getvalue()
