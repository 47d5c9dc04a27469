"""ImageNet's shards: recognised whoever dealt the images, counted by a few of them, the first held out as minival."""

import numpy as np
import pytest

from efficientnet_tpu.data.records.tfrecord_layout import shard_name
from tests.support.labelled_images import read_examples, write_shard

IMAGENET = {"train": (16, 203), "validation": (4, 15)}  # shards and images of a scaled-down ImageNet


def _filled_up(total, num_shards):
    """Sizes of the shards as the reference's converter deals the images."""
    size = -(-total // num_shards)
    return [len(range(total)[index * size : (index + 1) * size]) for index in range(num_shards)]


def _equal(threads):
    """Sizes of the shards as the older converter deals the images, each of its threads its range."""

    def sizes(total, num_shards):
        ranges = np.linspace(0, total, threads + 1).astype(int)
        borders = [
            np.linspace(*ranges[thread : thread + 2], num_shards // threads + 1).astype(int)
            for thread in range(threads)
        ]
        return np.concatenate([np.diff(border) for border in borders]).tolist()

    return sizes


@pytest.fixture
def imagenet(tf, tmp_path, monkeypatch):
    """imagenet(deal) -> a directory that looks like ImageNet's, its images dealt to the shards so."""
    from efficientnet_tpu.data.records import tfrecords

    monkeypatch.setattr(tfrecords, "IMAGENET", IMAGENET)

    def write(deal):
        for split, (num_shards, total) in IMAGENET.items():
            number = 0
            for index, size in enumerate(deal(total, num_shards)):
                examples = [(f"{split} {number + i}".encode(), (number + i) % 1000) for i in range(size)]
                write_shard(tf, tmp_path / shard_name(split, index, num_shards), examples)
                number += size
            assert number == total
        return tmp_path

    return write


@pytest.mark.parametrize(
    "deal", [_filled_up, _equal(1), _equal(2), _equal(4)], ids=["filled up", "1", "2", "4 threads"]
)
def test_imagenet_is_recognised_and_hardly_read(open_data, imagenet, deal, monkeypatch, capsys):
    from efficientnet_tpu.data.records import tfrecords

    counted = []
    read = tfrecords.read_contents
    monkeypatch.setattr(tfrecords, "read_contents", lambda path, keys: counted.append(path) or read(path, keys))
    data = open_data(data_dir=imagenet(deal))
    assert (data.train.num_images, data.validation.num_images) == (203, 15)
    assert len(data.label_names) == 1000
    assert 2 <= len(counted) <= 7
    assert "counting" not in capsys.readouterr().out
    # The counts are those of the shards: read through, no record is missing and none left over.
    for name, split in (("train", data.train), ("validation", data.validation)):
        examples = read_examples(split)
        assert examples == [(f"{name} {number}".encode(), number) for number in range(split.num_images)]


def test_shards_that_look_like_imagenet_and_are_not_are_counted(open_data, imagenet, capsys):
    data = open_data(data_dir=imagenet(lambda total, num_shards: [total - num_shards + 1] + [1] * (num_shards - 1)))
    assert (data.train.num_images, data.validation.num_images) == (203, 15)
    assert "counting the images in" in capsys.readouterr().out


def test_the_real_imagenet_needs_few_shards_to_be_counted():
    from efficientnet_tpu.data.records.imagenet_shard_counts import shard_counts

    for total, num_shards in ((1_281_167, 1024), (50_000, 128)):
        for deal in (_filled_up, *(_equal(threads) for threads in (1, 2, 4, 8, 16, 32, 64))):
            sizes, counted = deal(total, num_shards), []
            found = shard_counts(total, num_shards, lambda index: counted.append(index) or sizes[index])  # noqa: B023
            assert list(found) == sizes
            assert len(counted) <= 7
        assert shard_counts(total, num_shards, lambda index: 1251 if index % 2 else 7) is None


def test_the_papers_minival():
    """The reference: 20 of 1024 shards are 25,022 images, 1,256,145 are left."""
    from efficientnet_tpu.data.records.imagenet_shard_counts import shard_counts

    equal = _equal(1)(1_281_167, 1024)
    sizes = shard_counts(1_281_167, 1024, lambda index: equal[index])
    assert sizes[:3] == (1251, 1251, 1251)
    assert int(2 / 100 * 1024) == 20
    assert (sum(sizes[:20]), sum(sizes[20:])) == (25_022, 1_256_145)


@pytest.mark.slow
def test_minival_of_shards_is_the_first_whole_shards(open_data, imagenet):
    root = imagenet(_equal(1))
    sizes = _equal(1)(203, 16)
    for percent, num_shards in ((0.1, 1), (6.25, 1), (12.5, 2), (20, 3), (50, 8)):
        data = open_data(data_dir=root, minival_percent=percent)
        held_out = sum(sizes[:num_shards])
        assert (data.minival.num_images, data.train.num_images) == (held_out, 203 - held_out)
        assert [label for _, label in read_examples(data.minival)] == list(range(held_out))
        assert [label for _, label in read_examples(data.train)] == list(range(held_out, 203))
        assert len(read_examples(data.validation)) == 15
    whole = open_data(data_dir=root)
    assert whole.minival is None
    assert whole.fingerprint != data.fingerprint
