"""Text for people on a terminal."""


def duration(seconds: float) -> str:
    """'45 s', '3 min 5 s', '2 h 7 min', '3 d 4 h'."""
    seconds = round(seconds)
    for large, small, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if seconds >= size:
            return f"{seconds // size} {large} {seconds % size // part} {small}"
    return f"{seconds} s"
