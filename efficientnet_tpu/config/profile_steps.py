"""The value of --profile_steps: a range of steps."""

import re


def read_profile_steps(text: str) -> tuple[int, int] | None:
    """Reads FIRST:END, with the end left out of the range. Returns None for "".

    Raises ValueError, which says what it must be.
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII)
    if not found or int(found[1]) >= int(found[2]):
        raise ValueError("FIRST:END with FIRST below END, as 100:110 for ten steps from step 100 on.")
    return int(found[1]), int(found[2])
