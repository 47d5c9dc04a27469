"""Caches of a run: what is told before the start, what is refused, and when a cache is advised."""

import re
from collections import namedtuple

import pytest

from efficientnet_tpu.errors import UserError
from tests.support.image_files import encode, photo


@pytest.fixture(scope="module")
def open_cache(tf):
    from efficientnet_tpu.data.cache import open_cache

    return open_cache


@pytest.fixture(scope="module")
def split(tf, tmp_path_factory):
    """20 photographs, two of which are small."""
    from efficientnet_tpu.data.sources.file_split import file_split

    folder = tmp_path_factory.mktemp("photos")
    content = {size: encode(photo(*size), "JPEG") for size in ((30, 40), (120, 160))}
    for number in range(20):
        (folder / f"{number:02}.jpg").write_bytes(content[30, 40] if number in (7, 8) else content[120, 160])
    return file_split([(str(path), 0) for path in sorted(folder.iterdir())])


@pytest.fixture
def request_of(tf, open_cache):
    from efficientnet_tpu.data.preprocessing import Preparation

    def make(place, **options):
        return open_cache.CacheRequest(str(place), Preparation(16, 2), 0.08, "--data_dir=photos", **options)

    return make


@pytest.fixture
def settled(monkeypatch):
    from efficientnet_tpu.data.cache import picture_cache

    monkeypatch.setattr(picture_cache, "_SETTLED_SECONDS", 0.0)


@pytest.mark.slow
def test_what_is_kept_and_what_the_rest_takes_is_told(open_cache, split, request_of, settled, tmp_path):
    cached, notes = open_cache.with_caches({"train": split, "validation": split}, request_of(tmp_path / "cache"))
    assert [one.is_reduced for one in cached.values()] == [True, True]
    assert re.fullmatch(
        r"--cache=.*/cache: train: 0 of 20 images are kept; the others take about [0-9.]+ MB, \d+ kB a picture",
        notes[0],
    )
    assert notes[1].startswith(f"--cache={tmp_path}/cache: validation: 0 of 20 images are kept; ")
    _, notes = open_cache.with_caches({"train": split}, request_of(tmp_path / "cache"))
    assert ": train: 9 of 20 images are kept; " in notes[0]  # of 10 that were looked at, one is small
    _, notes = open_cache.with_caches({"train": split}, request_of("memory", memory=10**6))
    assert notes[-1] == "--cache=memory: at most 1.0 MB are taken, half of what is left beside training"
    _, notes = open_cache.with_caches({"train": split}, request_of("memory", memory=1))
    assert re.search(r"; images beyond that, of 0\.\d MB, are reduced anew every time$", notes[-1])


def test_a_disk_without_room_is_refused(open_cache, split, request_of, monkeypatch, tmp_path):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(open_cache.shutil, "disk_usage", lambda place: Usage(10**9, 10**9 - 500, 500))
    with pytest.raises(UserError, match=r"^--cache=.*: would take about 0\.\d MB more, and 0\.0 MB are free\."):
        open_cache.with_caches({"train": split}, request_of(tmp_path / "cache"))


def test_records_and_made_up_images_are_refused(open_cache, request_of):
    from efficientnet_tpu.config.data import DataConfig
    from efficientnet_tpu.data.datasets import open_data

    data = open_data(DataConfig(dataset="fake:2:4:2"))
    with pytest.raises(UserError, match=r"^--cache=memory: keeps pictures of image files, .* --max_side=32` writes"):
        open_cache.with_caches({"train": data.train}, request_of("memory"))


def test_relabelled_images_are_cached(tf, open_cache, split, request_of):
    from efficientnet_tpu.data.relabelled_split import RelabelledSplit

    relabelled = RelabelledSplit(split, tf.constant([3]))
    cached, _ = open_cache.with_caches({"train": relabelled}, request_of("memory", memory=10**6))
    content, label = cached["train"].load(tf.constant(0, tf.int64))
    assert open_cache.is_reduced_picture(content.numpy())
    assert int(label) == 3
    assert cached["train"].is_reduced
    assert not relabelled.is_reduced


def test_a_cache_is_advised_where_most_photographs_are_large(tf, open_cache, split, request_of):
    from efficientnet_tpu.data.sources.file_split import FileSplit

    advice = open_cache.cache_advice(split, request_of(""))
    assert re.match(r"the training images have about 0\.0 megapixels, .* --cache=memory or --cache=DIR", advice)
    small = FileSplit(tf.gather(split.path_tensor, [7, 8, 0]), split.label_tensor[:3])
    assert open_cache.cache_advice(small, request_of("")) == ""
