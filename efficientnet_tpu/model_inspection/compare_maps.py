"""`main.py compare-maps`: class activation maps of several runs side by side, as in Figure 7 of the paper."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.decoding import image_format
from efficientnet_tpu.data.decoding.unreadable_reason import read_image_file
from efficientnet_tpu.data.preprocessing import reading_of
from efficientnet_tpu.display.image_grid import Tile, fitted, grid, write_png
from efficientnet_tpu.display.lettering import class_captions, legend
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import classifier
from efficientnet_tpu.exporting.classifier import Serving
from efficientnet_tpu.model_inspection.class_activation_map import class_maps, overlay
from efficientnet_tpu.run import run_record
from efficientnet_tpu.storage import writable
from efficientnet_tpu.texts.printable import escaped

SIDE = 150  # of an image and of its maps, in pixels


def compare_maps(config: Config, words: Sequence[str]) -> None:
    """Writes --picture: a row for each image file, a column for each of --runs, named by its folder.

    A map is of the class that its run finds most probable, which stands under it. Raises UserError for files that are
    no images.
    """
    output = config.output
    model_dirs = [model_dir.rstrip("/") for model_dir in output.runs.split(",") if model_dir]
    writable.check_file(output.picture, "picture")
    files = list(zip(map(os.path.basename, words), _read(words), strict=True))
    picture, legends = draw_maps([(os.path.basename(path), path) for path in model_dirs], files, SIDE)
    write_png(picture, output.picture)
    print("\n".join([f"{output.picture}: {len(words)} images, {len(model_dirs)} runs", *legends]))


def draw_maps(
    runs: Sequence[tuple[str, str]], files: Sequence[tuple[str, bytes]], side: int
) -> tuple[Image.Image, list[str]]:
    """Draws a row for each image, a column for each run; a map is of the class that the run finds most probable.

    runs: names over the columns, and model_dirs. files: names under the images, and the contents of their files.
    side: of an image and of a map, in pixels. Returns the picture, and lines that say which class a number under a map
    stands for, where there are numbers.
    """
    configs = [run_record.load(model_dir).config for _, model_dir in runs]
    servings = [classifier.load_serving(config) for config in configs]
    for (_, model_dir), serving in zip(runs, servings, strict=True):
        if serving.note:
            print(f"{model_dir}: {serving.note}")
    columns = [_maps(serving, [content for _, content in files]) for serving in servings]
    reading = reading_of(configs[0].data)
    images = [
        Tile(np.asarray(fitted(image_format.decode(tf.constant(content), reading).numpy(), side)), [name])
        for name, content in files
    ]
    tiles = [tile for row in zip(images, *columns, strict=True) for tile in row]
    headings = ["", *(name for name, _ in runs)]
    legends = filter(None, (legend(serving.label_names) for serving in servings))
    return grid(tiles, len(headings), side, headings), [*dict.fromkeys(legends)]


def _read(paths: Sequence[str]) -> list[bytes]:
    contents = []
    for path in paths:
        content, reason = read_image_file(path)
        if reason:
            raise UserError(f"{escaped(path)}: is not a readable image: {reason}. Name image files.")
        contents.append(content)
    return contents


def _maps(serving: Serving, files: Sequence[bytes]) -> list[Tile]:
    """Draws one run's map of each image, over the image as the run sees it."""
    images = serving.prepare(tf.constant(list(files)))
    probabilities = serving.probabilities(images).numpy()
    class_ids = probabilities.argmax(axis=1)
    maps, _ = class_maps(serving.model, images.numpy(), class_ids)
    names = class_captions(serving.label_names)
    return [
        Tile(overlay(image, weights), [f"{names[class_id]} {share[class_id]:.0%}"])
        for image, weights, class_id, share in zip(images.numpy(), maps, class_ids, probabilities, strict=True)
    ]
