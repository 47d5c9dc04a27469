"""A new directory is whole or not there."""

import pytest

from efficientnet_tpu.errors import UserError


@pytest.fixture(scope="module")
def module(tf):
    from efficientnet_tpu.storage import new_directory

    return new_directory


def test_it_appears_when_it_is_complete(module, tmp_path):
    with module.new_directory(f"{tmp_path}/new", "output_dir") as directory:
        (tmp_path / directory / "file").write_text("content")
        assert not (tmp_path / "new").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "file").read_text() == "content"


def test_after_a_failure_nothing_is_there(module, tmp_path):
    with pytest.raises(KeyError, match="reason"), module.new_directory(f"{tmp_path}/new", "output_dir"):
        raise KeyError("reason")
    assert list(tmp_path.iterdir()) == []


def test_one_that_exists_or_cannot_be_made_is_refused(module, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"--output_dir={tmp_path}/file: exists already"):
        module.check_absent(f"{tmp_path}/file", "output_dir")
    module.check_absent(f"{tmp_path}/other", "output_dir")
    refused = pytest.raises(UserError, match=f"--output_dir={tmp_path}/file/new: cannot be written")
    with refused, module.new_directory(f"{tmp_path}/file/new", "output_dir"):
        pass
