import collections
import hashlib
import pathlib

import numpy as np
import pytest

from efficientnet_tpu.data import sources
from efficientnet_tpu.data.records.tfrecord_layout import DATASET_JSON, ENCODED_KEY, LABEL_KEY, DatasetInfo

SAMPLE = pathlib.Path(sources.__file__).parent / "fashion_mnist"

# Computed from the four original idx.gz files, not from the sample: sha256 of the sorted sha256 digests of
# (784 pixels + class name) of the whole test set, and of the first 17,700 training images.
GOLDEN = {
    "validation": "aecf08107b043a89755c05f8d305ba876d0d5ffbc1165c2d7eb4de1942e28cf3",
    "train": "457bae922a5d1ece4d65917407aba72d8886ae2908de434ceb44cad0fa3d695e",
}
OFFICIAL_TEST_LABELS = [
    "ankle-boot", "pullover", "trouser", "trouser", "shirt", "trouser", "coat", "shirt", "sandal", "sneaker", "coat",
    "sandal", "sneaker", "dress", "coat", "trouser", "pullover", "coat", "bag", "t-shirt-or-top", "pullover", "sandal",
    "sneaker", "ankle-boot", "trouser",
]  # fmt: skip


@pytest.fixture(scope="module")
def info():
    return DatasetInfo.from_json((SAMPLE / DATASET_JSON).read_text())


def _read(tf, info, split):
    """Pixels uint8 [images, 28, 28, 1] and labels int64 [images], as stored."""
    features = {ENCODED_KEY: tf.io.FixedLenFeature([], tf.string), LABEL_KEY: tf.io.FixedLenFeature([], tf.int64)}

    def decode(record):
        example = tf.io.parse_single_example(record, features)
        return tf.io.decode_image(example[ENCODED_KEY], expand_animations=False), example[LABEL_KEY]

    paths = [str(SAMPLE / shard.name) for shard in info.splits[split].shards]
    batches = tf.data.TFRecordDataset(paths).map(decode).batch(1000).as_numpy_iterator()
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize(("split", "num_images"), [("train", 17_700), ("validation", 10_000)])
def test_pixels_and_labels_are_the_official_ones(tf, info, split, num_images):
    images, labels = _read(tf, info, split)
    assert images.shape == (num_images, 28, 28, 1)
    assert set(labels) == set(range(1, 11))
    digests = sorted(
        hashlib.sha256(image.tobytes() + info.label_names[label - 1].encode()).digest()
        for image, label in zip(images, labels, strict=True)
    )
    assert hashlib.sha256(b"".join(digests)).hexdigest() == GOLDEN[split]
    if split == "validation":
        assert collections.Counter(labels) == dict.fromkeys(range(1, 11), 1000)


def test_dataset_json_describes_the_shards(tf, info):
    assert list(info.label_names) == sorted(set(OFFICIAL_TEST_LABELS))
    assert len(info.label_names) == 10
    assert info.splits.keys() == {"train", "validation"}
    for split, shards in (("train", [4425] * 4), ("validation", [5000] * 2)):
        assert [shard.num_images for shard in info.splits[split].shards] == shards
        for shard in info.splits[split].shards:
            batches = tf.data.TFRecordDataset(str(SAMPLE / shard.name)).batch(1000).as_numpy_iterator()
            assert sum(len(batch) for batch in batches) == shard.num_images


def test_a_shard_holds_all_classes(tf, info):
    """The shuffle before the shards: a run that reads one shard sees every class, in no order."""
    _, labels = _read(tf, info, "validation")
    assert set(labels[:200]) == set(range(1, 11))


def test_fits_in_16_megabytes():
    files = [path for path in SAMPLE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 16_000_000


def test_pictures_are_the_first_test_images(tf):
    names = [f"{label}-{index:02d}.png" for index, label in enumerate(OFFICIAL_TEST_LABELS)]
    assert sorted(path.name for path in (SAMPLE / "pictures").iterdir()) == sorted(names)
    for name in names:
        assert tf.io.decode_png((SAMPLE / "pictures" / name).read_bytes()).shape == (28, 28, 1)


def test_licence_travels_with_the_images():
    assert "Copyright (c) 2017 Zalando SE" in (SAMPLE / "LICENSE").read_text()
    assert "arXiv:1708.07747" in (SAMPLE / "README.md").read_text()


@pytest.mark.parametrize("kind", ["noise", "ramp", "flat", "checks"])
def test_png_encoder_is_lossless(tf, kind):
    from efficientnet_tpu.data.sources.fashion_mnist import idx_to_folder

    image = {
        "noise": np.random.default_rng(0).integers(0, 256, (28, 28)),
        "ramp": np.add.outer(np.arange(28) * 5, np.arange(28) * 4),
        "flat": np.full((28, 28), 255),
        "checks": np.indices((13, 17)).sum(axis=0) % 2 * 255,
    }[kind].astype(np.uint8)
    assert np.array_equal(tf.io.decode_png(idx_to_folder.encode_png(image))[..., 0], image)
