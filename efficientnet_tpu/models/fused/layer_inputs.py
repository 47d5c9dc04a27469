"""What a layer keeps of a call for the layer after it, which computes both as one: what TPUs train by.

Layers stay those that weights and files know; a gradient that reads less memory needs more than the last one's input.
"""

import threading
from typing import Any


class Handover:
    """Values by layer's name, within one thread: MirroredStrategy calls every replica's layers in one of its own."""

    def __init__(self) -> None:
        self._local = threading.local()

    def leave(self, name: str, values: Any) -> None:
        """Keeps `values` of the layer's latest call; None: there are none."""
        vars(self._local)[name] = values

    def take(self, name: str) -> Any:
        """What the latest call left, once; None if nothing."""
        return vars(self._local).pop(name, None)
