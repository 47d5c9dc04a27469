"""The stream of batches: every image once an epoch, the same stream wherever it is entered and whoever prepares it."""

import itertools

import numpy as np
import pytest

NUM_IMAGES = 13
BATCH_SIZE = 4
SIZE = 8
SOURCES = ("folder", "tfrecords")
# What the stream does with any source: of two, one in the fast suite.
ONE_SOURCE = [pytest.param("folder", marks=pytest.mark.slow), "tfrecords"]


@pytest.fixture(scope="module")
def pipeline(tf):
    from efficientnet_tpu.data import input_pipeline

    return input_pipeline


def _pixels(index):
    """Grey level 10 * index in red and green; noise in blue, which only a crop or a flip moves."""
    pixels = np.random.default_rng(index).integers(0, 256, (12, 12, 3), np.uint8)
    pixels[..., :2] = 10 * index
    return pixels


@pytest.fixture(scope="module")
def splits(tf, tmp_path_factory):
    """13 images, image i all of grey level 10 * i, label i % 2: as files of a folder, and as TFRecords in 3 shards."""
    from efficientnet_tpu.config.data import DataConfig
    from efficientnet_tpu.data import datasets
    from efficientnet_tpu.data.records.tfrecord_layout import ENCODED_KEY, LABEL_KEY

    folder, shards = tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("shards")
    contents = [tf.io.encode_png(_pixels(index)).numpy() for index in range(NUM_IMAGES)]
    for index, content in enumerate(contents):
        for split in ("train", "validation"):
            path = folder / split / "ab"[index % 2] / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for split, shard in itertools.product(("train", "validation"), range(3)):
        with tf.io.TFRecordWriter(str(shards / f"{split}-{shard:05d}-of-00003")) as writer:
            for index in range(shard, NUM_IMAGES, 3):
                example = tf.train.Example()
                example.features.feature[ENCODED_KEY].bytes_list.value.append(contents[index])
                example.features.feature[LABEL_KEY].int64_list.value.append(1 + index % 2)
                writer.write(example.SerializeToString())
    # A buffer smaller than the data, so that its blocks matter.
    return {
        name: datasets.open_data(DataConfig(data_dir=str(path), shuffle_buffer=5))
        for name, path in zip(SOURCES, (folder, shards), strict=True)
    }


@pytest.fixture
def stream(pipeline, splits):
    """stream(source, first_image=..., ...) -> endless training batches (images, labels) as arrays."""
    from efficientnet_tpu.data.decoding.image_format import AS_STORED
    from efficientnet_tpu.data.preprocessing import Preparation, train_image

    def prepare(encoded, seed):
        return train_image(encoded, seed, Preparation(SIZE, 0, AS_STORED), crop_min_area=0.3, flip=True)

    def batches(source, first_image=0, seed=3, shard=None, batch_size=BATCH_SIZE):
        shard = shard or pipeline.HostShard()
        dataset = pipeline.train_batches(splits[source].train, prepare, batch_size, seed, first_image, shard)
        return dataset.as_numpy_iterator()

    return batches


@pytest.fixture
def evaluation(pipeline, splits):
    """evaluation(source, batch_size, num_batches, shard) -> a dataset of (images, labels, weights)."""
    from efficientnet_tpu.data.decoding.image_format import AS_STORED
    from efficientnet_tpu.data.preprocessing import Preparation, eval_image

    def batches(source, batch_size, num_batches, shard=None):
        shard = shard or pipeline.HostShard()
        prepare = lambda encoded: eval_image(encoded, Preparation(SIZE, 0, AS_STORED))  # noqa: E731
        return pipeline.eval_batches(splits[source].validation, prepare, SIZE, batch_size, num_batches, shard)

    return batches


def _take(batches, count):
    """Images and labels of `count` batches, the batches joined."""
    images, labels = zip(*itertools.islice(batches, count), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _numbers(images):
    """Which of the images these are."""
    assert (images[..., 0] == images[:, :1, :1, 0]).all()
    return (images[:, 0, 0, 0] // 10).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("source", ONE_SOURCE)
def test_a_stream_entered_anywhere_is_the_tail_of_the_whole(stream, source):
    images, labels = _take(stream(source), 12)  # nearly 4 epochs
    for first in (4, 12, 13, 16, 40):  # in the first epoch, at an epoch's edge, in later ones
        tail_images, tail_labels = _take(stream(source, first_image=first), 2)
        np.testing.assert_array_equal(tail_images, images[first : first + 8])
        np.testing.assert_array_equal(tail_labels, labels[first : first + 8])


@pytest.mark.parametrize("source", SOURCES)
def test_every_image_comes_once_an_epoch_in_another_order_with_its_label(stream, source):
    images, labels = _take(stream(source), NUM_IMAGES)  # batches run on across the edges: 4 epochs
    numbers = _numbers(images)
    assert labels.tolist() == [number % 2 for number in numbers]
    assert labels.dtype == np.int32
    epochs = [tuple(numbers[start : start + NUM_IMAGES]) for start in range(0, 4 * NUM_IMAGES, NUM_IMAGES)]
    assert all(sorted(epoch) == list(range(NUM_IMAGES)) for epoch in epochs)
    assert len(set(epochs)) == 4
    assert all(epoch != tuple(sorted(epoch)) for epoch in epochs)


@pytest.mark.parametrize("source", ONE_SOURCE)
def test_an_image_is_cropped_otherwise_in_every_epoch(stream, source):
    images, _ = _take(stream(source), NUM_IMAGES)
    numbers = _numbers(images)
    seen = [images[position].tobytes() for position, number in enumerate(numbers) if number == 5]
    assert len(set(seen)) == len(seen) == 4


def test_no_two_images_share_their_draws(pipeline, splits):
    """Not in an epoch, not in the next one, not on another host."""
    draws = []
    for index in range(2):
        shard = pipeline.HostShard(index, 2)
        dataset = pipeline.train_batches(splits["folder"].train, lambda encoded, seed: seed, 4, 0, 0, shard)
        draws += [tuple(seed) for seeds, _ in dataset.take(5).as_numpy_iterator() for seed in seeds]
    assert len(set(draws)) == len(draws) == 40


@pytest.mark.slow
@pytest.mark.parametrize("source", ONE_SOURCE)
def test_the_seed_decides_order_and_draws(tf, stream, source):
    first, _ = _take(stream(source), 4)
    tf.random.set_seed(77)
    np.testing.assert_array_equal(_take(stream(source), 4)[0], first)
    other, _ = _take(stream(source, seed=4), 4)
    assert _numbers(other) != _numbers(first)


@pytest.mark.slow
@pytest.mark.parametrize("source", ONE_SOURCE)
def test_shards_share_out_the_images(pipeline, stream, source):
    shards = [pipeline.HostShard(index, 4) for index in range(4)]
    streams = [_take(stream(source, shard=shard, batch_size=1), 2 * shard.num_images(NUM_IMAGES)) for shard in shards]
    for epoch in range(2):
        counts = [(shard.num_images(NUM_IMAGES), images) for shard, (images, _) in zip(shards, streams, strict=True)]
        numbers = [_numbers(images[epoch * count : (epoch + 1) * count]) for count, images in counts]
        assert sorted(itertools.chain(*numbers)) == list(range(NUM_IMAGES))
    tail = _take(stream(source, shard=shards[1], batch_size=1, first_image=4), 2)[0]
    np.testing.assert_array_equal(tail, streams[1][0][4:])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 13, 20])
@pytest.mark.parametrize("total", [1, 12, 13])
def test_shards_hold_every_count_th_image(pipeline, count, total):
    sizes = [pipeline.HostShard(index, count).num_images(total) for index in range(count)]
    assert sizes == [len(range(index, total, count)) for index in range(count)]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("batch_size", "num_batches"), [(13, 1), (5, 3), (4, 6), (1, 13), (20, 1)])
def test_evaluation_sees_every_image_once_and_weighs_padding_zero(evaluation, source, batch_size, num_batches):
    batches = list(evaluation(source, batch_size, num_batches).as_numpy_iterator())
    assert len(batches) == num_batches
    assert all(images.shape == (batch_size, SIZE, SIZE, 3) for images, _, _ in batches)
    images, labels, weights = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert (images.dtype, labels.dtype, weights.dtype) == (np.uint8, np.int32, np.float32)
    assert weights.tolist() == [1.0] * NUM_IMAGES + [0.0] * (batch_size * num_batches - NUM_IMAGES)
    numbers = _numbers(images[:NUM_IMAGES])
    assert sorted(numbers) == list(range(NUM_IMAGES))
    assert labels[:NUM_IMAGES].tolist() == [number % 2 for number in numbers]
    assert not images[NUM_IMAGES:].any()
    assert not labels[NUM_IMAGES:].any()


@pytest.mark.slow
@pytest.mark.parametrize("source", ONE_SOURCE)
def test_evaluation_shards_share_out_the_images_in_as_many_batches(pipeline, evaluation, source):
    numbers = []
    for index in range(4):
        batches = list(evaluation(source, 2, 2, pipeline.HostShard(index, 4)).as_numpy_iterator())
        assert len(batches) == 2
        numbers += [number for images, _, weights in batches for number in _numbers(images[weights == 1])]
    assert sorted(numbers) == list(range(NUM_IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_the_order_does_not_depend_on_the_number_of_threads(tf, pipeline, splits, evaluation, source):
    from efficientnet_tpu.data.decoding.image_format import AS_STORED
    from efficientnet_tpu.data.preprocessing import Preparation, train_image

    def with_threads(dataset, count):
        options = tf.data.Options()
        options.threading.private_threadpool_size = count
        return dataset.with_options(options).as_numpy_iterator()

    def training():
        prepare = lambda encoded, seed: train_image(encoded, seed, Preparation(SIZE, 0, AS_STORED), 0.3, flip=True)  # noqa: E731
        return pipeline.train_batches(splits[source].train, prepare, BATCH_SIZE, 0, 0, pipeline.HostShard()).take(8)

    for dataset in (training(), evaluation(source, 5, 3)):
        one, four = (list(with_threads(dataset, count)) for count in (1, 4))
        for batch, other in zip(one, four, strict=True):
            for part, other_part in zip(batch, other, strict=True):
                np.testing.assert_array_equal(part, other_part)
