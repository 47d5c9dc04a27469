"""Lets a layer read the inputs of a layer before it, so that both can be differentiated as one on TPUs.

The layers of the network stay those that weights and files know.
"""

import threading
from typing import Any

_kept = threading.local()  # MirroredStrategy calls the layers of every replica in a thread of its own


def keep_inputs(layer_name: str, inputs: Any) -> None:
    """Keeps the inputs of a layer's latest call until `take_inputs`."""
    vars(_kept)[layer_name] = inputs


def take_inputs(layer_name: str) -> Any:
    """Returns the inputs that were kept of a layer's latest call, once; None if there are none."""
    return vars(_kept).pop(layer_name, None)
