"""`main.py compare-maps`: class activation maps of several runs side by side, as in Figure 7 of the paper."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

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
    files = _read(words)
    configs = [run_record.load(model_dir).config for model_dir in model_dirs]
    servings = [classifier.load_serving(config) for config in configs]
    for model_dir, serving in zip(model_dirs, servings, strict=True):
        if serving.note:
            print(f"{model_dir}: {serving.note}")
    columns = [_maps(serving, files) for serving in servings]
    images = [
        Tile(
            np.asarray(fitted(image_format.decode(tf.constant(content), reading_of(configs[0].data)).numpy(), SIDE)),
            [os.path.basename(path)],
        )
        for path, content in zip(words, files, strict=True)
    ]
    tiles = [tile for row in zip(images, *columns, strict=True) for tile in row]
    headings = ["", *(os.path.basename(model_dir) for model_dir in model_dirs)]
    write_png(grid(tiles, len(headings), SIDE, headings), output.picture)
    print(f"{output.picture}: {len(words)} images, {len(model_dirs)} runs")
    for line in dict.fromkeys(filter(None, (legend(serving.label_names) for serving in servings))):
        print(line)


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
