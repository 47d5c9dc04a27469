"""`main.py preview`: one picture of the model's input.

It shows the run's first images as the training stream prepares them, with further draws and the evaluation crop; the
training step's mixing, if any; every operation of the augmentation by itself; the policy on one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.data.augment.mixup import make_mix
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.decoding import image_format
from efficientnet_tpu.data.input_pipeline import TrainImage, explained_errors, train_batches
from efficientnet_tpu.data.preprocessing import Preparation, eval_image, make_preparation, make_train_image
from efficientnet_tpu.data.skip_unreadable import SkippedImages
from efficientnet_tpu.data.split import SINGLE_HOST, ImageData, Split
from efficientnet_tpu.data.unreadable_log import UnreadableImages
from efficientnet_tpu.data_inspection import augmentation_tiles
from efficientnet_tpu.data_inspection.augmentation_tiles import Section
from efficientnet_tpu.display import image_grid
from efficientnet_tpu.display.image_grid import Tile
from efficientnet_tpu.display.lettering import class_captions, legend
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.storage import writable

TILE = 160  # side in pixels
IMAGES = 6
# The columns of one image: itself, its evaluation crop, the image that training begins with, other draws.
HEADINGS = ("original", "in evaluation", "training, epoch 1", *["another draw"] * 5)
COLUMNS = len(HEADINGS)


@dataclass(frozen=True)
class TrainingImage:
    """An image of the run's first batch: uint8 [size, size, 3] as prepared, its label, and its file's content."""

    prepared: np.ndarray
    label: int
    encoded: tf.Tensor


def preview(config: Config) -> None:
    """Writes --picture and prints a summary of it."""
    writable.check_file(config.output.picture, "picture")
    data = open_data(config.data)
    architecture = configured_architecture(config.model, len(data.label_names))
    size = architecture.resolution
    with tf.device("CPU:0"):  # where input pipelines run
        prepare = make_train_image(config.data, size, architecture.interpolation)
        preparation = make_preparation(config.data, size, architecture.interpolation)
        images = first_images(data.train, prepare, min(COLUMNS, data.train.num_images), config)
        sections = [
            training_section(images[:IMAGES], prepare, preparation, data, config),
            *mixed_sections(images, data.label_names, config.train),
            *augmentation_tiles.sections(config.data, eval_image(images[0].encoded, preparation).numpy()),
        ]
    picture = draw(f"{architecture.name} at {size} x {size}: what it sees of {config.data.source}", sections)
    image_grid.write_png(picture, config.output.picture)
    print(f"{config.output.picture}: {picture.width} x {picture.height} pixels")
    print("; ".join(section.summary for section in sections), flush=True)
    if numbers := legend(data.label_names):
        print(numbers, flush=True)


def first_images(split: Split, prepare: TrainImage, count: int, config: Config) -> list[TrainingImage]:
    """Returns the first images of the training stream, which skips unreadable ones."""

    def with_file(encoded: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.io.serialize_tensor(prepare(encoded, seed)), encoded])

    unreadable = UnreadableImages(None, config.data.max_unreadable_percent, split.num_images, config.data.source)
    missing = SkippedImages(split, config.run.seed, unreadable)
    with explained_errors(config.data.source, missing.report):
        stream = train_batches(split, with_file, count, config.run.seed, on_skipped=missing.recorder(SINGLE_HOST))
        pairs, labels = next(iter(stream))
    missing.report()
    return [
        TrainingImage(tf.io.parse_tensor(prepared, tf.uint8).numpy(), int(label), encoded)
        for (prepared, encoded), label in zip(pairs, labels, strict=True)
    ]


def training_section(
    images: Sequence[TrainingImage],
    prepare: TrainImage,
    preparation: Preparation,
    data: ImageData,
    config: Config,
) -> Section:
    """Builds a row of tiles for each image, in the columns of HEADINGS."""
    data_config = config.data
    tiles, num_blank = [], 0
    for row, image in enumerate(images):
        whole = image_format.decode(image.encoded, preparation.reading).numpy()
        seeds = [tf.constant([number, row]) for number in range(COLUMNS - 3)]
        draws = [image.prepared, *(prepare(image.encoded, seed).numpy() for seed in seeds)]
        num_blank += sum(pixels.min() == pixels.max() for pixels in draws)
        caption = [class_name(data.label_names, image.label), f"{whole.shape[1]} x {whole.shape[0]}"]
        tiles += [Tile(whole, caption), Tile(eval_image(image.encoded, preparation).numpy()), *map(Tile, draws)]
    crops = f"Crops of {data_config.crop_min_area:.0%} to 100% of the area"
    mirrored = ", half of them mirrored" * data_config.horizontal_flip
    semantics = f" --augment_semantics={data_config.augment_semantics}" if data_config.augment != "none" else ""
    num_draws = len(images) * (COLUMNS - 2)
    blank = f" ({num_blank} of the {num_draws} show one level of grey, nothing else)" if num_blank else ""
    return Section(
        "",
        [
            f"The first {len(images)} of {data.train.num_images:,} training images in the order of "
            f"--seed={config.run.seed}; {len(data.label_names):,} classes.",
            f"{crops}{mirrored}. --augment={data_config.augment}{semantics}{blank}",
        ],
        tiles,
        f"{len(images)} training images, each with its evaluation crop and {COLUMNS - 2} draws{blank}",
        HEADINGS,
    )


def mixed_sections(
    images: Sequence[TrainingImage], label_names: Sequence[str], train_config: TrainConfig
) -> list[Section]:
    """Builds a row of the images, mixed and erased as in the training step; no section if it does neither."""
    asked = {name: getattr(train_config, name) for name in ("mixup_alpha", "cutmix_alpha", "random_erasing")}
    flags = " ".join(f"--{name}={value:g}" for name, value in asked.items() if value)
    if not flags:
        return []
    pixels = tf.constant(np.stack([image.prepared for image in images]))
    targets = tf.one_hot([image.label for image in images], len(label_names))
    mixed, targets = make_mix(train_config)(pixels, targets, tf.zeros([2], tf.int32))
    mixed = tf.saturate_cast(tf.round(mixed), tf.uint8).numpy()
    tiles = [Tile(picture, _shares(row, label_names)) for picture, row in zip(mixed, targets.numpy(), strict=True)]
    return [
        Section(
            f"As the training step has them, with {flags}",
            ["The first images as a batch of their own, and the labels' shares. Each step draws anew."],
            tiles,
            f"{len(tiles)} images with {flags}",
        )
    ]


def draw(title: str, sections: Sequence[Section]) -> Image.Image:
    """Draws the sections under one another, below a title."""
    width = COLUMNS * (TILE + image_grid.MARGIN) + image_grid.MARGIN
    parts = []
    for section in sections:
        parts.append(image_grid.text_lines(section.title or title, section.notes, width))
        parts.append(image_grid.grid(section.tiles, COLUMNS, TILE, section.headings))
    return image_grid.stacked(parts)


def class_name(label_names: Sequence[str], label: int) -> str:
    """Returns the name of a class, or words that tell it apart where the name does not."""
    if not 0 <= label < len(label_names):
        return f"label {label}, no class"
    return class_captions(label_names)[label]


def _shares(targets: np.ndarray, label_names: Sequence[str]) -> list[str]:
    """Returns the two largest shares: ['70% dog', '30% cat']."""
    largest = np.argsort(-targets, kind="stable")[:2]
    return [f"{targets[label]:.0%} {class_name(label_names, label)}" for label in largest if targets[label] > 0]
