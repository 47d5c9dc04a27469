"""Images under the labels of a run: the same images in the same order, and only their labels are others."""

import numpy as np
import pytest

from tests.support.labelled_images import read_examples, write_shard


@pytest.fixture(scope="module", params=["files", "records"])
def data(tf, request, tmp_path_factory):
    """Three classes, two images each, of files or of records."""
    from efficientnet_tpu.data.records.record_keys import RecordKeys
    from efficientnet_tpu.data.records.record_split import RecordRange, RecordSplit
    from efficientnet_tpu.data.sources.file_split import file_split
    from efficientnet_tpu.data.split import ImageData

    root = tmp_path_factory.mktemp("relabelled")
    examples = [(f"content {index}".encode(), index % 3) for index in range(6)]
    if request.param == "files":
        for index, (content, _) in enumerate(examples):
            (root / str(index)).write_bytes(content)
        split = file_split([(str(root / str(index)), label) for index, (_, label) in enumerate(examples)])
    else:
        write_shard(tf, root / "shard", examples)
        split = RecordSplit((RecordRange(str(root / "shard"), 0, 6),), RecordKeys().parse, 4)
    return ImageData(("a", "b", "c"), split, split, "f" * 16)


def test_only_labels_change(tf, data):
    from efficientnet_tpu.data.relabelled_split import with_classes
    from efficientnet_tpu.data.split import SINGLE_HOST

    names, new_labels = ("c", "x", "a", "b"), [2, 3, 0]
    ours = with_classes(data, names, new_labels)
    assert (ours.label_names, ours.minival) == (names, None)
    for order in (None, np.array([1, 2], np.int64)):
        before, after = read_examples(data.train, order), read_examples(ours.train, order)
        assert after == [(content, new_labels[label]) for content, label in before]
        assert [ours.train.locate(SINGLE_HOST, order, n) for n in range(6)] == [
            data.train.locate(SINGLE_HOST, order, n) for n in range(6)
        ]
    _, label = ours.train.load(next(iter(ours.train.handles(SINGLE_HOST, None))))
    assert (label.dtype, label.shape) == (tf.int32, [])
    labels = data.train.labels()
    assert labels is ours.train.labels() is None or ours.train.labels().numpy().tolist() == [2, 3, 0, 2, 3, 0]


def test_the_same_order_stays_as_it_is(tf, data):
    from efficientnet_tpu.data.relabelled_split import with_classes

    ours = with_classes(data, ("n1", "n2", "n3"), (0, 1, 2))
    assert ours.label_names == ("n1", "n2", "n3")
    assert ours.train is data.train
