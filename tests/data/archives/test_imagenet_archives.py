"""ImageNet's archives as a data set: every image once, at its place, with its label; and what is refused."""

import gzip
import os
import random
import tarfile

import pytest

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.archives import imagenet_archives
from efficientnet_tpu.data.archives.imagenet_archives import Archives, require_archives
from efficientnet_tpu.data.data_place import require_data_place
from efficientnet_tpu.errors import UserError
from tests.support.imagenet_archives import (
    CLASSES,
    GOLDEN,
    NAMES,
    devkit,
    picture,
    tar_bytes,
    train_images,
    validation_images,
    write_archives,
    write_folder_of_archives,
)

TRAIN, VALIDATION, DEVKIT = NAMES
GOLDEN_META = (GOLDEN / "devkit_meta.mat").read_bytes()


def _content(place):
    with open(place.archive, "rb") as file:
        file.seek(place.offset)
        return file.read(place.size)


def test_every_image_is_found_at_its_place(tmp_path):
    files = imagenet_archives.read(write_archives(tmp_path), 10)
    assert files.label_names == CLASSES
    expected = {
        f"{TRAIN}/{name}/{image}": (content, CLASSES.index(name))
        for name, images in train_images().items()
        for image, content in images
    }
    assert {path: (_content(files.places[path]), label) for path, label in files.splits["train"]} == expected
    expected = {
        f"{VALIDATION}/{name}/{image}": (content, CLASSES.index(name)) for image, content, name in validation_images()
    }
    assert {path: (_content(files.places[path]), label) for path, label in files.splits["validation"]} == expected
    assert files.left_out == {}
    assert files.held_out == ()


def test_which_archive_is_which_is_told_by_its_content(tmp_path):
    given = write_archives(tmp_path).split(",")
    for number, path in enumerate(given):
        os.rename(path, tmp_path / f"{number}.tar")
    renamed = [str(tmp_path / f"{number}.tar") for number in range(3)]
    assert require_archives(",".join(reversed(renamed))) == Archives(*renamed)


def test_without_a_devkit_labels_are_those_of_tensorflow_datasets(tmp_path):
    """Images get the classes that the list has for their numbers."""
    listed = imagenet_archives._packaged_labels()
    with open(listed) as file:
        labels = file.read().split()
    assert len(labels) == 50_000
    assert len(set(labels)) == 1000
    assert all(labels.count(name) == 50 for name in CLASSES)
    numbers = [number for number, name in enumerate(labels, 1) if name in CLASSES][:6]
    train, *_ = write_archives(tmp_path).split(",")
    images = [(f"ILSVRC2012_val_{number:08d}.JPEG", picture(number)) for number in numbers]
    (tmp_path / VALIDATION).write_bytes(tar_bytes(images))
    files = imagenet_archives.read(f"{train},{tmp_path / VALIDATION}", 10)
    found = {path.rpartition("/")[2]: CLASSES[label] for path, label in files.splits["validation"]}
    assert found == {name: labels[number - 1] for (name, _), number in zip(images, numbers, strict=True)}


def test_one_archive_alone(tmp_path):
    train, validation, labels = write_archives(tmp_path).split(",")
    alone = imagenet_archives.read(train, 34)
    assert {split: len(examples) for split, examples in alone.splits.items()} == {"train": 9, "validation": 9}
    assert alone.held_out == ("validation",)
    measured_on = imagenet_archives.read(f"{validation},{labels}", 10)
    assert {split: len(examples) for split, examples in measured_on.splits.items()} == {"validation": 6}
    assert measured_on.label_names == CLASSES


def test_the_split_reads_the_bytes(tf, tmp_path):
    from efficientnet_tpu.data.datasets import open_data, split_of_files
    from efficientnet_tpu.data.split import SINGLE_HOST

    data_dir = write_archives(tmp_path / "archives")
    files = imagenet_archives.read(data_dir, 10)
    split = split_of_files(files, files.splits["train"])
    order = tf.constant([1, 0], tf.int64)
    for given in (None, order):
        loaded = split.handles(SINGLE_HOST, given).map(split.load).as_numpy_iterator()
        for position, (content, label) in enumerate(loaded):
            path = split.locate(SINGLE_HOST, given, position)
            assert content == _content(files.places[path])
            assert CLASSES[label] in path
        assert position == 17
    both = split.join(split_of_files(files, files.splits["validation"]))
    assert both.num_images == len(both.stored_in()) == 24
    # As the folder that the archives were unpacked to.
    unpacked = open_data(DataConfig(data_dir=write_folder_of_archives(tmp_path / "folder")))
    data = open_data(DataConfig(data_dir=data_dir))
    assert data.label_names == unpacked.label_names
    for name, split in data.splits.items():
        contents = [
            set(one.handles(SINGLE_HOST, None).map(one.load).as_numpy_iterator())
            for one in (split, unpacked.splits[name])
        ]
        assert contents[0] == contents[1]


def _replace(folder, name, content):
    (folder / name).write_bytes(content)


def _cut(folder, name, size):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:size])


def _without_end(folder):
    """Ends behind a whole file, as a copy may that broke off."""
    content = (folder / VALIDATION).read_bytes()
    with tarfile.open(folder / VALIDATION) as tar:
        last = tar.getmembers()[-1]
    (folder / VALIDATION).write_bytes(content[: last.offset])


def _damage(folder):
    content = bytearray((folder / TRAIN).read_bytes())
    content[512 + 2048 + 10] ^= 1  # in a header or an image of the first class
    at = content.index(b"n01440764_3.JPEG")
    content[at] ^= 1
    (folder / TRAIN).write_bytes(content)


def _link(folder):
    (folder / TRAIN).unlink()
    os.mkfifo(folder / TRAIN)


def _train_tar(classes, image):
    return tar_bytes([(f"{name}.tar", tar_bytes([(image.format(name), picture(1))])) for name in classes])


TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
IMAGES = [(name, content) for name, content, _ in validation_images()]
REFUSED = {
    "cut in an image": (lambda folder: _cut(folder, VALIDATION, 3000), f"{VALIDATION}: is cut off"),
    "cut behind a file": (_without_end, f"{VALIDATION}: is cut off"),
    "cut in a class": (lambda folder: _cut(folder, TRAIN, 30 * 512), f"{TRAIN}: is cut off"),
    "cut devkit": (lambda folder: _cut(folder, DEVKIT, 300), f"{DEVKIT}: is compressed, and cut off or damaged"),
    "empty": (lambda folder: _replace(folder, TRAIN, b""), f"{TRAIN}: is cut off"),
    "no tar": (lambda folder: _replace(folder, TRAIN, b"<html>" * 500), f"{TRAIN}: is no tar file"),
    "a damaged header": (_damage, f"{TRAIN}: is damaged at byte"),
    "not there": (lambda folder: (folder / VALIDATION).unlink(), f"{VALIDATION}: does not exist"),
    "a pipe": (_link, f"{TRAIN}: is a named pipe"),
    "compressed": (
        lambda folder: _replace(folder, VALIDATION, gzip.compress(tar_bytes(IMAGES))),
        f"{VALIDATION}: is compressed, and not {DEVKIT}",
    ),
    "of folders": (
        lambda folder: _replace(folder, TRAIN, tar_bytes([("cats/1.jpg", b"1"), ("dogs/1.jpg", b"2")])),
        f"{TRAIN}: is none of ImageNet's {TRAIN}, {VALIDATION} and {DEVKIT}: its first file is 1.jpg. Unpack",
    ),
    "test images": (
        lambda folder: _replace(folder, TRAIN, tar_bytes([("ILSVRC2012_test_00000001.JPEG", b"1")])),
        f"{TRAIN}: holds the test images",
    ),
    "two of a kind": (
        lambda folder: _replace(folder, TRAIN, (folder / VALIDATION).read_bytes()),
        "are both a validation archive",
    ),
    "too few labels": (
        lambda folder: _replace(folder, DEVKIT, devkit(CLASSES)),
        f"{VALIDATION}: holds ILSVRC2012_val_00000004.JPEG, and there are 3 labels",
    ),
    "a class that is not there": (
        lambda folder: _replace(folder, TRAIN, _train_tar(CLASSES[:2], "{}_1.JPEG")),
        f"is of the class {CLASSES[2]}, of which",
    ),
    "a class without images": (
        lambda folder: _replace(folder, TRAIN, _train_tar(CLASSES, "a.txt")),
        f"{TRAIN}: {CLASSES[0]}.tar in it holds no image",
    ),
    "a devkit without its table": (
        lambda folder: _replace(folder, DEVKIT, tar_bytes([(TRUTH, b"1")], "gz")),
        f"{DEVKIT}: holds no meta.mat",
    ),
    "a devkit with another table": (
        lambda folder: _replace(folder, DEVKIT, tar_bytes([(TRUTH, b"1"), ("data/meta.mat", b"0" * 200)], "gz")),
        f"{DEVKIT}: meta.mat or ILSVRC2012_validation_ground_truth.txt in it: is no MATLAB file of level 5",
    ),
    "labels that are no numbers": (
        lambda folder: _replace(folder, DEVKIT, tar_bytes([(TRUTH, b"x"), ("data/meta.mat", GOLDEN_META)], "gz")),
        f"{DEVKIT}: meta.mat or ILSVRC2012_validation_ground_truth.txt in it: invalid literal",
    ),
    "a label of no class": (
        lambda folder: _replace(folder, DEVKIT, tar_bytes([(TRUTH, b"99"), ("data/meta.mat", GOLDEN_META)], "gz")),
        f"{DEVKIT}: meta.mat or ILSVRC2012_validation_ground_truth.txt in it: 99 is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_in_one_line(tmp_path, case):
    data_dir = write_archives(tmp_path)
    change, message = REFUSED[case]
    change(tmp_path)
    with pytest.raises(UserError) as error:
        imagenet_archives.read(data_dir, 10)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("--data_dir")


@pytest.mark.parametrize("name", NAMES)
def test_damaged_archives_are_read_or_refused(tmp_path, name):
    """Some bytes of headers and tables are others: the answer is a list of images or one line, and comes at once."""
    data_dir = write_archives(tmp_path, per_class=3, validation=3)
    whole = (tmp_path / name).read_bytes()
    headers = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"] or [0]
    generator = random.Random(name)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(generator.randrange(1, 4)):
            at = generator.choice(headers) + generator.randrange(512)
            damaged[min(at, len(whole) - 1)] = generator.randrange(256)
        if generator.random() < 0.5:  # a header whose checksum fits
            at = generator.choice(headers)
            damaged[at + 124] = generator.choice([0x80, 0xFF, 0x30])
            block = damaged[at : at + 512]
            block[148:156] = b" " * 8
            damaged[at + 148 : at + 156] = b"%06o\0 " % sum(block)
        (tmp_path / name).write_bytes(damaged)
        try:
            imagenet_archives.read(data_dir, 10)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_validation_images_without_labels_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    train, validation, labels = write_archives(tmp_path).split(",")
    monkeypatch.setattr(imagenet_archives, "_packaged_labels", lambda: "")
    with pytest.raises(UserError, match=f"have no labels in their archive. Give {DEVKIT} besides"):
        require_data_place(DataConfig(data_dir=f"{train},{validation}"))
    with pytest.raises(UserError, match=r"has labels and no images"):
        require_data_place(DataConfig(data_dir=labels))
    require_data_place(DataConfig(data_dir=f"{train},{validation},{labels}"))


def test_archives_in_a_bucket_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"gs://b/a.tar: archives are read from a disk alone. Copy it there: gcloud"):
        require_archives("gs://b/a.tar,gs://b/b.tar")


def test_a_folder_may_have_an_archives_name(tmp_path):
    (tmp_path / "photos.tar").mkdir()
    assert not imagenet_archives.are_archives(str(tmp_path / "photos.tar"))
    assert not imagenet_archives.are_archives("photos,2024")
    assert imagenet_archives.are_archives("a.tar,b.TAR,c.tar.gz")


@pytest.mark.slow
def test_a_training_reads_archives_and_finds_them_again_from_elsewhere(tf, tmp_path, monkeypatch, capsys):
    from efficientnet_tpu import cli

    write_archives(tmp_path / "archives", per_class=8)
    monkeypatch.chdir(tmp_path)
    given = ",".join(f"archives/{name}" for name in NAMES)
    cli.main(
        ["main.py", f"--data_dir={given}", "--model_dir=run", "--model=efficientnet-nano", "--resolution=32",
         "--train_epochs=1", "--train_batch_size=8"]
    )  # fmt: skip
    monkeypatch.chdir("/")
    capsys.readouterr()
    cli.main(["main.py", "evaluate", f"--model_dir={tmp_path / 'run'}"])
    assert "6 of 30 images" in capsys.readouterr().out
