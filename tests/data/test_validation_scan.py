"""Images that a run will be evaluated on are read before its first step, and again only when they have changed."""

import os
import shutil

import pytest

from efficientnet_tpu.config.data import DataConfig
from tests.support.conversion import convert, write_folder


@pytest.fixture
def scan(tf, monkeypatch, tmp_path):
    """scan(data_dir) -> (what is said of its validation images, positions that were read)."""
    from efficientnet_tpu.data import validation_scan
    from efficientnet_tpu.data.datasets import open_data
    from efficientnet_tpu.data.preprocessing import Preparation
    from efficientnet_tpu.data.split import SINGLE_HOST

    monkeypatch.setattr(validation_scan, "user_cache", lambda: str(tmp_path / "cache"))
    read = []
    reading = validation_scan.unreadable_positions
    monkeypatch.setattr(
        validation_scan, "unreadable_positions", lambda *args: read.append(args[0].num_images) or reading(*args)
    )

    def of(data_dir="", **options):
        read.clear()
        data = open_data(DataConfig(data_dir=str(data_dir), **options))
        splits = {"validation": data.validation}
        said = validation_scan.find_unreadable(splits, Preparation(32, 8), SINGLE_HOST, f"--data_dir={data_dir}")
        return said, [*read]

    return of


@pytest.mark.slow
def test_unreadable_images_are_counted_and_named(scan, shapes, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(shapes, images)
    folder = images / "validation" / "square"
    broken = [folder / f"broken{index}.png" for index in range(5)]
    for path in broken:
        path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    said, _ = scan(images)
    assert said.startswith(f"--data_dir={images}: 5 of 20 validation images cannot be read")
    assert all(f"\n  {path}: truncated PNG\n" in said for path in broken[:3])
    assert "and 2 more" in said
    assert "--novalidation_scan" in said
    for path in broken:
        path.unlink()
    assert scan(images) == ("", [15])
    assert scan(images) == ("", [])  # the second start is free
    os.utime(sorted(folder.iterdir())[0], (1, 1))  # another content, perhaps
    assert scan(images) == ("", [15])


@pytest.mark.slow
def test_damaged_records_are_found_and_made_up_images_are_not_read(tf, scan, tmp_path):
    convert(write_folder(tf, tmp_path / "images"), tmp_path / "shards")
    assert scan(tmp_path / "shards") == ("", [6])
    (shard,) = (tmp_path / "shards").glob("validation-00000-*")
    content = bytearray(shard.read_bytes())
    content[-30] ^= 0xFF  # in the last record: its checksum no longer fits
    shard.write_bytes(content)
    said, _ = scan(tmp_path / "shards")
    assert ": 1 of 6 validation images cannot be read" in said
    assert f"\n  {shard.name} record 2: the file has a wrong checksum in record 2, at byte" in said
    assert scan(dataset="fake:3:20:10") == ("", [])
