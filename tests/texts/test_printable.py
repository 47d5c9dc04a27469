import csv
import io
import os
import sys

import pytest

from efficientnet_tpu.texts import printable
from efficientnet_tpu.texts.csv_text import csv_text
from efficientnet_tpu.texts.printable_output import printable_output

# What must not be printed as it is -> how it is printed.
SIGNS = {
    "\n": r"\n", "\r": r"\r", "\t": r"\t", "\x00": r"\x00", "\x0b": r"\x0b", "\x0c": r"\x0c", "\x1b": r"\x1b",
    "\x1c": r"\x1c", "\x1d": r"\x1d", "\x1e": r"\x1e", "\x7f": r"\x7f", "\x85": r"\x85", "\x9b": r"\x9b",
    "\u2028": r"\u2028", "\u2029": r"\u2029", "\u202e": r"\u202e", "\u2066": r"\u2066", "\ud800": r"\ud800",
    "\ufeff": r"\ufeff", "\uffff": r"\uffff",
}  # fmt: skip


@pytest.mark.parametrize("sign", SIGNS, ids=ascii)
def test_signs_that_are_no_letters_are_escaped(sign):
    assert printable.escaped(f"a{sign}b") == f"a{SIGNS[sign]}b"
    assert not printable.is_printable(f"a{sign}b")


@pytest.mark.parametrize("text", ["größe", "猫", "नमस्ते", "می‌خواهم", "שלום", "👩‍🔬", "a b-c_d.e'f\"g\\n", "¿qué?", ""])
def test_letters_of_any_script_are_left(text):
    assert printable.escaped(text) == text
    assert printable.is_printable(text)


def test_lines_have_only_the_ends_that_every_program_sees():
    names = [f"a{sign}b" for sign in SIGNS]
    assert len(csv_text([[name] for name in names]).splitlines()) == len(names)
    assert "".join(f"{printable.escaped(name)}\n" for name in names).splitlines() == list(map(printable.escaped, names))


def test_long_values_and_messages_are_cut():
    assert printable.shown("x" * 1_000_000, 5) == "xxxxx... (1,000,000 characters)"
    assert len(printable.shortened("x" * 1_000_000)) < 10_000
    assert printable.shortened("short") == "short"


def test_pages_hold_names_as_text():
    assert printable.html_text('<b title="x">\x1b\n') == "&lt;b title=&quot;x&quot;&gt;\\x1b\\n"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1+1", " '=1+1"),
        ("\t=1+1", "\\t=1+1"),
        ("\r=1+1", "\\r=1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("cat;=1+1", "cat;'=1+1"),
        ('cat;"=1+1', "cat;\"'=1+1"),
        ("-1.25", "-1.25"),
        ("+0.50", "+0.50"),
        ("-", "-"),
        ("t-shirt", "t-shirt"),
        ("a=b", "a=b"),
        (-3, "-3"),
        (0.5, "0.5"),
        (None, ""),
    ],
)
def test_no_cell_begins_a_formula(cell, written):
    (row,) = csv.reader(io.StringIO(csv_text([["x", cell]]), newline=""))
    assert row == ["x", written]


def test_nothing_that_is_printed_speaks_to_the_terminal(capsys):
    with printable_output():
        print("a\x1b]0;title\x07b\tc", "\u202eexe.gpj")
        print("d\x9b2J", file=sys.stderr)
        assert sys.stdout.isatty() in (True, False)
    assert capsys.readouterr() == ("a\\x1b]0;title\\x07b\tc \\u202eexe.gpj\n", "d\\x9b2J\n")
    assert type(sys.stdout).__name__ != "PrintableStream"


def test_it_hides_passwords_too(capsys):
    with printable_output():
        print("postgresql://me:word@host/db")
    assert capsys.readouterr().out == "postgresql://me:***@host/db\n"


def test_names_of_files_that_are_not_utf_8_are_escaped_as_bytes():
    assert printable.escaped(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"
