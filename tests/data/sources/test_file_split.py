"""Files as a split: order and places; and which of them are held out."""

import itertools
import zlib

import numpy as np
import pytest

NUM_IMAGES = 23


@pytest.fixture(scope="module")
def split(tf, tmp_path_factory):
    from efficientnet_tpu.data.sources.file_split import file_split

    root = tmp_path_factory.mktemp("files")
    for index in range(NUM_IMAGES):
        (root / f"{index:02d}.jpg").write_bytes(f"content {index}".encode())
    return file_split([(f"{root}/{index:02d}.jpg", index % 3) for index in range(NUM_IMAGES)])


def _passes(tf, split, shard, orders, firsts=(0,)):
    """(order, first) -> the images' numbers, by file content; labels are checked. Inside tf.data's functions."""
    found = {}
    for stored, group in itertools.groupby(orders, lambda order: order is None):
        starts = list(itertools.product(group, firsts))

        def one_pass(order, first, stored=stored):
            handles = split.handles(shard, None if stored else order, first).map(split.load)
            nothing = tf.data.Dataset.from_tensors((tf.constant([], tf.string), tf.constant([], tf.int32)))
            return handles.batch(1000).concatenate(nothing).take(1)

        tensors = ([order or [0, 0] for order, _ in starts], [first for _, first in starts])
        dataset = tf.data.Dataset.from_tensor_slices(tuple(tf.constant(values, tf.int64) for values in tensors))
        for start, (contents, labels) in zip(starts, dataset.flat_map(one_pass).as_numpy_iterator(), strict=True):
            numbers = [int(content.split()[1]) for content in contents]
            assert labels.tolist() == [number % 3 for number in numbers]
            found[str(start[0]), start[1]] = numbers
    return found


@pytest.mark.parametrize("count", [1, 4])
def test_hosts_share_out_every_image_once_in_every_epoch_and_begin_anywhere(tf, split, count):
    from efficientnet_tpu.data.split import HostShard

    orders = [None, [0, 0], [0, 1], [9, 0]]
    seen = {}
    for index in range(count):
        shard = HostShard(index, count)
        total = shard.num_images(NUM_IMAGES)
        passes = _passes(tf, split, shard, orders, range(total + 1))
        for order in map(str, orders):
            whole = passes[order, 0]
            assert len(whole) == total
            assert all(passes[order, first] == whole[first:] for first in range(total + 1))
            seen.setdefault(order, []).append(whole)
    everything = list(range(NUM_IMAGES))
    assert all(sorted(itertools.chain(*parts)) == everything for parts in seen.values())
    assert seen["None"] == [everything[index::count] for index in range(count)]
    assert len({str(parts) for parts in seen.values()}) == len(orders)


def test_locate_names_the_file(tf, split):
    from efficientnet_tpu.data.split import HostShard

    shard = HostShard(1, 2)
    for order in (None, [3, 4]):
        numbers = _passes(tf, split, shard, [order])[str(order), 0]
        tensor = None if order is None else tf.constant(order, tf.int64)
        names = [split.locate(shard, tensor, position) for position in range(len(numbers))]
        assert [name.rpartition("/")[2] for name in names] == [f"{number:02d}.jpg" for number in numbers]


def test_a_missing_file_is_refused_by_load_alone(tf):
    from efficientnet_tpu.data.sources.file_split import file_split
    from efficientnet_tpu.data.split import HostShard

    split = file_split([("/none/a.jpg", 0), ("/none/b.jpg", 1)])
    assert len(list(split.handles(HostShard(), None))) == 2
    with pytest.raises(tf.errors.NotFoundError, match="/none/a"):
        split.load(tf.constant(0, tf.int64))


def _hold_out(splits, minival_percent, validation_percent=20, base="/data", by="class"):
    from efficientnet_tpu.data.sources.labelled_files import LabelledFiles

    files = LabelledFiles(("a", "b", "c"), splits).with_held_out(base, base, validation_percent, minival_percent, by)
    return files.splits


EXAMPLES = tuple(
    sorted((f"/data/{name}/{index:04d}.jpg", label) for label, name in enumerate("abc") for index in range(800))
)


def test_minival_is_a_share_of_the_training_images_independent_of_validation():
    both = _hold_out({"train": EXAMPLES}, 10)
    assert sorted(itertools.chain(*both.values())) == list(EXAMPLES)
    assert both["validation"] == _hold_out({"train": EXAMPLES}, 0)["validation"]
    rest = len(EXAMPLES) - len(both["validation"])
    assert len(both["minival"]) / rest == pytest.approx(0.1, abs=0.02)
    # Had validation been chosen by the same numbers, or after them, these would be empty or the same.
    alone = set(_hold_out({"train": EXAMPLES, "validation": EXAMPLES[:3]}, 20)["minival"])
    overlap = len(alone & set(both["validation"])) / len(alone)
    assert overlap == pytest.approx(0.2, abs=0.05)


def test_a_part_of_a_percent():
    examples = tuple((f"/data/{index}", 0) for index in range(20_000))
    assert len(_hold_out({"train": examples}, 0.5, 1)["minival"]) == pytest.approx(100, abs=30)


@pytest.mark.parametrize(("by", "moved"), [("name", 0), ("class", 20)])
def test_images_stay_in_minival_when_others_come(by, moved):
    before = _hold_out({"train": EXAMPLES}, 5, by=by)
    more = tuple(sorted((*EXAMPLES, *((f"/data/a/new-{index}.jpg", 0) for index in range(50)))))
    after = _hold_out({"train": more}, 5, by=by)
    for name, examples in before.items():
        assert len(set(examples) - set(after[name])) <= moved


@pytest.mark.parametrize(("sizes", "validation"), [
    ((12, 12, 12), (3, 3, 3)),  # a hash below 20 had 6 of 60 such images, and of some classes one
    ((40, 40, 40), (8, 8, 8)),
    ((333, 333, 333), (67, 67, 67)),
    ((334, 333, 333), (34, 34, 34)),
    ((5000, 50, 5), (500, 5, 1)),
    ((2, 3, 1), (1, 1, 0)),
])  # fmt: skip
def test_the_share_left_out_is_of_every_class_and_larger_for_few_images(sizes, validation):
    examples = tuple((f"/data/{label}/{index}", label) for label, size in enumerate(sizes) for index in range(size))
    labels = [label for _, label in _hold_out({"train": examples}, 0, None)["validation"]]
    assert tuple(map(labels.count, range(3))) == validation


def test_by_name_the_share_is_what_earlier_versions_held_out():
    """CRC32 of the path below the folder, below 20 of 100."""
    held_out = _hold_out({"train": EXAMPLES}, 0, by="name")["validation"]
    assert held_out == tuple(
        example for example in EXAMPLES if zlib.crc32(example[0].removeprefix("/data/").encode()) % 100 < 20
    )


def test_without_minival_there_is_no_such_split():
    assert _hold_out({"train": EXAMPLES}, 0).keys() == {"train", "validation"}


@pytest.mark.parametrize("percent", [0.1, 50])
def test_minival_has_every_class_and_leaves_every_class(percent):
    examples = tuple((f"/data/{index}", index % 3) for index in range(36))
    splits = _hold_out({"train": examples}, percent)
    for held in splits.values():
        assert {label for _, label in held} == {0, 1, 2}


def test_too_few_images_for_minival():
    from efficientnet_tpu.errors import UserError

    examples = tuple((f"/data/{index}", index % 2) for index in range(4))
    with pytest.raises(UserError, match="2 images, one of each class, leave none to hold out by --minival_percent"):
        _hold_out({"train": examples}, 10)


def test_memory_of_a_million_names_is_bounded(tf):
    """Paths and labels are held once, as tensors: about 100 bytes each."""
    from efficientnet_tpu.data.sources.file_split import file_split

    split = file_split([(f"/data/class/{index:020d}.jpg", 0) for index in range(10_000)])
    assert split.paths().dtype == tf.string
    assert split.labels().dtype == tf.int32
    assert np.prod(split.paths().shape) == split.num_images == 10_000
