"""Batches for prediction: in order, no larger than their files' bytes and pixels allow."""

import os

import pytest

from tests.support import image_files


@pytest.fixture
def image_batches(tf):
    from efficientnet_tpu.data.decoding import image_batches

    return image_batches


@pytest.fixture
def photos(tmp_path):
    """Nine photographs of 30 x 40 pixels."""
    encoded = image_files.encode(image_files.photo(30, 40), "JPEG")
    for index in range(9):
        (tmp_path / f"{index}.jpg").write_bytes(encoded)
    return [str(tmp_path / f"{index}.jpg") for index in range(9)]


@pytest.mark.parametrize(
    ("limit", "per_image", "sizes"),
    [
        ("MOST_BYTES", os.path.getsize, [2, 3, 3, 1]),
        ("MOST_PIXELS", lambda path: 30 * 40, [2, 3, 3, 1]),
        ("MOST_BYTES", lambda path: 0, [1] * 9),  # each is larger than a batch may be
        (None, None, [2, 4, 3]),
    ],
)
def test_sizes(image_batches, photos, monkeypatch, limit, per_image, sizes):
    if limit:
        monkeypatch.setattr(image_batches, limit, 3 * per_image(photos[0]))
    found, batches = [], []
    size = image_batches.BatchSize(2, 4)
    for batch in image_batches.read_batches(photos, size, found.append):
        size.grow(0.5)
        batches.append(batch)
        found.append([path for path, content in batch if content])
    assert [len(paths) for paths in found] == sizes
    assert [path for paths in found for path in paths] == photos


def test_what_cannot_be_read_is_named_and_never_opened(image_batches, photos, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "huge.jpg").touch()
    os.truncate(tmp_path / "huge.jpg", 2**40)
    named = [str(tmp_path / name) for name in ("pipe.jpg", "zero.jpg", "huge.jpg", "none.jpg")]
    unreadable = []
    (batch,) = image_batches.read_batches([*named, photos[0]], image_batches.BatchSize(8, 8), unreadable.append)
    reasons = ["is a named pipe, which is not opened", "is a device, which is not opened",
               "is a file of more than 512 MiB, which is not opened", "no such file"]  # fmt: skip
    assert unreadable == [f"{path}: {reason}" for path, reason in zip(named, reasons, strict=True)]
    assert [path for path, _ in batch] == [photos[0]]
