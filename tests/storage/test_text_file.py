"""Text as people's programs write it."""

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.text_file import decode, read_text, without_mark


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_marks_and_windows_line_ends_are_no_part_of_the_text(tmp_path, encoding, newline):
    (tmp_path / "a.txt").write_text("größe\n\ufeffb\n", encoding=encoding, newline=newline)
    assert read_text(f"{tmp_path}/a.txt", "--labels=a.txt") == "größe\n\ufeffb\n"


def test_a_file_on_another_file_system(tf):
    with tf.io.gfile.GFile("ram://test_text_file/a.txt", "wb") as file:
        file.write(b"\xef\xbb\xbfa\r\nb")
    assert read_text("ram://test_text_file/a.txt", "--labels") == "a\nb"
    with pytest.raises(UserError, match="--labels: cannot be read: "):
        read_text("ram://test_text_file/none.txt", "--labels")


def test_a_file_with_zeros_is_no_text():
    with pytest.raises(UserError, match=r"--labels=a: line 2 holds the sign \\x00"):
        decode(b"a\nb\0c\n", "--labels=a")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(encoding):
    mark = "" if encoding == "utf-16" else "\ufeff"
    with pytest.raises(UserError, match=r"--labels=a\.txt: is UTF-16, .* Save it as UTF-8"):
        decode(f"{mark}label\n".encode(encoding), "--labels=a.txt")


def test_other_encodings_are_refused_with_the_line():
    with pytest.raises(UserError) as error:
        decode("a\nb\ncafé au lait\n".encode("latin-1"), "--labels=a.txt")
    assert str(error.value) == "--labels=a.txt: line 3 is not UTF-8: b'caf\\xe9 au lait'. Save the file as that."


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="--labels=x: cannot be read: No such file"):
        read_text(f"{tmp_path}/none", "--labels=x")


def test_without_mark():
    assert without_mark("\ufeffa\ufeff") == "a\ufeff"
