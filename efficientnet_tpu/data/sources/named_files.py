"""The image files that words name: files, folders, globs, and lists of such words on stdin."""

import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from efficientnet_tpu.data.sources.folder_walk import NOT_UTF_8, Walk, is_local, is_passed_over, shown_name
from efficientnet_tpu.data.sources.labelled_files import left_out_line
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.text_file import without_mark
from efficientnet_tpu.texts.printable import shown

STDIN = "-"
_LONGEST_LINE = 1 << 16  # bytes; Linux opens no path of more than 4096
_UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")  # its first bytes, read as UTF-8


@dataclass(frozen=True)
class NamedFiles:
    """Files in the order of the words, each once. left_out: kind -> number of what lies in folders and is no image."""

    paths: list[str]
    left_out: dict[str, int]


def expand(words: Sequence[str]) -> NamedFiles:
    """Finds files, all images in folders and below, what globs match, and for the word `-` what the lines of stdin
    name. Raises UserError for a word that names nothing; a line of stdin is kept then, for whoever reads it.
    """
    paths: dict[str, None] = {}
    left_out: Counter[str] = Counter()
    for word in words:
        if word == STDIN:
            for line in _stdin_lines():
                # A program's list may be long and a file of it be gone: that is no reason to stop.
                found, others = _expand_word(line)
                paths.update(dict.fromkeys(found if found or others else [line]))
                left_out.update(others)
            continue
        found, others = _expand_word(word)
        if not found:
            beside = f" {left_out_line(others).capitalize()}." if others else ""
            raise _names_nothing(word, beside)
        paths.update(dict.fromkeys(found))
        left_out.update(others)
    if not paths:
        beside = f" {left_out_line(left_out).capitalize()}." if left_out else ""
        raise UserError(f"-: no file is named on stdin; give one a line.{beside}")
    return NamedFiles(list(paths), dict(left_out))


def require_present(words: Sequence[str]) -> None:
    """Raises UserError for a word that names nothing, without a walk through folders. Looks at no gs:// path."""
    for word in words:
        is_there = word == STDIN or not is_local(word) or os.path.lexists(os.path.expanduser(word))
        if not is_there and next(glob.iglob(word, recursive=True), None) is None:
            raise _names_nothing(word)


def _names_nothing(word: str, beside: str = "") -> UserError:
    return UserError(f"{shown(word)}: no such file, folder with images, or glob with a match.{beside}")


def _stdin_lines() -> Iterator[str]:
    """Yields the lines of stdin that are not empty; bytes that are not UTF-8 are kept in them."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    # Not for ever: /dev/zero is a line without an end.
    for number, line in enumerate(iter(lambda: sys.stdin.readline(_LONGEST_LINE), "")):
        if len(line) == _LONGEST_LINE:
            raise UserError(f"-: line {number + 1} of stdin is longer than any path. Give one path a line.")
        text = (line if number else without_mark(line)).rstrip("\r\n")
        if number == 0 and text.startswith(_UTF_16):
            raise UserError("-: stdin is UTF-16. Write the list as UTF-8.")
        if "\0" in text:  # what find -print0 and git ls-files -z write
            raise UserError(
                f"-: line {number + 1} of stdin holds the sign \\x00, which no file's name has. Name one a line."
            )
        if text:
            yield text


def _expand_word(word: str) -> tuple[list[str], dict[str, int]]:
    """Returns what one word names, nothing where that is not there, and what was left out."""
    if is_local(word) and word.startswith("~") and not os.path.lexists(word):
        word = os.path.expanduser(word)
    found = (_local if is_local(word) else _remote)(word)
    if found is None:
        walk = Walk(skips_outputs=False)
        return sorted(walk.images({word: False})[word]), walk.left_out()
    utf_8 = [path for path in found if path == shown_name(path)]
    others = [shown_name(path) for path in found if path != shown_name(path)]
    return utf_8, {f"{NOT_UTF_8} ({others[0]})": len(others)} if others else {}


def _local(word: str) -> list[str] | None:
    """Returns the files of a word; None for a folder."""
    if os.path.isdir(word):
        return None
    if os.path.lexists(word):
        return [word]
    matches = sorted(glob.glob(word, recursive=True))
    return [path for path in matches if not os.path.isdir(path) and not is_passed_over(os.path.basename(path))]


def _remote(word: str) -> list[str] | None:
    """Returns the same on gs://; nothing from a place that cannot be reached."""
    import tensorflow as tf

    try:
        if tf.io.gfile.isdir(word):
            return None
        matches = [word] if tf.io.gfile.exists(word) else sorted(tf.io.gfile.glob(word))
    except tf.errors.OpError:
        return []
    return [path for path in matches if not tf.io.gfile.isdir(path)]
