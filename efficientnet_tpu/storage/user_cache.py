"""The folder for what the program can make again: compiled kernels, figures of a compiler."""

import os


def user_cache() -> str:
    """Returns the program's folder in the user's cache, by the XDG specification. It need not exist."""
    place = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(place):  # the specification has it ignored then
        place = os.path.expanduser("~/.cache")
    if place.startswith("~"):  # a container's user without a home
        place = "/nonexistent"
    return os.path.join(place, "efficientnet_tpu")
