"""What --cache gives is the same from memory, a directory and without room; a directory heals, whatever happens."""

import errno
import os
import shutil

import numpy as np
import pytest

from tests.support.image_files import encode

SIZE = 16
KINDS = ("memory", "directory")


@pytest.fixture(scope="module")
def picture_cache(tf):
    from efficientnet_tpu.data.cache import picture_cache

    return picture_cache


@pytest.fixture(autouse=True)
def settled(picture_cache, monkeypatch):
    monkeypatch.setattr(picture_cache, "_SETTLED_SECONDS", 0.0)


def _photo(number, height=120, width=160):
    slopes = np.linspace(0, 255, width)[np.newaxis, :, np.newaxis] + np.zeros([height, 1, 3])
    return np.uint8((slopes + 20 * number) % 256)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three large photographs and a small one."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{number}.jpg" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(encode(_photo(number, *((30, 40) if number == 3 else ())), "JPEG"))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def rule(tf):
    from efficientnet_tpu.data.cache.reduced_picture import KeptReductions

    return KeptReductions(SIZE, 2, 0.08)


@pytest.fixture
def opened(picture_cache, rule, files, tmp_path):
    """opened(kind, budget=...) -> a cache of the files; that in a directory holds what earlier ones have kept."""

    def make(kind, budget=10**6, paths=files):
        if kind == "memory":
            return picture_cache.MemoryCache(paths, rule, picture_cache.Budget(budget))
        return picture_cache.DirectoryCache(paths, rule, str(tmp_path / "cache"), "rule")

    return make


@pytest.fixture(scope="module")
def content_of(tf):
    def content_of(cache, number):
        path = tf.constant(cache._paths[number])
        return cache.content(tf.constant(number, tf.int64), path).numpy()

    return content_of


def _entries(tmp_path):
    return sorted(path for path in (tmp_path / "cache").rglob("*-*") if path.is_file())


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_reduced_once_and_a_small_one_passed_on_bit_for_bit(opened, content_of, rule, files, kind):
    cache = opened(kind)
    with open(files[3], "rb") as file:
        small = file.read()
    with open(files[0], "rb") as file:
        large = rule.reduced(file.read())
    assert large
    for _ in range(2):
        assert content_of(cache, 0) == large
        assert content_of(cache, 3) == small
        assert cache.missing() == [1, 2]
        cache.make = None  # what is kept is read without Python


@pytest.mark.slow
def test_a_stream_is_the_same_from_memory_from_a_directory_and_without_room(tf, opened, files):
    from efficientnet_tpu.config.data import DataConfig
    from efficientnet_tpu.data.cache.cached_split import CachedSplit
    from efficientnet_tpu.data.input_pipeline import train_batches
    from efficientnet_tpu.data.preprocessing import make_train_image
    from efficientnet_tpu.data.sources.file_split import file_split

    plain = file_split([(path, number) for number, path in enumerate(files)])

    def stream(split):
        prepare = make_train_image(DataConfig(), SIZE, reduced=split.is_reduced)
        batches = train_batches(split, prepare, 4, seed=0).take(3).as_numpy_iterator()
        images, labels = zip(*batches, strict=True)
        return np.concatenate(images), np.concatenate(labels)

    caches = [opened("memory"), opened("memory", budget=0), opened("directory")]
    streams = [stream(CachedSplit(plain.path_tensor, plain.label_tensor, cache)) for cache in caches]
    expected_images, expected_labels = stream(plain)
    for images, labels in streams:
        np.testing.assert_array_equal(labels, expected_labels)
        np.testing.assert_array_equal(images, streams[0][0])
        np.testing.assert_array_equal(images[labels == 3], expected_images[labels == 3])  # the small photograph
        assert np.abs(images - expected_images.astype(int)).mean() < 6
    assert [len(cache.missing()) for cache in caches] == [0, 3, 0]
    assert opened("directory").missing() == [3]  # of which nothing is written


def test_memory_holds_what_its_budget_allows(opened, content_of):
    size = len(opened("memory").make(0))
    cache = opened("memory", budget=2 * size + size // 2)
    for number in (0, 1, 2, 3):
        content_of(cache, number)
    assert cache.missing() == [2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:600] + b"?" + path.read_bytes()[601:]),
        lambda path: path.unlink(),
        lambda path: shutil.rmtree(path.parents[2]),
    ],
    ids=["cut off", "empty", "a byte", "removed", "all removed"],
)
def test_what_is_damaged_or_gone_is_made_again_while_it_is_used(opened, content_of, tmp_path, damage):
    cache = opened("directory")
    before = content_of(cache, 0)
    (entry,) = _entries(tmp_path)
    damage(entry)
    assert content_of(cache, 0) == before
    assert content_of(opened("directory"), 0) == before
    assert [path.read_bytes() for path in _entries(tmp_path)] == [before]


def test_a_changed_file_is_another_even_with_its_size_and_time(opened, content_of, files, tmp_path):
    path = tmp_path / "photo.jpg"
    first, second = (encode(_photo(number), "JPEG", comment=b"") for number in (0, 5))
    path.write_bytes(first.ljust(len(second), b"\0"))
    before = path.stat()
    content = content_of(opened("directory", paths=[str(path)]), 0)
    cache = opened("directory", paths=[str(path)])
    assert cache.missing() == []
    path.write_bytes(second.ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert content_of(cache, 0) == content  # as it was when the run began
    changed = opened("directory", paths=[str(path)])
    assert changed.missing() == [0]
    assert content_of(changed, 0) != content


def test_what_changes_while_it_is_read_or_changed_just_now_is_not_kept(
    opened, content_of, picture_cache, files, tmp_path, monkeypatch
):
    path = tmp_path / "photo.jpg"
    shutil.copy(files[0], path)
    cache = opened("directory", paths=[str(path)])
    path.write_bytes(path.read_bytes())  # since the cache was opened
    assert content_of(cache, 0)
    assert _entries(tmp_path) == []
    monkeypatch.setattr(picture_cache, "_SETTLED_SECONDS", 3600.0)
    assert content_of(opened("directory"), 0)
    assert _entries(tmp_path) == []


def test_a_full_disk_is_said_once_and_the_run_goes_on(opened, content_of, picture_cache, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(picture_cache.cache_place, "write_entry", full)
    cache, memory = opened("directory"), opened("memory")
    for number in (0, 1, 0):
        assert content_of(cache, number) == content_of(memory, number)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "cannot be written: No space left on device. The run goes on" in said


def test_what_another_process_keeps_meanwhile_is_taken(opened, content_of, rule, monkeypatch):
    first, second = opened("directory"), opened("directory")
    content = content_of(first, 0)
    monkeypatch.setattr(type(rule), "reduced", None)
    assert content_of(second, 0) == content


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_what_it_is_without_a_cache(tf, opened, content_of, tmp_path, kind):
    whole = encode(_photo(0), "PNG")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    cache = opened(kind, paths=[str(tmp_path / "cut.png"), str(tmp_path / "none.png")])
    assert content_of(cache, 0) == whole[: len(whole) // 2]
    with pytest.raises(tf.errors.NotFoundError):
        content_of(cache, 1)
