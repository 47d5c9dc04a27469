"""The images of a split that can be decoded, as files, and the reasons of the others."""

import os
from collections.abc import Iterator, Sequence

import tensorflow as tf

from efficientnet_tpu.data.decoding import image_format
from efficientnet_tpu.data.decoding.unreadable_reason import load_error_reason, unreadable_reason
from efficientnet_tpu.data.parallel_map import READERS
from efficientnet_tpu.data.split import SINGLE_HOST, Split
from efficientnet_tpu.errors import UserError

_AT_ONCE = 32  # images in flight, which bounds the memory
# A file that is not there, or out of reach for good; other errors are the network's, and no fault of the image.
_FAULTS_OF_THE_FILE = (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError)


def decodable_images(split: Split, of_several: int = 1) -> Iterator[tuple[int, bytes, str]]:
    """Yields position, content of the file, and "" for the images of a split, in its order. For one that cannot be
    decoded, the reason is in the last place.

    of_several: how many such passes are made at a time; they share the processor. Raises UserError when a file is out
    of reach for now, as by the network.
    """
    parallel = max(1, max(READERS, os.cpu_count() or 1) // of_several)
    # By a dataset, because Python's lock would be the limit of threads.
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = parallel

    def read(position: tf.Tensor, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, _ = split.load(handle)
        with tf.control_dependencies([_height(encoded)]):
            return position, tf.identity(encoded)

    images = split.handles(SINGLE_HOST, None).enumerate().map(read, num_parallel_calls=parallel, deterministic=True)
    expected = 0
    for position, encoded in images.ignore_errors().prefetch(_AT_ONCE).with_options(options).as_numpy_iterator():
        yield from _looked_at_again(split, range(expected, int(position)))
        yield int(position), encoded, ""
        expected = int(position) + 1
    yield from _looked_at_again(split, range(expected, split.num_images))


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _height(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes an image, string scalar, and returns its height, int32 scalar. Traced once, for all splits."""
    return tf.shape(image_format.decode(encoded, image_format.AS_STORED))[0]


def _looked_at_again(split: Split, positions: Sequence[int]) -> Iterator[tuple[int, bytes, str]]:
    """Yields what `decodable_images` does of images that failed; a file that was out of reach may be back."""
    for position in positions:
        (handle,) = split.handles(SINGLE_HOST, None, position).take(1)
        yield position, *_content_and_reason(split, handle, position)


def first_reason(split: Split) -> str:
    """Returns why the first image of a split of files cannot be decoded; empty if it can be."""
    return _content_and_reason(split, tf.constant(0, tf.int64), 0)[1]


def _content_and_reason(split: Split, handle: tf.Tensor, position: int) -> tuple[bytes, str]:
    try:
        content = split.load(handle)[0].numpy()
    except _FAULTS_OF_THE_FILE as error:
        return b"", load_error_reason(error)
    except tf.errors.OpError as error:
        where = split.locate(SINGLE_HOST, None, position)
        raise UserError(f"--data_dir: {where} cannot be read: {error.message}") from error
    try:
        _height(tf.constant(content))
    except tf.errors.OpError:
        return content, unreadable_reason(content)
    return content, ""
