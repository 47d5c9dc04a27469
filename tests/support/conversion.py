"""A small folder of images, its conversion by make-tfrecords, and what a directory then holds."""

import random

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.records.tfrecord_layout import DATASET_JSON, DatasetInfo

CLASSES = ("ape", "bee", "cow")


def write_folder(tf, root):
    """Three classes, 7 training and 2 validation images each, every image different; .png and .JPG. Returns root."""
    generator = random.Random(0)
    for split, count in (("train", 7), ("validation", 2)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = tf.constant([generator.randrange(256) for _ in range(5 * 4 * 3)], tf.uint8, shape=[5, 4, 3])
                suffix, encode = ((".png", tf.io.encode_png), (".JPG", tf.io.encode_jpeg))[i % 2]
                (root / split / name / f"{i}{suffix}").write_bytes(encode(pixels).numpy())
    return root


def convert(folder, output_dir, **options):
    from efficientnet_tpu.data.conversion import make_tfrecords

    options = {"train_shards": 4, "validation_shards": 2, **options}
    make_tfrecords.convert(with_options(Config(), {"data_dir": str(folder), "output_dir": str(output_dir), **options}))
    return DatasetInfo.from_json((output_dir / DATASET_JSON).read_text())


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}
