"""Colors by their names and codes."""

import re

from efficientnet_tpu.errors import nearest

Color = tuple[int, int, int]  # red, green, blue: 0..255
NO_COLOR = "none"
WORDS = "a color's name (white, black, gray, ...), a code like #ffcc00, or none"


def read_color(text: str) -> Color | None:
    """Returns the color that a name or a code means; None for NO_COLOR.

    Raises ValueError, which says what it must be.
    """
    from PIL import ImageColor  # `--help` does without

    name = text.strip().lower()
    if name == NO_COLOR:
        return None
    if name not in ImageColor.colormap and not re.fullmatch(r"#([0-9a-f]{3}|[0-9a-f]{6})", name):
        raise ValueError(f"{WORDS}.{nearest(name, [NO_COLOR, *ImageColor.colormap])}")
    red, green, blue, *_ = ImageColor.getrgb(name)
    return red, green, blue
