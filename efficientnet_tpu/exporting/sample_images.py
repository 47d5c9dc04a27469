"""Images on which an export is compared with its run, and from which quantization takes its ranges."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.class_matching import match_classes
from efficientnet_tpu.data.decoding.unreadable_reason import unreadable_reason
from efficientnet_tpu.data.split import SINGLE_HOST, Split
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run import run_record
from efficientnet_tpu.run.measured_images import open_measured_images

NUM_REPRESENTATIVE = 200
_SIDE = 256  # of made-up pictures, in pixels


@dataclass(frozen=True)
class Samples:
    """Contents of image files, with labels int32 [images] or None, more contents for quantization, and their origin."""

    encoded: tuple[bytes, ...]
    labels: np.ndarray | None
    representative: tuple[bytes, ...]
    source: str


def sample_images(config: Config, label_names: tuple[str, ...], representative: bool) -> Samples:
    """Reads validation images of the run's data set, or of the one that --data_dir or --dataset name.

    representative: also reads training images for quantization. Draws pictures if the run's data set cannot be opened.
    Raises UserError if another one was asked for and cannot be opened.
    """
    count, stored = config.output.export_images, run_record.load(config.run.model_dir)
    try:
        images = open_measured_images(stored, config)
    except UserError as error:
        if config.data != stored.config.data:
            raise
        drawn = [tf.io.encode_jpeg(pixels).numpy() for pixels in pictures(count + NUM_REPRESENTATIVE * representative)]
        source = f"{count} made-up pictures, for lack of the run's images: {str(error).partition(chr(10))[0]}"
        return Samples(tuple(drawn[:count]), None, tuple(drawn[count:]), source)
    labels_of_run = match_classes(images.data.label_names, label_names)
    drawn = list(_draw(images.split, count))
    labels = None
    if None not in labels_of_run:
        labels = np.array([labels_of_run[label] for _, label in drawn], np.int32)
    others = _draw(images.data.train or images.split, NUM_REPRESENTATIVE) if representative else ()
    source = f"{len(drawn)} {images.words} of {config.data.source}"
    if labels is None:
        source += ", whose classes are not the run's: accuracy is not measured"
    return Samples(tuple(content for content, _ in drawn), labels, tuple(content for content, _ in others), source)


def _draw(split: Split, count: int) -> Iterator[tuple[bytes, int]]:
    """Yields the first `count` readable images of a shuffled order that is always the same, with their labels."""
    order = tf.constant([0, 0], tf.int64)
    examples = split.handles(SINGLE_HOST, order).map(split.load).ignore_errors()
    for content, label in examples.as_numpy_iterator():
        if not unreadable_reason(content):
            yield content, int(label)
            count -= 1
        if not count:
            return


def pictures(count: int) -> Iterator[np.ndarray]:
    """Draws clouds of color with edges in them: uint8 [256, 256, 3], always the same.

    Their energy falls with frequency as in photographs, and not as in noise.
    """
    random = np.random.default_rng(0)
    for _ in range(count):
        picture = np.zeros((_SIDE, _SIDE, 3), np.float32)
        for octave in range(1, 8):
            coarse = random.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
            picture += tf.image.resize(coarse, (_SIDE, _SIDE), "bicubic").numpy() * 2.0**-octave
        rows, columns = np.mgrid[:_SIDE, :_SIDE]
        for center_y, center_x, radius in random.uniform(20, 120, (4, 3)) * (2, 2, 0.6):
            inside = (rows - center_y) ** 2 + (columns - center_x) ** 2 < radius**2
            picture[inside] += random.normal(size=3) * 0.5
        low, high = np.percentile(picture, (1, 99))
        yield np.uint8(np.clip((picture - low) / (high - low), 0, 1) * 255)
