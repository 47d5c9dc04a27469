"""Tells files that are no image, whatever their names: no regular files, or larger than the largest picture."""

from efficientnet_tpu.storage.regular_file import irregular_kind, size_of

# Bytes of the largest picture that is decoded (`image_format.MAX_PIXELS`) in RGB: no image file is larger.
MAX_FILE_BYTES = 536_870_910
TOO_LARGE = "file of more than 512 MiB"


def refused_kind(path: str) -> str:
    """Returns what makes a local file no image: its kind, one of `regular_file.IRREGULAR`, or its size. Empty for
    others, and for remote files.
    """
    return irregular_kind(path) or (TOO_LARGE if size_of(path) > MAX_FILE_BYTES else "")
