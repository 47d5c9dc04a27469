"""Output files and folders that cannot be written are refused before the work begins."""

import pytest

from efficientnet_tpu.errors import UserError


@pytest.fixture(scope="module")
def writable(tf):
    from efficientnet_tpu.storage import writable

    return writable


@pytest.mark.parametrize(
    ("path", "complaint"), [("none/x.png", "there is no folder"), ("", "is a folder"), ("a-file/x.png", "no folder")]
)
def test_a_file_that_cannot_be_written_is_refused(writable, tmp_path, path, complaint):
    (tmp_path / "a-file").write_text("")
    with pytest.raises(UserError, match=f"--picture=.*{complaint}"):
        writable.check_file(f"{tmp_path}/{path}".rstrip("/"), "picture")


def test_checking_leaves_a_file_from_before_alone(writable, tmp_path):
    (tmp_path / "x.png").write_text("before")
    writable.check_file(f"{tmp_path}/x.png", "picture")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_folder_is_made_and_left_empty(writable, tmp_path):
    for _ in range(2):
        writable.check_folder(f"{tmp_path}/a/b", "--report=b")
        assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(writable, tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("file", "file/folder"):
        with pytest.raises(UserError, match=f"--report={tmp_path}/{path}: cannot be written: .*another folder"):
            writable.check_folder(f"{tmp_path}/{path}", f"--report={tmp_path}/{path}")
