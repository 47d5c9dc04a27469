"""Words in pictures: letters of any font that is here, never boxes or question marks, and never beyond their room."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from efficientnet_tpu.display import lettering

CACHED = ("_font_files", "_font", "_font_of", "_drawn")


@pytest.fixture
def with_fonts(monkeypatch):
    """with_fonts(files): as on a machine that has these and no others."""

    def clear():
        for name in CACHED:
            function = getattr(lettering, name)
            if hasattr(function, "cache_clear"):
                function.cache_clear()

    def set_files(files):
        clear()
        monkeypatch.setattr(lettering, "_font_files", lambda: tuple(files))

    yield set_files
    monkeypatch.undo()
    clear()


@pytest.fixture
def dejavu(with_fonts):
    """A font with Cyrillic and Greek letters and accents, without Chinese ones."""
    matplotlib = pytest.importorskip("matplotlib")
    with_fonts([f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"])


def drawn(text, **options):
    """bool [40, 300]: where a text leaves ink."""
    picture = Image.new("L", (300, 40), 255)
    lettering.draw_text(ImageDraw.Draw(picture), (10, 5), text, "black", **options)
    return np.asarray(picture) < 128


@pytest.mark.parametrize("letter", ["e", "-", "%", "\N{DEGREE SIGN}", "?", "\\"])
def test_letters_of_the_own_font_stay(with_fonts, letter):
    with_fonts([])
    assert lettering.drawable(letter) == letter
    assert lettering.is_drawable(letter)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cr\xe8me br\xfbl\xe9e", "creme brulee"),
        ("cre\N{COMBINING GRAVE ACCENT}me", "creme"),
        ("\u732b big", "\\u732b big"),
        ("\u0141\xf3d\u017a", "\\u0141odz"),
        ("a\tb\nc", "a\\tb\\nc"),
        ("\N{CAT FACE}\ud800", "\\U0001f431\\ud800"),
        ("", ""),
    ],
)
def test_without_other_fonts_letters_lose_accents_or_are_escaped(with_fonts, text, expected):
    with_fonts([])
    assert lettering.drawable(text) == expected
    assert lettering.is_drawable(text) == ("\\" not in expected)


def test_installed_fonts_are_used(dejavu):
    for text in ("\u0441\u043e\u0431\u0430\u043a\u0430", "na\xefve", "\u0141\xf3d\u017a", "\u03b1\u03b2"):
        assert lettering.drawable(text) == text
    ink = [
        drawn(text) for text in ("\u0441\u043e\u0431\u0430\u043a\u0430", "\u0441\u043e\u0431\u0430\u043a", "\uffff" * 6)
    ]
    assert all(part.any() for part in ink)
    assert (ink[0] != ink[1]).any()
    assert (ink[0] != ink[2]).any()  # no boxes
    assert not lettering.is_drawable("\u732b")


def test_pieces_of_several_fonts_stand_in_a_row(dejavu):
    text = "dog \u0441\u043e\u0431\u0430\u043a\u0430 dog"
    ink = drawn(text)
    columns = np.flatnonzero(ink.any(axis=0))
    assert columns[0] >= 10
    assert columns[-1] <= 10 + lettering.text_width(text) + 1
    # The first word is where it would be alone, and in no other line.
    alone = drawn("dog")
    assert (ink[:, : 10 + int(lettering.text_width("dog"))] == alone[:, : 10 + int(lettering.text_width("dog"))]).all()
    for anchor, shift in (("ma", 0.5), ("ra", 1.0), ("mm", 0.5)):
        picture = Image.new("L", (300, 60), 255)
        lettering.draw_text(ImageDraw.Draw(picture), (150, 30), text, "black", anchor=anchor)
        first = np.flatnonzero((np.asarray(picture) < 128).any(axis=0))[0]
        assert first == pytest.approx(150 - shift * lettering.text_width(text), abs=2)


def test_classes_whose_names_cannot_be_drawn_have_numbers_and_a_legend(with_fonts):
    with_fonts([])
    names = ["cat", "\u732b", "cr\xe8me", "\u72ac"]
    assert lettering.class_captions(names) == ["cat", "class 1", "creme", "class 3"]
    legend = lettering.legend(names)
    assert "class 1: \u732b, class 3: \u72ac" in legend
    assert "\n" not in legend
    assert lettering.legend(["cat", "dog?"]) == ""


def test_words_are_cut_to_their_room():
    text = "a class name that nobody would choose, but somebody has"
    for width, size in itertools.product((30, 100, 160), (lettering.TEXT, lettering.TITLE)):
        cut = lettering.shortened(text, width, size)
        assert cut.endswith("...")
        assert lettering.text_width(cut, size) <= width
        assert text.startswith(cut[:-3])
    assert lettering.shortened(text, 1000) == text


def test_fonts_of_this_machine_are_found_upright_ones_first(tmp_path, monkeypatch):
    for name in (
        "Zeta-Bold.ttf",
        "Alpha-Italic.otf",
        "Beta.TTC",
        "DejaVuSans.ttf",
        "LastResortHE-Regular.ttf",
        "readme.txt",
    ):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(lettering, "_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(lettering.importlib.util, "find_spec", lambda name: None)
    found = lettering._font_files.__wrapped__()
    assert [path.rpartition("/")[2] for path in found] == [
        "DejaVuSans.ttf",
        "Beta.TTC",
        "Alpha-Italic.otf",
        "Zeta-Bold.ttf",
    ]


def test_a_damaged_font_is_passed_over(with_fonts, tmp_path):
    (tmp_path / "x.ttf").write_bytes(b"no font")
    with_fonts([str(tmp_path / "x.ttf")])
    assert lettering.drawable("\u732b") == "\\u732b"
