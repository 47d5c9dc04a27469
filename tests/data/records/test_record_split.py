"""Records in shards: which record comes when, on which host, wherever a pass begins and whatever is damaged."""

import itertools
import pathlib
import random

import numpy as np
import pytest

PARALLEL = 4  # slices in a group, so that small sets have several


@pytest.fixture(scope="module")
def module(tf):
    from efficientnet_tpu.data.records import record_split

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_split, "PARALLEL_SHARDS", PARALLEL)
        yield record_split


@pytest.fixture(scope="module")
def write(tf, module, tmp_path_factory):
    """write(sizes, shuffle_buffer) -> a RecordSplit over shards of these sizes. Records tell where they are."""
    root = tmp_path_factory.mktemp("shards")
    numbers = itertools.count()

    def write_split(sizes, shuffle_buffer=7, parse=None):
        folder = root / str(next(numbers))
        folder.mkdir()
        slices = []
        for index, size in enumerate(sizes):
            path = str(folder / f"train-{index:05d}-of-{len(sizes):05d}")
            with tf.io.TFRecordWriter(path) as writer:
                for record in range(size):
                    writer.write(f"train-{index:05d}-of-{len(sizes):05d} record {record}".encode())
            slices.append(module.RecordRange(path, 0, size))
        return module.RecordSplit(tuple(slices), parse, shuffle_buffer)

    return write_split


def _stored(split):
    """What `split` holds, in stored order."""
    return [f"{part.path.rpartition('/')[2]} record {part.skip + i}" for part in split.ranges for i in range(part.take)]


def _passes(tf, split, shard, orders=(None,), firsts=(0,)):
    """(order, first) -> the handles as text. Built once and run in tf.data's functions, as the input pipeline does."""
    found = {}
    for stored in {order is None for order in orders}:
        starts = [(order, first) for order, first in itertools.product(orders, firsts) if (order is None) == stored]

        def one_pass(order, first, stored=stored):
            handles = split.handles(shard, None if stored else order, first)
            return handles.batch(10**6).concatenate(tf.data.Dataset.from_tensors(tf.constant([], tf.string))).take(1)

        tensors = ([order or [0, 0] for order, _ in starts], [first for _, first in starts])
        dataset = tf.data.Dataset.from_tensor_slices(tuple(tf.constant(values, tf.int64) for values in tensors))
        for (order, first), texts in zip(starts, dataset.flat_map(one_pass).as_numpy_iterator(), strict=True):
            found[str(order), first] = [text.decode() for text in texts]
    return found


def _shards(module, count):
    return [module.HostShard(index, count) for index in range(count)]


@pytest.mark.parametrize("count", [1, 4])
def test_hosts_share_out_every_record_once_in_every_epoch(tf, module, write, count):
    split = write([5, 9, 1, 4, 12, 3, 8, 2, 6, 7], shuffle_buffer=5)
    seen = {}
    for shard in _shards(module, count):
        passes = _passes(tf, split, shard, [None, [0, 0], [0, 1], [9, 0]])
        for (order, _), texts in passes.items():
            assert len(texts) == shard.num_images(split.num_images)
            seen.setdefault(order, []).extend(texts)
        assert len({tuple(texts) for texts in passes.values()}) == 4  # another epoch and another seed, another order
        assert len({frozenset(texts) for texts in passes.values()}) == 1  # of the same part
    assert seen.pop("None") == _stored(split)
    for texts in seen.values():
        assert sorted(texts) == sorted(_stored(split))


@pytest.mark.parametrize(
    ("num_shards", "count", "buffer"),
    [
        (1, 1, 4),
        pytest.param(10, 1, 10, marks=pytest.mark.slow),
        pytest.param(13, 2, 1000, marks=pytest.mark.slow),
        (9, 3, 6),
    ],
)
def test_a_pass_begun_anywhere_is_the_tail_of_the_whole(tf, module, write, num_shards, count, buffer):
    generator = random.Random(num_shards)
    split = write([generator.randint(1, 12) for _ in range(num_shards)], buffer)
    for shard in _shards(module, count):
        total = shard.num_images(split.num_images)
        orders = [None, [1, 2]]
        passes = _passes(tf, split, shard, orders, range(total + 1))
        for order in orders:
            whole = passes[str(order), 0]
            assert len(whole) == total
            for first in range(total + 1):
                assert passes[str(order), first] == whole[first:], first


@pytest.mark.slow
def test_the_place_of_a_record_is_found_without_reading_the_others(tf, module, write):
    """The computation in Python against what TensorFlow's interleaving and shuffling do, over random layouts."""
    generator = random.Random(5)
    for num_shards, count, buffer in ((1, 1, 3), (2, 1, 1000), (7, 3, 4), (11, 1, 9), (9, 2, 1)):
        split = write([generator.randint(1, 15) for _ in range(num_shards)], buffer)
        shard = module.HostShard(generator.randrange(count), count)
        orders = [None, [generator.randrange(100), generator.randrange(100)]]
        passes = _passes(tf, split, shard, orders)
        for order in orders:
            texts, tensor = passes[str(order), 0], None if order is None else tf.constant(order, tf.int64)
            for position in generator.sample(range(len(texts)), min(8, len(texts))):
                assert split.locate(shard, tensor, position) == texts[position]


def test_order_comes_of_seed_and_epoch_alone(tf, module, write):
    split = write([6] * 9)
    first = _passes(tf, split, module.HostShard(), [[1, 2]])
    tf.random.set_seed(77)
    assert _passes(tf, split, module.HostShard(), [[1, 2]]) == first


def test_an_epoch_mixes_shards_and_the_stored_order_does_not(tf, module, write):
    """Neighbours from the same shard: 1 in 8 of an even mixture of 4 shards at least, nearly all in stored order."""
    sizes = [40] * 16
    split = write(sizes, shuffle_buffer=64)
    passes = _passes(tf, split, module.HostShard(), [None, [0, 0]])
    same = {
        order: np.mean([one.split()[0] == other.split()[0] for one, other in itertools.pairwise(texts)])
        for (order, _), texts in passes.items()
    }
    assert same["None"] > 0.95
    assert same["[0, 0]"] < 0.35
    # Whole shards are mixed: the first quarter of an epoch has images of the set's last shards too.
    places = [int(text[6:11]) for text in passes["[0, 0]", 0]]
    quarters = [set(places[start : start + 160]) for start in range(0, 640, 160)]
    assert all(min(quarter) < 8 <= max(quarter) for quarter in quarters)
    # And a record's place in its shard says little about when it comes.
    records = np.array([int(text.split()[-1]) for text in passes["[0, 0]", 0]][:160])
    assert abs(np.corrcoef(np.arange(160), records)[0, 1]) < 0.95
    assert (np.diff(records) < 0).mean() > 0.3


def test_shards_before_the_first_group_are_not_opened(tf, module, write, monkeypatch):
    split = write([5] * 20, shuffle_buffer=3)
    opened = []

    def spying(path, skip, take, compression, read=module.read_range):
        path = tf.ensure_shape(tf.py_function(lambda path: opened.append(path.numpy()) or path, [path], tf.string), [])
        return read(path, skip, take, compression)

    monkeypatch.setattr(module, "read_range", spying)
    order = [[0, 0]]
    counts = []
    for first in (0, 21, 61, 99):
        opened.clear()
        _passes(tf, split, module.HostShard(), order, [first])
        counts.append(len(opened))
    assert counts == [20, 16, 8, 4]  # 5 groups of 4 shards with 20 records


@pytest.mark.parametrize("total", [1, 3, 10, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 128])
def test_parts_are_contiguous_ranges_of_equal_size(module, total, count):
    generator = random.Random(total)
    slices, left = [], total
    while left:
        take = generator.randint(1, left)
        slices.append(module.RecordRange(f"{len(slices)}", generator.randint(0, 3), take))
        left -= take
    parts = [module.host_part(slices, shard) for shard in _shards(module, count)]
    sizes = [sum(one.take for one in part) for part in parts]
    assert sizes == [shard.num_images(total) for shard in _shards(module, count)]
    assert max(sizes) - min(sizes) <= 1
    records = lambda slices: [(one.path, one.skip + i) for one in slices for i in range(one.take)]  # noqa: E731
    assert [record for part in parts for record in records(part)] == records(slices)


def test_shards_on_another_file_system(tf, module):
    paths = [f"ram://test_record_split/{index}" for index in range(3)]
    for path in paths:
        with tf.io.TFRecordWriter(path) as writer:
            for record in range(4):
                writer.write(f"{path[-1]} record {record}".encode())
    split = module.RecordSplit(tuple(module.RecordRange(path, 0, 4) for path in paths), None, 5)
    passes = _passes(tf, split, module.HostShard(), [None, [0, 0]])
    assert passes["None", 0] == _stored(split) != passes["[0, 0]", 0]
    assert split.locate(module.HostShard(), tf.constant([0, 0], tf.int64), 7) == passes["[0, 0]", 0][7]


def test_more_hosts_than_records(tf, module, write):
    split = write([1, 1])
    texts = [_passes(tf, split, shard, [None, [0, 0]]) for shard in _shards(module, 3)]
    for order in ("None", "[0, 0]"):
        assert sorted(itertools.chain(*(passes[order, 0] for passes in texts))) == _stored(split)
    assert list(texts[2].values()) == [[], []]


def _damage(path, kind):
    """Spoils record 2 of 6. Returns the number of the first record that is lost."""
    content = bytearray(path.read_bytes())
    size = len(content) // 6
    ends = {
        "cut off": 2 * size + 20,
        "cut off in the length": 2 * size + 5,
        "cut off between records": 2 * size,
        "empty": 0,
    }
    flips = {"data": 20, "length": 0, "checksum of the length": 9, "checksum of the data": size - 1}
    if kind == "missing":
        path.unlink()
        return 0
    if kind in flips:
        content[2 * size + flips[kind]] ^= 1
    path.write_bytes(content[: ends.get(kind)])
    return 0 if kind == "empty" else 2


DAMAGES = {
    "data": "has a wrong checksum in record 2, at byte {:,}",
    "length": "has a wrong checksum in record 2, at byte {:,}",
    "checksum of the length": "has a wrong checksum in record 2, at byte {:,}",
    "checksum of the data": "has a wrong checksum in record 2, at byte {:,}",
    "cut off": "is cut off inside of record 2, at byte {:,}",
    "cut off in the length": "is cut off inside of record 2, at byte {:,}",
    "cut off between records": "ends after 2 records, at byte {:,}",
    "empty": "ends after 0 records, at byte 0",
    "missing": "cannot be read: ",
}


ORDERS, FIRSTS = [None, [0, 0], [0, 1]], [0, 7, 11]


@pytest.fixture(scope="module")
def intact(tf, module, write):
    """A split whose middle shard two hosts share, and the passes of both over it."""
    split = write([6] * 5, shuffle_buffer=4)
    return split, [_passes(tf, split, shard, ORDERS, FIRSTS) for shard in _shards(module, 2)]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_shard_leaves_all_others_in_their_places(tf, module, intact, kind):
    split, before = intact
    path = pathlib.Path(split.ranges[2].path)
    content = path.read_bytes()
    module.readable_records.cache_clear()
    try:
        lost_from = _damage(path, kind)
        after = [_passes(tf, split, shard, ORDERS, FIRSTS) for shard in _shards(module, 2)]
        order, host = tf.constant([0, 0], tf.int64), module.HostShard(1, 2)
        texts = before[1]["[0, 0]", 0]
        words = split.locate(host, order, texts.index(f"{path.name} record 5"))
    finally:
        path.write_bytes(content)
    lost = {f"{path.name} record {record}" for record in range(lost_from, 6)}
    for passes, found in zip(before, after, strict=True):
        assert found == {start: ["" if text in lost else text for text in texts] for start, texts in passes.items()}
    reason = DAMAGES[kind].format(2 * len(content) // 6)
    assert words.startswith(f"{path.name} record 5: the file {reason}")


def test_a_record_of_an_intact_shard_is_not_blamed(tf, module, write):
    split = write([6] * 2)
    assert split.locate(module.HostShard(), None, 8) == "train-00001-of-00002 record 2"


def _example(tf, encoded, label):
    from efficientnet_tpu.data.records.tfrecord_layout import ENCODED_KEY, LABEL_KEY

    example = tf.train.Example()
    example.features.feature[ENCODED_KEY].bytes_list.value.append(encoded)
    example.features.feature[LABEL_KEY].int64_list.value.append(label)
    return example.SerializeToString()


def test_load_gives_content_and_label_and_refuses_what_is_not_there(tf, module):
    from efficientnet_tpu.data.records.record_keys import RecordKeys

    split = module.RecordSplit((), RecordKeys().parse, 1)
    load = tf.function(split.load)
    encoded, label = load(tf.constant(_example(tf, b"bytes", 3)))
    assert (encoded.numpy(), label.numpy(), label.dtype) == (b"bytes", 2, tf.int32)
    for record, words in (
        (b"", "damaged or missing"),
        (_example(tf, b"bytes", 0), "no label of a class"),
        (b"rubbish", "required but could not be found"),
    ):
        for run in (load, split.load):
            with pytest.raises(tf.errors.InvalidArgumentError, match=words):
                run(tf.constant(record))
    dataset = tf.data.Dataset.from_tensor_slices([b"", _example(tf, b"a", 1), b""]).map(split.load, 2).ignore_errors()
    assert [(encoded, int(label)) for encoded, label in dataset.as_numpy_iterator()] == [(b"a", 0)]
