"""Images on which an export is compared with its run, and from which quantisation takes its ranges."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.decoding.unreadable_reason import unreadable_reason
from efficientnet_tpu.data.split import SINGLE_HOST, Split
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run import run_record

NUM_REPRESENTATIVE = 200
_SIDE = 256  # of made-up pictures, in pixels


@dataclass(frozen=True)
class Samples:
    """encoded: contents of image files. labels: int32, or None where they are not known. source: for people."""

    encoded: tuple[bytes, ...]
    labels: np.ndarray | None
    representative: tuple[bytes, ...]
    source: str


def sample_images(config: Config, label_names: tuple[str, ...], representative: bool) -> Samples:
    """Validation images of the run's data set, or of what --data_dir or --dataset name; training images to quantise by.

    Made-up pictures where the run's data set is not at hand. Raises UserError where one that was asked for is not.
    """
    count = config.output.export_images
    try:
        data = open_data(config.data)
    except UserError as error:
        if config.data != run_record.load(config.run.model_dir).config.data:
            raise
        return _made_up(count, str(error).partition("\n")[0], NUM_REPRESENTATIVE if representative else 0)
    known = data.label_names == label_names
    drawn = list(_draw(data.validation, count))
    labels = np.array([label for _, label in drawn], np.int32) if known else None
    others = [content for content, _ in _draw(data.train, NUM_REPRESENTATIVE)] if representative else []
    source = f"{len(drawn)} validation images of {config.data.source}"
    if not known:
        source += ", whose classes are not the run's: accuracy is not measured"
    return Samples(tuple(content for content, _ in drawn), labels, tuple(others), source)


def _draw(split: Split, count: int) -> Iterator[tuple[bytes, int]]:
    """The first readable images of a shuffled order, always the same; all where there are fewer."""
    order = tf.constant([0, 0], tf.int64)
    examples = split.handles(SINGLE_HOST, order).map(split.load).ignore_errors()
    for content, label in examples.as_numpy_iterator():
        if not unreadable_reason(content):
            yield content, int(label)
            count -= 1
        if not count:
            return


def _made_up(count: int, why: str, num_representative: int) -> Samples:
    drawn = tuple(tf.io.encode_jpeg(pixels).numpy() for pixels in _pictures(count + num_representative))
    source = f"{count} made-up pictures, for lack of the run's images: {why}"
    return Samples(drawn[:count], None, drawn[count:], source)


def _pictures(count: int) -> Iterator[np.ndarray]:
    """Clouds of colour with edges in them: energy falls with frequency as it does in photographs, not as in noise."""
    random = np.random.default_rng(0)
    for _ in range(count):
        picture = np.zeros((_SIDE, _SIDE, 3), np.float32)
        for octave in range(1, 8):
            coarse = random.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
            picture += tf.image.resize(coarse, (_SIDE, _SIDE), "bicubic").numpy() * 2.0**-octave
        rows, columns = np.mgrid[:_SIDE, :_SIDE]
        for centre_y, centre_x, radius in random.uniform(20, 120, (4, 3)) * (2, 2, 0.6):
            inside = (rows - centre_y) ** 2 + (columns - centre_x) ** 2 < radius**2
            picture[inside] += random.normal(size=3) * 0.5
        low, high = np.percentile(picture, (1, 99))
        yield np.uint8(np.clip((picture - low) / (high - low), 0, 1) * 255)
