"""Checkpoints by the names of their files."""

from efficientnet_tpu.run import checkpoint_names


def test_only_what_a_run_has_written_is_a_checkpoint(tmp_path):
    names = ["ckpt-9", "ckpt-54", "ckpt-54.1", "ckpt-54-copy", "ckpt-", "ckpt-5.x", "ckpt--5", "ckpt-7.index.index"]
    (tmp_path / "checkpoints").mkdir()
    for name in names:
        (tmp_path / "checkpoints" / f"{name}.index").touch()
    (tmp_path / "checkpoints" / "ckpt-99.data-00000-of-00001").touch()  # killed before its index
    paths = checkpoint_names.checkpoint_paths(str(tmp_path), "last")
    assert [path.rpartition("/")[2] for path in paths] == ["ckpt-54.1", "ckpt-54", "ckpt-9"]
    assert checkpoint_names.newest_step(str(tmp_path)) == 54
    assert checkpoint_names.unused_path(str(tmp_path), "last", 54).endswith("checkpoints/ckpt-54.2")
    assert not checkpoint_names.checkpoint_paths(str(tmp_path), "best")
    assert not checkpoint_names.has_checkpoint(str(tmp_path / "none"))
