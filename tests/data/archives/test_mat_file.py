"""MATLAB files as scipy writes them (`scipy.io.savemat`, with and without compression), and damaged ones."""

import contextlib
import random

import pytest

from efficientnet_tpu.data.archives.mat_file import read_structures
from tests.support.imagenet_archives import GOLDEN

FILES = ("devkit_meta.mat", "devkit_meta_uncompressed.mat")


@pytest.mark.parametrize("name", FILES)
def test_structures(name):
    found = read_structures((GOLDEN / name).read_bytes(), "synsets")
    assert [(one["ILSVRC2012_ID"], one["WNID"]) for one in found] == [
        (1, "n02119789"), (2, "n02100735"), (3, "n01440764"), (4, "n04355338"), (1001, "n00001740"),
    ]  # fmt: skip
    assert found[-1]["gloss"] == "é — all"
    assert found[-1]["wordnet_height"] == 19
    assert found[-1]["children"] is None  # an array of two


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_value_errors(name):
    whole = (GOLDEN / name).read_bytes()
    with pytest.raises(ValueError, match="holds no array others"):
        read_structures(whole, "others")
    with pytest.raises(ValueError, match="is no MATLAB file"):
        read_structures(b"", "synsets")
    generator = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(generator.randrange(1, 4)):
            damaged[generator.randrange(128, len(whole))] = generator.randrange(256)
        cut = bytes(damaged[: generator.randrange(len(whole))]) if generator.random() < 0.3 else bytes(damaged)
        with contextlib.suppress(ValueError):  # no other error
            read_structures(cut, "synsets")
