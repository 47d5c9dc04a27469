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
