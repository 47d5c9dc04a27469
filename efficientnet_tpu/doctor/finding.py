"""The findings of a check of the machine."""

from collections.abc import Callable
from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts.known_errors import message_chain, recognized

OK, NOTE, WARNING, ERROR = SEVERITIES = ("ok", "note", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    severity: ok; note, which may be as it should; warning, with which training runs, worse; error, with which it fails.
    found: what there is. cause: why, and what follows. command: what mends it, or looks closer; "" for nothing to do.
    """

    subject: str
    severity: str
    found: str
    cause: str = ""
    command: str = ""


def refused(subject: str, check: Callable[[], object], command: str = "") -> list[Finding]:
    """Returns what a check of the program refuses, as a finding; none where it lets pass."""
    try:
        check()
    except UserError as error:
        return [failed(subject, error, command)]
    return []


def failed(subject: str, error: Exception, command: str = "") -> Finding:
    """Returns an error as a finding: with its known cause and command, or with what its message says."""
    named = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    first_line = named.strip().partition("\n")[0]
    if known := recognized(message_chain(error)):
        return Finding(subject, ERROR, first_line, known.cause, known.command())
    found, _, cause = first_line.partition(". ")
    return Finding(subject, ERROR, found, cause, command)
