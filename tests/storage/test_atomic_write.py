"""Files are whole or not there."""

import pytest


def test_a_file_is_written_whole_or_not_at_all(tf, tmp_path, monkeypatch):
    from efficientnet_tpu.storage.atomic_write import write_atomically

    path = str(tmp_path / "file")
    write_atomically(path, "old")

    def fail(*arguments, **options):
        raise OSError("no space left")

    monkeypatch.setattr(tf.io.gfile, "rename", fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, "new")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_write_that_is_broken_off(tf, tmp_path, monkeypatch, error):
    from efficientnet_tpu.storage.atomic_write import write_atomically

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(tf.io.gfile, "rename", fail)
    with pytest.raises(error):
        write_atomically(str(tmp_path / "file"), "new")
    assert list(tmp_path.iterdir()) == []
