"""Finds the image files that cannot be decoded, and the reasons."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from efficientnet_tpu.data.conversion.parallel_map import READERS, in_order
from efficientnet_tpu.data.decoding import image_format
from efficientnet_tpu.data.decoding.unreadable_reason import load_error_reason, unreadable_reason
from efficientnet_tpu.data.sources.labelled_files import Example
from efficientnet_tpu.display.terminal import ImageProgress
from efficientnet_tpu.errors import UserError

_AT_ONCE = 256  # images in flight, which bounds the memory


def unreadable_files(split: str, examples: Sequence[Example]) -> dict[str, str]:
    """Returns path -> reason, for the images that cannot be decoded.

    split: begins the lines of progress. Raises UserError when a file is out of reach for now, as by the network.
    """
    progress = ImageProgress(f"{split}: checked", len(examples))
    # By a dataset, because Python's lock would be the limit of threads.
    paths = tf.data.Dataset.from_tensor_slices([path for path, _ in examples])
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    images = paths.enumerate().map(_position_and_height, num_parallel_calls=READERS, deterministic=True).ignore_errors()
    decodable = set()
    for position, _ in images.prefetch(_AT_ONCE).with_options(options).as_numpy_iterator():
        decodable.add(int(position))
        progress.advance()
    failed = [path for position, (path, _) in enumerate(examples) if position not in decodable]
    with ThreadPoolExecutor(READERS) as pool:
        reasons = dict(zip(failed, in_order(pool, _reason, failed, _AT_ONCE), strict=True))
    return {path: reason for path, reason in reasons.items() if reason}


@tf.function(input_signature=[tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)])
def _position_and_height(position: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the position as it is, and the height of the image: without a use of it, the decoding is left out."""
    return position, tf.shape(image_format.decode(tf.io.read_file(path), image_format.AS_STORED))[0]


def _reason(path: str) -> str:
    """Returns why an image could not be decoded; empty when it now can be."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return unreadable_reason(file.read())
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError) as error:
        return load_error_reason(error)
    except tf.errors.OpError as error:  # the network, say: no fault of the image
        raise UserError(f"--data_dir: {path} cannot be read: {error.message}") from error
