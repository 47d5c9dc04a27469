"""Damage to texts: bytes changed, values of other kinds put into JSON, words of the command line that are none."""

import copy
import json

from efficientnet_tpu.config.config import OPTIONS

HOSTILE = (
    *(b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b";", b"\t", b"=", b"\\", b"\n", b"\r", b"\0", b"\x1b[2J", b"-"),
    *(b"NaN", b"Infinity", b"-1e400", b"1e400", b"9" * 401, b"9" * 5000, b"true", b"null", b"0.5", b"-1", b"1" * 20),
    *("\u2028".encode(), "\u202e".encode(), "\x85".encode(), "\ufeff".encode(), b"\xff\xfe", b"\xe9", b"\xed\xa0\x80"),
    *(
        rb"\ud800",
        rb"\udfff",
        b"[" * 3000,
        b'{"a":' * 3000,
        b"x" * 200_000,
        b'"a": 1, "a": 2',
        b"--",
        b"/../",
        b"$(id)",
    ),
)
VALUES = (
    *(None, True, False, 0, -1, 1, 10**18, 10**30, 10**299, 0.5, -0.0, 1e308, 1e-308, "", "a", "9" * 4400, "\ud800"),
    *(
        "\x00",
        "a\nb",
        [],
        {},
        [[]],
        {"a": 1},
        ["a"],
        [None],
        [1, "a"],
        "x" * 100_000,
        "nan",
        "1e400",
        "../..",
        "--help",
    ),
)


def damaged(text, generator):
    """A copy of bytes with some changed, cut out, doubled or cut off, or with something hostile put in."""
    content = bytearray(text)
    for _ in range(generator.choice((1, 1, 1, 2, 3, 10))):
        at = generator.randrange(len(content) + 1)
        kind = generator.randrange(6)
        if kind == 0 and content:
            content[at % len(content)] = generator.randrange(256)
        elif kind == 1:
            del content[at : at + generator.choice((1, 2, 8, 50))]
        elif kind == 2:
            content[at:at] = content[at : at + generator.choice((1, 8, 50, 500))]
        elif kind == 3 and generator.random() < 0.3:
            del content[at:]
        else:
            content[at : at + generator.choice((0, 0, 1, 5))] = generator.choice(HOSTILE)
    return bytes(content)


def damaged_json(text, generator):
    """The same, or JSON with a value of another kind in some place, or a key more or less."""
    if generator.random() < 0.4:
        return damaged(text, generator)
    content = json.loads(text)
    for _ in range(generator.choice((1, 1, 2, 4))):
        places = list(_places(content))
        if not places:
            break
        holder, key = generator.choice(places)
        kind = generator.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[generator.choice(("", "a", "x" * 1000, "\ud800", "a\nb", "config"))] = copy.deepcopy(
                generator.choice(VALUES)
            )
        else:
            holder[key] = copy.deepcopy(generator.choice(VALUES))
    return json.dumps(content).encode()


def _places(content):
    """Every (holder, key) of a JSON value."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def damaged_words(text, generator):
    """Lines, each an argument of the command line: some damaged, one doubled, one gone, one of absl's own."""
    lines = text.split(b"\n")
    for _ in range(generator.choice((1, 1, 2, 3))):
        at = generator.randrange(len(lines))
        kind = generator.randrange(6)
        if kind == 0:
            lines.insert(at, generator.choice(ABSL))
        elif kind == 1:
            lines[at] = b"--" + generator.choice(list(OPTIONS)).encode() + b"=" + generator.choice(HOSTILE)
        elif kind == 2 and len(lines) > 1:
            del lines[at]
        else:
            lines[at] = damaged(lines[at], generator)
    return b"\n".join(lines)


ABSL = (
    *(b"--", b"-", b"---", b"--=", b"-=x", b"--no", b"--no=x", b"--nono", b"--undefok=a", b"--undefok", b"--helpxml"),
    *(b"--only_check_args", b"--pdb", b"--nohelp", b"--help=maybe", b"--noseed", b"--seed", b"-h", b"--h"),
    *(b"--version=3", b"--flagfile", b"--flagfile=", b"--noflagfile", b"--helpshort", b"-seed=1", b"--seed =1"),
    *(b"--seed= 1", b"--" + b"s" * 9999, b"--flagfile=/", b"--flagfile=quickstart", b"predict", b"x" * 9999),
)  # fmt: skip
