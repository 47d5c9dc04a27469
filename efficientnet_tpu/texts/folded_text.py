"""Sentences broken at words where a terminal would break them anywhere."""

import re

# A command between backticks is one word: who copies it must not get a line's end.
_WORD = re.compile(r"`[^`]*`\S*|\S+")


def folded(line: str, columns: int) -> str:
    """Returns a line as several of at most `columns` letters, the further ones indented by two.

    Words that are longer stay whole. A line with two spaces between words is a row of a table, and stays as it is.
    """
    text = line.lstrip(" ")
    indent = line[: len(line) - len(text)]
    if len(line) <= columns or "  " in text.rstrip():
        return line
    lines, current = [], indent
    for word in _WORD.findall(text):
        space = " " * bool(current.strip())
        if current.strip() and len(current) + len(space) + len(word) > columns:
            lines.append(current)
            current, space = f"{indent}  ", ""
        current += space + word
    return "\n".join([*lines, current])
