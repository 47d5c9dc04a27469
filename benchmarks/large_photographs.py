"""Accuracy on photographs as cameras take them: of millions of pixels, with a sensor's noise. See docs/data.md.

    python benchmarks/large_photographs.py --model_dir=runs/photos --images=200 --megapixels=4,12 --noise=0,16,32

The run's validation images (or those of --data_dir) are enlarged, get noise on every pixel, and are saved as JPEGs of
quality 90. Each is prepared in three ways, and classified by the run:

reference   the run's kernel takes single pixels of the crop, however large it is (--downscale=reference)
mean        the crop is averaged first (--downscale=mean)
pillow      the same crop by Pillow's antialiased bicubic kernel, as torchvision and timm do

Beside the accuracy stands the share of images that get the same class as at their own size: without labels too. The
CPU time is that of one core for one image, from the file's bytes to its pixels.
"""

import argparse
import functools
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import tensorflow as tf  # noqa: E402

from efficientnet_tpu.config.config import Config, with_options  # noqa: E402
from efficientnet_tpu.data.class_matching import match_classes  # noqa: E402
from efficientnet_tpu.data.preprocessing import center_window, eval_image  # noqa: E402
from efficientnet_tpu.data.split import SINGLE_HOST  # noqa: E402
from efficientnet_tpu.exporting.classifier import Serving, load_serving  # noqa: E402
from efficientnet_tpu.run import run_record  # noqa: E402
from efficientnet_tpu.run.measured_images import open_measured_images  # noqa: E402

WAYS = ("reference", "mean", "pillow")
QUALITY = 90
_NOISE_SIDE = 1024  # of the block of noise that is laid on pictures, each time at another place

Prepare = Callable[[bytes], np.ndarray]


def main() -> None:
    """Prints a row for each size and noise as it is measured, and writes all of them to --json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model_dir", required=True, help="of a run")
    parser.add_argument("--data_dir", default="", help="labelled photographs; left out: the run's own")
    parser.add_argument("--images", type=int, default=200, help="how many of them")
    parser.add_argument("--megapixels", default="4,12", help="sizes, with commas between")
    parser.add_argument("--noise", default="0,16,32", help="standard deviations, in grey levels")
    parser.add_argument("--json", default="", help="file for the figures")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    config = run_record.load(arguments.model_dir).config
    options = {"data_dir": arguments.data_dir} if arguments.data_dir else {}
    config = with_options(config, {"model_dir": arguments.model_dir, **options})
    serving = load_serving(config)
    photographs = Photographs(serving, config, arguments.images)
    own = float((photographs.own == photographs.labels).mean())
    load = os.getloadavg()[0]
    print(f"{arguments.images} photographs, {serving.model.name} at {serving.resolution}, load {load:.1f}")
    print(f"at their own size: top-1 {100 * own:.1f}%\n")
    print("| megapixels | noise | " + " | ".join(f"{way}: top-1 | as own size | CPU ms" for way in WAYS) + " |")
    print("|---" * (2 + 3 * len(WAYS)) + "|", flush=True)
    results: list[dict] = [{"images": arguments.images, "own_size": own, "load": load}]
    for megapixels in map(float, arguments.megapixels.split(",")):
        for row in photographs.measure(megapixels, [float(noise) for noise in arguments.noise.split(",")]):
            cells = [f"{100 * top1:.1f} | {100 * same:.1f} | {cost:.1f}" for top1, same, cost in map(row.get, WAYS)]
            print(f"| {megapixels:g} | {row['noise']:g} | " + " | ".join(cells) + " |", flush=True)
            results.append(row)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")


class Photographs:
    """Photographs with a run's labels, int64 [count], and the classes that it finds at their own size: `own`."""

    def __init__(self, serving: Serving, config: Config, count: int) -> None:
        self._serving, self._ways = serving, prepare_ways(serving)
        examples = list(_examples(serving, config, count))
        self._contents = [content for content, _ in examples]
        self.labels = np.array([label for _, label in examples])
        self.own = classify(serving, np.stack([self._ways["reference"](content) for content in self._contents]))

    def measure(self, megapixels: float, deviations: list[float]) -> list[dict]:
        """Returns for each deviation of the noise, by the way of preparing: the share of right classes, that of the
        classes found at their own size, and CPU milliseconds.
        """
        images = {(deviation, way): [] for deviation in deviations for way in WAYS}
        seconds = dict.fromkeys(images, 0.0)
        for number, content in enumerate(self._contents):
            large = enlarged(content, megapixels)
            for deviation in deviations:
                file = jpeg(with_noise(large, deviation, number))
                for way in WAYS:
                    start = time.process_time()
                    images[deviation, way].append(self._ways[way](file))
                    seconds[deviation, way] += time.process_time() - start
        rows = [{"megapixels": megapixels, "noise": deviation} for deviation in deviations]
        for row in rows:
            for way in WAYS:
                found = classify(self._serving, np.stack(images[row["noise"], way]))
                cost = 1000 * seconds[row["noise"], way] / len(self._contents)
                row[way] = [float((found == self.labels).mean()), float((found == self.own).mean()), cost]
        return rows


def _examples(serving: Serving, config: Config, count: int) -> Iterator[tuple[bytes, int]]:
    """Yields the first photographs of a shuffled order that is always the same, with the run's labels; -1 for none."""
    measured = open_measured_images(run_record.load(config.run.model_dir), config)
    labels = match_classes(measured.data.label_names, serving.label_names)
    examples = measured.split.handles(SINGLE_HOST, tf.constant([0, 0], tf.int64)).map(measured.split.load)
    for content, label in examples.take(count).as_numpy_iterator():
        found = labels[label]
        yield content, -1 if found is None else found


def prepare_ways(serving: Serving) -> dict[str, Prepare]:
    """Returns the ways by which a file becomes the network's image: bytes -> uint8 [size, size, 3]."""

    def by_program(downscale: str) -> Prepare:
        preparation = replace(serving.preparation, downscale=downscale)
        spec = tf.TensorSpec([], tf.string)
        prepare = tf.function(lambda encoded: eval_image(encoded, preparation), input_signature=[spec])
        prepare(tf.constant(jpeg(np.zeros([8, 8, 3], np.uint8))))  # compiled before it is timed
        return lambda content: prepare(tf.constant(content)).numpy()

    def by_pillow(content: bytes) -> np.ndarray:
        size, picture = serving.resolution, Image.open(io.BytesIO(content)).convert("RGB")
        window = center_window(np.int32([picture.height, picture.width]), size, serving.preparation.padding).numpy()
        top, left, height, width = map(int, window)
        box = (left, top, left + width, top + height)
        return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box))

    return {"reference": by_program("reference"), "mean": by_program("mean"), "pillow": by_pillow}


def enlarged(encoded: bytes, megapixels: float) -> np.ndarray:
    """Enlarges a picture, as it is seen, to so many pixels: bytes -> uint8 [height, width, 3]."""
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    factor = (1e6 * megapixels / (picture.width * picture.height)) ** 0.5
    size = (round(factor * picture.width), round(factor * picture.height))
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


@functools.cache
def noise_of(deviation: float) -> np.ndarray:
    """Draws levels from a normal distribution, always the same: int16 [side, side, 3]."""
    return np.int16(np.rint(np.random.default_rng(0).normal(0, deviation, (_NOISE_SIDE, _NOISE_SIDE, 3))))


def with_noise(image: np.ndarray, deviation: float, number: int) -> np.ndarray:
    """Adds noise to every pixel: uint8 [height, width, 3] -> the same. number: of the picture."""
    if not deviation:
        return image
    shift = np.random.default_rng(number).integers(0, _NOISE_SIDE, 2)
    noise, noisy = np.roll(noise_of(deviation), shift, (0, 1)), np.empty_like(image)
    for top in range(0, image.shape[0], _NOISE_SIDE):
        for left in range(0, image.shape[1], _NOISE_SIDE):
            part = np.s_[top : top + _NOISE_SIDE, left : left + _NOISE_SIDE]
            height, width, _ = image[part].shape
            noisy[part] = np.clip(image[part] + noise[:height, :width], 0, 255)
    return noisy


def jpeg(image: np.ndarray) -> bytes:
    """Encodes as cameras do, color at half of the resolution: uint8 [height, width, 3] -> bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def classify(serving: Serving, images: np.ndarray) -> np.ndarray:
    """Returns the most probable class of each prepared image: uint8 [count, size, size, 3] -> int64 [count]."""
    parts = [serving.probabilities(tf.constant(images[first : first + 50])) for first in range(0, len(images), 50)]
    return np.concatenate(parts).argmax(axis=1)


if __name__ == "__main__":
    main()
