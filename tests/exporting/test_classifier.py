"""A model that takes prepared images: files are prepared as its metadata say; old ones as earlier versions did."""

import dataclasses
import json

import numpy as np
import pytest

from tests.support.image_files import encode, exif, photo


@pytest.fixture(scope="module")
def prepare(tf):
    """prepare(metadata, file) -> uint8 [32, 32, 3], what the model is shown."""
    from efficientnet_tpu.exporting.classifier import prepared_by_tensorflow

    def prepare(metadata, file):
        seen = []
        model = prepared_by_tensorflow(metadata, lambda images: (seen.append(images), np.ones([1, 2], np.float32))[1])
        model.classifier.probabilities([file])
        return seen[0][0]

    return prepare


@pytest.fixture
def metadata(tf):
    from efficientnet_tpu.exporting.metadata import ExportMetadata

    return ExportMetadata("m", 1, ("a", "b"), 32, 0, exif_orientation=True, background="white")


@pytest.mark.slow
def test_pictures_are_turned_laid_on_white_and_resized_as_stated(tf, prepare, metadata):
    side = photo(32, 32)
    np.testing.assert_array_equal(prepare(metadata, encode(side, "PNG", exif=exif(6))), np.rot90(side, -1))
    as_stored = dataclasses.replace(metadata, exif_orientation=False, background="none")
    np.testing.assert_array_equal(prepare(as_stored, encode(side, "PNG", exif=exif(6))), side)
    nothing = encode(np.zeros([32, 32, 4], np.uint8), "PNG")
    assert (prepare(metadata, nothing) == 255).all()
    assert (prepare(as_stored, nothing) == 0).all()
    large = photo(70, 70)
    for interpolation in ("bicubic", "bilinear"):
        resized = tf.compat.v1.image.resize(large[np.newaxis], [32, 32], interpolation)[0].numpy()
        shown = prepare(dataclasses.replace(metadata, interpolation=interpolation), encode(large, "PNG"))
        np.testing.assert_array_equal(shown, np.clip(np.floor(resized + 0.5), 0, 255))
    squares = photo(64, 64).reshape(32, 2, 32, 2, 3).mean((1, 3))
    averaged = prepare(dataclasses.replace(metadata, downscale="mean"), encode(photo(64, 64), "PNG"))
    np.testing.assert_array_equal(averaged, np.floor(squares + 0.5))


def test_files_of_earlier_versions_keep_their_preprocessing(tf, metadata):
    from efficientnet_tpu.exporting.metadata import METADATA_JSON, read_metadata

    texts = metadata.as_texts()
    assert read_metadata(texts, "x") == metadata
    stated = json.loads(texts[METADATA_JSON])
    for name in ("exif_orientation", "background", "interpolation", "downscale"):
        del stated[name]
    old = read_metadata({**texts, METADATA_JSON: json.dumps(stated)}, "x")
    assert (old.exif_orientation, old.background, old.interpolation) == (False, "none", "bicubic")
    assert old.downscale == "reference"
