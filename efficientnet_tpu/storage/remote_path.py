"""Paths with a scheme, as gs://: which are known, and whether the place answers."""

import re

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import presence
from efficientnet_tpu.texts.printable import shown
from efficientnet_tpu.texts.secrets import masked

# TensorFlow alone reads and writes them. ram:// lives in memory, for tests.
_SCHEMES = ("gs", "ram")
_WITH_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def require_known_scheme(path: str, named: str) -> None:
    """Raises UserError for https://, s3://, hf:// and so on. named: what the user typed, with its flag."""
    found = _WITH_SCHEME.match(path)
    if found and found[1] not in _SCHEMES:
        remedy = "Give the path without it" if found[1].lower() == "file" else "Give a local directory or file"
        raise UserError(
            f"{shown(masked(named))}: cannot be reached: {found[1]}:// is not read here, local paths and gs:// are. "
            f"{remedy}."
        )


def require_reachable(path: str, named: str) -> None:
    """Raises UserError for a gs:// path without network, credentials or permission. Imports TensorFlow for it."""
    if not presence.is_local(path):
        presence.exists(path, named)
