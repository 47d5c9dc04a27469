"""Made-up images: as many as asked for, the same every time, and such that decoding them costs what photographs do."""

import itertools
import re

import pytest

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.errors import UserError


@pytest.fixture(scope="module")
def open_fake(tf):
    from efficientnet_tpu.data.datasets import open_data

    return lambda dataset, **options: open_data(DataConfig(dataset=dataset, **options))


@pytest.mark.parametrize(
    ("dataset", "sizes"),
    [
        ("fake", (1000, 1_281_167, 50_000)),
        ("fake:10", (10, 1_281_167, 50_000)),
        ("fake:10:600", (10, 600, 50_000)),
        ("fake:10:600:100", (10, 600, 100)),
        ("fake:2:1:1", (2, 1, 1)),
    ],
)
def test_the_name_says_how_many(open_fake, dataset, sizes):
    data = open_fake(dataset)
    assert (len(data.label_names), data.train.num_images, data.validation.num_images) == sizes
    assert len(set(data.label_names)) == sizes[0]


@pytest.mark.parametrize(
    "dataset",
    ["fake:ten", "fake:10:", "fake:0", "fake:10:0", "fake:-1", "fake:1.5", "fake:1:2:3:4", "fake:10 "],
)
def test_names_that_are_refused(open_fake, dataset):
    with pytest.raises(
        UserError, match=re.escape(f"--dataset={dataset}: must be fake, or fake:CLASSES:TRAIN:VALIDATION")
    ):
        open_fake(dataset)


def test_one_class_is_refused(open_fake):
    with pytest.raises(UserError, match="--dataset=fake:1: has one class"):
        open_fake("fake:1")


def _examples(tf, split, shard, order):
    return list(split.handles(shard, order).map(split.load).as_numpy_iterator())


def test_images_are_photographs_in_size_and_the_same_every_time(tf, open_fake):
    from efficientnet_tpu.data.split import HostShard

    train = open_fake("fake:10:100:30").train
    examples = _examples(tf, train, HostShard(), None)
    assert [label for _, label in examples] == [index % 10 for index in range(100)]
    files = {content for content, _ in examples}
    assert len(files) == 16
    for content in files:
        assert 60_000 < len(content) < 150_000  # ImageNet's mean: 110 kB
        assert tf.io.is_jpeg(content)
        assert tf.io.decode_jpeg(content).shape == (375, 500, 3)
    tf.random.set_seed(5)
    assert _examples(tf, open_fake("fake:10:100:30").train, HostShard(), None) == examples


def test_hosts_share_them_out(tf, open_fake):
    from efficientnet_tpu.data.split import HostShard

    train = open_fake("fake:7:50:7").train
    orders = [None, tf.constant([0, 0], tf.int64), tf.constant([0, 1], tf.int64)]
    for order in orders:
        shards = [list(train.handles(HostShard(index, 4), order).as_numpy_iterator()) for index in range(4)]
        assert sorted(itertools.chain(*shards)) == list(range(50))
        tail = list(train.handles(HostShard(1, 4), order, 5).as_numpy_iterator())
        assert tail == shards[1][5:]
        assert train.locate(HostShard(1, 4), order, 5) == f"fake image {tail[0]}"
    assert len({tuple(train.handles(HostShard(), order).as_numpy_iterator()) for order in orders}) == 3


def test_minival(open_fake):
    data = open_fake("fake:10:1000:50", minival_percent=2.5)
    assert (data.train.num_images, data.minival.num_images, data.validation.num_images) == (975, 25, 50)
    assert open_fake("fake:10:1000:50").fingerprint != data.fingerprint
