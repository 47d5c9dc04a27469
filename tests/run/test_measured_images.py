"""Which images a run is measured on: never a share of a set in silence."""

import dataclasses

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from tests.support.image_files import encode, photo

SOURCE = "--data_dir=/photos"


@pytest.fixture(scope="module")
def images_of(tf):
    """images_of(train=6, ...) -> ImageData with splits of so many files, called by split and number."""
    from efficientnet_tpu.data.sources.file_split import file_split
    from efficientnet_tpu.data.split import ImageData

    def make(held_out=(), words=None, **sizes):
        splits = {
            split: file_split([(f"{split}{index}", index % 2) for index in range(size)])
            for split, size in sizes.items()
        }
        whole = dict.fromkeys(("train", "validation")) | splits
        return ImageData(("a", "b"), fingerprint="f" * 16, words=words or {}, held_out=held_out, **whole)

    return make


def names_of(split):
    return [path.decode().rstrip("0123456789") for path in split.paths().numpy()]


@pytest.mark.parametrize(
    ("data", "is_own", "eval_split", "name", "sizes", "words"),
    [
        # A validation split of its own is what is asked for by default, whoever has it.
        ({"train": 6, "validation": 3, "test": 2}, True, "validation", "validation", {"validation": 3}, ""),
        ({"train": 6, "validation": 3, "test": 2}, False, "validation", "validation", {"validation": 3}, ""),
        ({"validation": 3}, False, "validation", "validation", {"validation": 3}, ""),
        # The run's own images: what was held out, and that is said.
        (
            {"train": 6, "validation": 3, "held_out": ("validation",)}, True, "validation",
            "validation", {"validation": 3}, "measured are the 3 images held out of training, of --data_dir=/photos; "
            "--eval_split=all measures all of them",
        ),
        # Those of another set are measured whole.
        (
            {"train": 6, "validation": 3, "held_out": ("validation",)}, False, "validation",
            "all", {"train": 6, "validation": 3}, "has no validation images of its own: all of its images are measured",
        ),
        ({"train": 6}, False, "validation", "all", {"train": 6}, "all of its images are measured"),
        ({"test": 2}, False, "validation", "test", {"test": 2}, "its test images are measured"),
        # By name.
        ({"train": 6, "validation": 3, "test": 2}, True, "test", "test", {"test": 2}, ""),
        ({"train": 6, "validation": 3, "minival": 1}, True, "minival", "minival", {"minival": 1}, ""),
        ({"train": 6, "validation": 3}, True, "train", "train", {"train": 6}, "was trained on 6 of these images"),
        ({"train": 6, "validation": 3}, False, "train", "train", {"train": 6}, ""),
        (
            {"train": 6, "validation": 3, "test": 2, "minival": 1}, True, "all",
            "all", {"train": 6, "validation": 3, "minival": 1, "test": 2}, "was trained on 6 of these images",
        ),
        # Test images that are validated on for lack of others are test images.
        (
            {"train": 6, "validation": 3, "words": {"validation": "Testing"}}, True, "test",
            "Testing", {"validation": 3}, "",
        ),
        (
            {"train": 6, "validation": 3, "words": {"validation": "Testing"}}, True, "validation",
            "Testing", {"validation": 3}, "",
        ),
        ({"train": 6, "validation": 3, "words": {"validation": "val"}}, True, "validation", "validation",
         {"validation": 3}, ""),
    ],
)  # fmt: skip
def test_which_images(images_of, data, is_own, eval_split, name, sizes, words):
    from efficientnet_tpu.run.measured_images import choose_images

    images = choose_images(images_of(**data), eval_split, SOURCE, is_own)
    assert images.name == name
    assert names_of(images.split) == [split for split, size in sizes.items() for _ in range(size)]
    assert images.total == sum(size for size in data.values() if isinstance(size, int))
    assert words in images.note
    assert bool(words) == bool(images.note)


@pytest.mark.parametrize(
    ("eval_split", "words"),
    [
        ("minival", "nothing is held out of the training images; --minival_percent does."),
        ("test", "--data_dir=/photos has no such images. Give one of train, validation, all."),
    ],
)
def test_images_that_are_not_there(images_of, eval_split, words):
    from efficientnet_tpu.run.measured_images import choose_images

    with pytest.raises(UserError, match=f"^--eval_split={eval_split}: {words}"):
        choose_images(images_of(train=6, validation=3), eval_split, SOURCE, True)


@pytest.fixture
def folders(tf, tmp_path):
    """Folders `own` and `other` of two classes, 12 images of the same names in each."""
    for folder in ("own", "other"):
        for name in ("a", "b"):
            (tmp_path / folder / name).mkdir(parents=True)
            for index in range(12):
                (tmp_path / folder / name / f"{index}.png").write_bytes(encode(photo(4, 4), "PNG"))
    return tmp_path


def test_the_own_images_are_told_by_where_they_are_and_by_what_they_are(tf, folders, open_data, monkeypatch):
    """Two folders that number their images alike are not one."""
    from efficientnet_tpu.run.measured_images import open_measured_images
    from efficientnet_tpu.run.run_record import describe

    def measured(stored, data_dir):
        images = open_measured_images(stored, with_options(config, {"data_dir": str(data_dir)}))
        return images.name, images.split.num_images, images.total

    config = with_options(Config(), {"data_dir": str(folders / "own")})
    own = open_data(data_dir=folders / "own")
    stored = describe(config, own)
    held_out = own.validation.num_images
    assert 0 < held_out < 12
    assert measured(stored, folders / "own") == ("validation", held_out, 24)
    assert measured(stored, f"{folders}/own/") == ("validation", held_out, 24)
    monkeypatch.chdir(folders)
    assert measured(stored, "own") == ("validation", held_out, 24)
    assert measured(stored, folders / "other") == ("all", 24, 24)
    # Of a run from elsewhere, whose folder is not here, the same names are the same images.
    away = dataclasses.replace(stored, config=with_options(config, {"data_dir": "/elsewhere/photos"}))
    assert measured(away, folders / "own") == ("validation", held_out, 24)
    (folders / "other" / "b" / "0.png").unlink()
    assert measured(away, folders / "other") == ("all", 23, 23)
    # An import has seen none.
    imported = dataclasses.replace(away, config=Config(), data_fingerprint="imported")
    assert measured(imported, folders / "own") == ("all", 24, 24)


def test_images_come_under_the_labels_of_the_run(images_of):
    from efficientnet_tpu.run.measured_images import choose_images

    images = choose_images(images_of(train=2, validation=4), "validation", SOURCE, False)
    ours = images.with_classes(("x", "b", "a"), (2, 1))
    assert ours.split.labels().numpy().tolist() == [2, 1, 2, 1]
    assert (ours.name, ours.total) == ("validation", 6)
