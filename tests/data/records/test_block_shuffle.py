"""Shuffling in blocks: a permutation within each, decided by the order alone."""

import json

import pytest


def _shuffled(tf, values, order, buffer):
    from efficientnet_tpu.data.records.block_shuffle import shuffle

    dataset = tf.data.Dataset.from_tensor_slices((values, [f"{value}" for value in values]))
    pairs = list(shuffle(dataset, tf.constant(order, tf.int64), buffer).as_numpy_iterator())
    assert [int(text) for _, text in pairs] == [value for value, _ in pairs]
    return [int(value) for value, _ in pairs]


@pytest.mark.parametrize("buffer", [1, 7, 50, 1000])
def test_shuffle_permutes_within_blocks(tf, buffer):
    values = list(range(50))
    shuffled = _shuffled(tf, values, [0, 0], buffer)
    for start in range(0, 50, buffer):
        assert sorted(shuffled[start : start + buffer]) == values[start : start + buffer]
    assert (shuffled == values) == (buffer == 1)


def test_shuffle_depends_on_the_order_alone(tf):
    values = list(range(50))
    first = _shuffled(tf, values, [1, 2], 20)
    tf.random.set_seed(123)
    assert _shuffled(tf, values, [1, 2], 20) == first
    others = [_shuffled(tf, values, order, 20) for order in ([1, 3], [2, 2], [2, 1])]
    assert len({json.dumps(order) for order in [first, *others]}) == 4
    # Blocks are not all shuffled alike.
    assert [value - 20 for value in first[20:40]] != first[:20]
