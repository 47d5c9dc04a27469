"""Words in pictures: letters of any font that is here, never boxes or question marks, and never beyond their room."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from efficientnet_tpu.display import lettering

CACHED = ("_font_files", "_font", "_font_of", "_has", "_orders_letters")
# What comes along has the letters of these, whatever else is installed.
NAMES = [
    "L\xf6wenzahn",
    "\u0141\xf3d\u017a",
    "m\xe8o \u0110\u01b0\u1eddng",
    "\u0441\u043e\u0431\u0430\u043a\u0430",
    "\u03b3\u03ac\u03c4\u03b1",
    "\u305f\u3093\u307d\u307d",
    "\u732b",
    "\u84b2\u516c\u82f1",
    "\ubbfc\ub4e4\ub808",
    "\u0642\u0637\u0629 \u0633\u0648\u062f\u0627\u0621",
    "\u05d7\u05ea\u05d5\u05dc",
]
THAI = "\u0e41\u0e21\u0e27"


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
        own = lettering._font_files()[:2]
        monkeypatch.setattr(lettering, "_font_files", lambda: (*own, *files))
        if not lettering._orders_letters():  # libfribidi is not of Python
            monkeypatch.setattr(lettering, "_orders_letters", lambda: True)

    yield set_files
    monkeypatch.undo()
    clear()


def drawn(text, **options):
    """bool [40, 300]: where a text leaves ink."""
    picture = Image.new("L", (300, 40), 255)
    lettering.draw_text(ImageDraw.Draw(picture), (10, 5), text, "black", **options)
    return np.asarray(picture) < 128


def boxes():
    """What each font that comes along draws for a letter that it lacks: bool [40, 300] each, as `drawn`."""
    pictures = [Image.new("L", (300, 40), 255) for _ in range(2)]
    baseline = 5 + lettering._font(0, lettering.TEXT).getmetrics()[0]
    for number, picture in enumerate(pictures):
        font = lettering._font(number, lettering.TEXT)
        ImageDraw.Draw(picture).text((10, baseline), "\uffff", "black", font, anchor="ls")
    return [np.asarray(picture) < 128 for picture in pictures]


@pytest.mark.parametrize("name", NAMES)
def test_letters_of_many_scripts_are_drawn_as_they_are_and_not_as_boxes(with_fonts, name):
    with_fonts([])
    assert lettering.drawable(name) == name
    assert lettering.class_captions([name]) == [name]
    assert name.isascii() or not any((drawn(letter) == box).all() for letter in name for box in boxes())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cre\N{COMBINING GRAVE ACCENT}me", "cr\xe8me"),
        (THAI, "\\u0e41\\u0e21\\u0e27"),
        ("a\tb\nc", "a\\tb\\nc"),
        ("\U00020bb7\ud800", "\\U00020bb7\\ud800"),
        ("", ""),
    ],
)
def test_letters_of_no_font_are_escaped(with_fonts, text, expected):
    with_fonts([])
    assert lettering.drawable(text) == expected
    assert lettering.is_drawable(text) == ("\\" not in expected)


def test_letters_that_would_stand_the_wrong_way_round_are_not_drawn(with_fonts, monkeypatch):
    with_fonts([])
    monkeypatch.setattr(lettering, "_orders_letters", lambda: False)
    hebrew = NAMES[-1]
    assert lettering.class_captions([hebrew, "cat"]) == ["class 0", "cat"]
    assert "libfribidi" in lettering.legend([hebrew])


def test_words_from_right_to_left_stay_together(with_fonts):
    with_fonts([])
    assert len(list(lettering._runs("\u0642\u0637\u0629 \u0633\u0648\u062f"))) == 1
    assert [run for _, run in lettering._runs("\u732b (cat)")] == ["\u732b ", "(cat)"]


@pytest.mark.parametrize("name", [NAMES[0], NAMES[5], NAMES[8], THAI])
def test_figures_have_the_letters_too(with_fonts, name):
    with_fonts([])
    from efficientnet_tpu.display import plotting

    def picture(words):
        figure = plotting.Figure(figsize=(3, 1), dpi=60)
        axes = figure.subplots()
        axes.set_title(f"{words}\nsecond line")
        axes.table([[words]])
        content = plotting.png(figure, cut=False)  # a glyph that is missing is a warning, and so an error
        return figure, content

    figure, content = picture(name)
    assert figure.axes[0].get_title() == f"{lettering.drawable(name)}\nsecond line"
    assert content != picture("x" * len(name))[1]


def test_pieces_of_several_fonts_stand_in_a_row(with_fonts):
    with_fonts([])
    text = "dog \u732b\u732b dog"
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
    names = ["cat", THAI, "cr\xe8me", THAI[:2]]
    assert lettering.class_captions(names) == ["cat", "class 1", "cr\xe8me", "class 3"]
    legend = lettering.legend(names)
    assert f"class 1: {THAI}, class 3: {THAI[:2]}" in legend
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
        "NotoSansThai-Regular.ttf",
        "NotoSansThai-Medium.ttf",
        "LastResortHE-Regular.ttf",
        "readme.txt",
    ):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(lettering, "_FOLDERS", (str(tmp_path),))
    found = lettering._font_files.__wrapped__()
    assert [path.rpartition("/")[2] for path in found] == [
        "DejaVuSans.ttf",
        "DroidSansFallback.ttf",
        "NotoSansThai-Regular.ttf",
        "Beta.TTC",
        "NotoSansThai-Medium.ttf",
        "Alpha-Italic.otf",
        "Zeta-Bold.ttf",
    ]


def test_a_damaged_font_is_passed_over(with_fonts, tmp_path):
    (tmp_path / "x.ttf").write_bytes(b"no font")
    with_fonts([str(tmp_path / "x.ttf")])
    assert lettering.drawable("\u0e41") == "\\u0e41"
