"""What words on a command line and lines on stdin name."""

import io
import os

import pytest

from efficientnet_tpu.data.sources.named_files import expand
from efficientnet_tpu.errors import UserError
from tests.support.labelled_images import touch


def _names(root, *words):
    files = expand([word if word == "-" else f"{root}/{word}" for word in words])
    return [path.removeprefix(f"{root}/") for path in files.paths], files.left_out


def _stdin(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


def test_a_folder_is_read_as_training_reads_it(tmp_path):
    touch(tmp_path, "b.jpg", "a/c.JFIF", "a/._c.jpg", ".thumbnails/t.jpg", "__MACOSX/a/._c.jpg", "@eaDir/b.jpg/T.jpg")
    touch(tmp_path, "a/scan.JPE", "notes.txt", "x.heic", "y.heic", "lost+found/z.jpg", "run/run.json", "run/p.png")
    (tmp_path / "plain").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "c.tif").write_bytes(b"II*\0")
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    names, left_out = _names(tmp_path, "")
    assert names == ["a/c.JFIF", "a/scan.JPE", "b.jpg", "plain", "run/p.png"]
    link = f"read already under another name ({tmp_path}/a/loop)"
    assert left_out == {".heic": 2, ".json": 1, ".tif (TIFF)": 1, ".txt": 1, link: 1}


def test_a_glob_leaves_out_what_nobody_means_and_a_file_is_taken_at_its_word(tmp_path):
    touch(tmp_path, "a.jpg", "._a.jpg", "Thumbs.db", "b.heic", "deep/c.jpg", "deep/d.png")
    assert _names(tmp_path, "*") == (["a.jpg", "b.heic"], {})
    assert _names(tmp_path, "**/*.jpg") == (["a.jpg", "deep/c.jpg"], {})
    assert _names(tmp_path, "._a.jpg", "deep", "deep/d.png") == (["._a.jpg", "deep/c.jpg", "deep/d.png"], {})


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    touch(tmp_path, "a.heic", "b.heic")
    with pytest.raises(UserError, match=rf"{tmp_path}/: no such file, folder with images, .* Left out: 2 \.heic\."):
        _names(tmp_path, "")


def test_stdin_as_programs_write_it(tmp_path, monkeypatch):
    touch(tmp_path, "é.jpg", "b.jpg", "in/c.jpg", "in/notes.txt")
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = [f"\ufeff{tmp_path}/é.jpg", f"{tmp_path}/b.jpg\r", "", f"{tmp_path}/gone.jpg", "~/in"]
    _stdin(monkeypatch, "\n".join(lines).encode())
    assert _names(tmp_path, "-") == (["é.jpg", "b.jpg", "gone.jpg", "in/c.jpg"], {".txt": 1})


def test_names_on_stdin_that_are_not_utf_8_are_named_and_passed_over(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg")
    strange = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")
    with open(strange, "wb"):
        pass
    _stdin(monkeypatch, strange + b"\n" + os.fsencode(tmp_path / "a.jpg"))
    assert _names(tmp_path, "-") == (["a.jpg"], {rf"with a name that is not UTF-8 ({tmp_path}/caf\xe9.jpg)": 1})
    assert _names(tmp_path, "*.jpg")[0] == ["a.jpg"]
    assert _names(tmp_path, "") == (["a.jpg"], {r"with a name that is not UTF-8 (caf\xe9.jpg)": 1})
    with pytest.raises(UserError, match=r"/caf\\xe9\.jpg: no such file"):
        expand([os.fsdecode(strange)])


def test_a_list_in_utf_16(monkeypatch):
    _stdin(monkeypatch, "a.jpg\n".encode("utf-16"))
    with pytest.raises(UserError, match="-: stdin is UTF-16"):
        expand(["-"])


def test_a_list_with_zeros_between(monkeypatch):
    _stdin(monkeypatch, b"a.jpg\0b.jpg\0")
    with pytest.raises(UserError, match=r"-: line 1 of stdin holds the sign \\x00"):
        expand(["-"])


def test_a_line_that_cannot_be_reached_is_kept_for_the_reader_to_name(tf, tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"a")
    lines = ["https://example.com/a.jpg", f"{tmp_path}/a.jpg"]
    _stdin(monkeypatch, "\n".join(lines).encode())
    assert expand(["-"]).paths == lines
