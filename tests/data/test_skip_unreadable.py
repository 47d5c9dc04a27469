"""Streams with holes: what cannot be read is replaced by what follows, whatever it is, and is counted."""

import numpy as np
import pytest

BATCH_SIZE, NUM_IMAGES = 4, 100


@pytest.fixture
def stream(tf):
    """stream(bad, num_batches, first=0, allowed=...) -> (numbers of the images that came, numbers noted as missing)."""
    from efficientnet_tpu.data.input_pipeline import train_batches
    from efficientnet_tpu.data.split import Split

    class Numbers(Split):
        """Image i of 100 is the text of i; those in `bad` cannot be had."""

        num_images = NUM_IMAGES

        def __init__(self, bad):
            self.bad = tf.constant([-1, *bad], tf.int64)

        def handles(self, shard, order, first=0):
            return tf.data.Dataset.range(first, NUM_IMAGES)

        def load(self, handle):
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(handle != self.bad), ["bad"])]):
                return tf.strings.as_string(handle), tf.cast(handle, tf.int32)

        def join(self, other):
            raise NotImplementedError

        def locate(self, shard, order, position):
            return f"image {position}"

    def run(bad, num_batches, first=0, allowed=10**6):
        missing = []

        def note(numbers):
            missing.extend(numbers.tolist())
            return np.bool_(len(missing) > allowed)

        prepare = lambda encoded, seed: tf.fill([2, 2, 3], tf.cast(tf.strings.to_number(encoded), tf.uint8))  # noqa: E731
        batches = train_batches(Numbers(bad), prepare, BATCH_SIZE, 0, first, on_skipped=note)
        assert batches.element_spec[0].shape == (BATCH_SIZE, 2, 2, 3)
        pairs = list(batches.take(num_batches).as_numpy_iterator())
        images, labels = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        np.testing.assert_array_equal(images, np.broadcast_to(labels[:, None, None, None], images.shape))
        return labels.tolist(), missing

    return run


def _expected(bad, count):
    """Every number, or the next that is not bad."""
    readable = [number % NUM_IMAGES for number in range(2 * count) if number % NUM_IMAGES not in bad]
    places = np.cumsum([0] + [number % NUM_IMAGES not in bad for number in range(count - 1)])
    return [readable[place] for place in places]


@pytest.mark.parametrize("bad", [[], [0], [99], [3, 4, 5], [0, 1, 2, 50, 98, 99], range(1, 100), range(8, 93)], ids=str)
def test_the_next_readable_image_takes_the_place(stream, bad):
    num_batches = 150  # six epochs, more than two rounds of markers
    labels, missing = stream(bad, num_batches)
    assert labels == _expected(bad, num_batches * BATCH_SIZE)
    seen = [number for number in range(num_batches * BATCH_SIZE) if number % NUM_IMAGES in bad]
    assert [number for number in missing if number < num_batches * BATCH_SIZE] == seen
    assert len(set(missing)) == len(missing)


@pytest.mark.parametrize("first", [4, 8, 40, 96, 100, 356])
def test_a_stream_with_holes_entered_anywhere_is_the_tail_of_the_whole(stream, first):
    bad = [0, 4, 5, 6, 41, 97, 98, 99]
    labels, _ = stream(bad, 150)
    tail, missing = stream(bad, 40, first=first)
    assert tail == labels[first : first + 160]
    assert min(missing, default=first) >= first


def test_when_nothing_can_be_read_the_stream_ends(tf, stream):
    """And does not look for a readable image for ever."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many images cannot be read"):
        stream(range(NUM_IMAGES), 1, allowed=50)


def test_by_default_none_may_be_missing(tf):
    from efficientnet_tpu.config.data import DataConfig
    from efficientnet_tpu.data.input_pipeline import train_batches
    from efficientnet_tpu.data.sources.synthetic import open_fake

    split = open_fake("2:10:2", DataConfig()).train
    refuse = lambda encoded, seed: tf.io.decode_png(tf.strings.substr(encoded, 0, 5))[:1, :1]  # noqa: E731
    batches = train_batches(split, lambda encoded, seed: tf.ensure_shape(refuse(encoded, seed), [1, 1, 3]), 2, 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many images cannot be read"):
        next(iter(batches))


def test_the_account_names_images_of_the_epoch_they_were_missing_in(tf, stream, tmp_path, capsys):
    from efficientnet_tpu.data.skip_unreadable import SkippedImages
    from efficientnet_tpu.data.sources.file_split import FileSplit
    from efficientnet_tpu.data.split import SINGLE_HOST
    from efficientnet_tpu.data.unreadable_log import UnreadableImages
    from efficientnet_tpu.errors import UserError

    paths = [str(tmp_path / f"{index}.png") for index in range(20)]
    for path in paths:
        tf.io.write_file(path, b"no image")
    split = FileSplit(tf.constant(paths), tf.zeros([20], tf.int32))
    unreadable = UnreadableImages(str(tmp_path), 40.0, 20)
    account = SkippedImages(split, 7, unreadable)
    note = account.recorder(SINGLE_HOST)
    assert not note(np.array([3, 44]))
    account.report()
    expected = [
        split.locate(SINGLE_HOST, tf.constant([7, epoch], tf.int64), position) for epoch, position in ((0, 3), (2, 4))
    ]
    output = capsys.readouterr().out
    assert [line.split(":")[0] for line in output.splitlines()] == [f"skipped {path}" for path in expected]
    assert not note(np.arange(21, 28))
    assert note(np.array([28, 29]))  # nine of epoch 1, eight may be
    with pytest.raises(UserError, match="of 20 images cannot be read"):
        account.report()
