"""Passwords and signatures in addresses: not shown, not stored, and given by the name of an environment variable.

What a command line says, every user of the machine sees in the list of processes, and shells keep it.
"""

import os
import re
from urllib.parse import unquote

from efficientnet_tpu.errors import UserError

HIDDEN = "***"
FROM_ENVIRONMENT = "env:"  # begins the value of an option in place of the secret: env:NAME
# scheme://user:password@host; without a colon, of the web alone, a token. A password may hold what ought to be escaped.
# Every part has a longest length: without one, the search takes the square of a long text's.
_PASSWORD = re.compile(
    r"(?P<before>(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,40}://[^\s/@:?#]{0,300}:)(?P<secret>[^\s?#]{1,1000})"
    r"(?P<after>@)"
)
_TOKEN = re.compile(r"(?P<before>https?://)(?P<secret>[^\s/@:?#]{1,1000})(?P<after>@)", re.IGNORECASE)
# ?X-Goog-Signature=..., &sig=..., #access_token=...
_PARAMETER = re.compile(
    r"(?P<before>[?&;#][^=&;\s?#]{0,60}(?:sig|token|key|secret|passw|pwd|credential|auth)[^=&;\s?#]{0,60}=)"
    r"(?P<secret>[^&\s'\"#]+)(?P<after>)",
    re.IGNORECASE,
)
_SECRETS = (_PASSWORD, _TOKEN, _PARAMETER)
_SHORTEST = 4  # characters of a password that is looked for without its address


def masked(text: str) -> str:
    """Returns a text with *** in place of the passwords, tokens and signatures of the addresses in it."""
    if "://" in text or "?" in text:
        for pattern in _SECRETS:
            text = pattern.sub(rf"\g<before>{HIDDEN}\g<after>", text)
    return text


def without_secret(text: str, value: str) -> str:
    """Returns a text of another program, `masked`, without the secrets that an option's value holds."""
    text = text.replace(value, masked(value)) if value else text
    for pattern in _SECRETS:
        for match in pattern.finditer(value):
            for secret in (match["secret"], unquote(match["secret"])):
                text = text.replace(secret, HIDDEN) if len(secret) >= _SHORTEST else text
    return masked(text)


def revealed(value: str, flag: str) -> str:
    """Returns the value of an option that may hold a secret: for env:NAME, that environment variable's.

    Raises UserError for a variable that is not set.
    """
    if not value.startswith(FROM_ENVIRONMENT):
        return value
    name = value.removeprefix(FROM_ENVIRONMENT)
    found = os.environ.get(name, "")
    if not found:
        raise UserError(f"--{flag}={value}: the environment variable {name or 'of no name'} is not set. Export it.")
    return found
