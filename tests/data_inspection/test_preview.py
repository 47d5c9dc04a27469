"""The preview shows what training will see: the run's own first images, and every operation as the policy has it."""

import csv
import itertools

import numpy as np
import pytest
from PIL import Image

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.data import AUGMENTATIONS, DataConfig
from efficientnet_tpu.data.augment.operations import OPERATIONS, argument
from efficientnet_tpu.data.augment.policies import RANDAUGMENT_PIXELS
from efficientnet_tpu.errors import UserError

SIZE = 32  # efficientnet-nano's


@pytest.fixture(scope="module")
def preview(tf):
    from efficientnet_tpu.data_inspection import preview

    return preview


@pytest.fixture(scope="module")
def augmentation_tiles(tf):
    from efficientnet_tpu.data_inspection import augmentation_tiles

    return augmentation_tiles


@pytest.fixture
def drawn(preview, monkeypatch):
    """The sections that the command draws, in a list."""
    found = []
    draw = preview.draw
    monkeypatch.setattr(preview, "draw", lambda title, sections: found.extend(sections) or draw(title, sections))
    return found


@pytest.fixture
def run(preview, tmp_path):
    """run(flag, ...) -> path of the picture that `main.py preview` has written."""
    from efficientnet_tpu import cli

    def run(*flags):
        path = tmp_path / "preview.png"
        cli.main(["main.py", "preview", "--model=efficientnet-nano", f"--picture={path}", *flags])
        return path

    return run


def _photo(seed=0):
    """uint8 [SIZE, SIZE, 3]: noise over a slope, all levels there, so that no operation is without effect."""
    slope = np.linspace(20, 230, SIZE)[np.newaxis, :, np.newaxis]
    noise = np.random.default_rng(seed).normal(0, 20, (SIZE, SIZE, 3))
    return np.clip(slope + noise, 0, 255).astype(np.uint8)


def _by_name(section):
    """Operation -> its tiles; the tile `unchanged` left out."""
    tiles = sorted((tile for tile in section.tiles if len(tile.caption) == 2), key=lambda tile: tile.caption[0])
    return {name: list(group) for name, group in itertools.groupby(tiles, key=lambda tile: tile.caption[0])}


# ---- The images.


OTHER_OPTIONS = pytest.param({"horizontal_flip": False}, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"augment": "autoaugment", "seed": 3}, OTHER_OPTIONS])
def test_the_first_images_are_those_of_training(tf, preview, shapes, options):
    from efficientnet_tpu.data.datasets import open_data
    from efficientnet_tpu.data.preprocessing import make_train_image
    from efficientnet_tpu.models.configured import configured_architecture
    from efficientnet_tpu.training.stream import TrainStream

    config = with_options(
        Config(), {"data_dir": str(shapes), "model": "efficientnet-nano", "train_batch_size": 8, **options}
    )
    data = open_data(config.data)
    architecture = configured_architecture(config.model, len(data.label_names))
    stream = TrainStream(tf.distribute.get_strategy(), data.train, architecture, config, 0)
    images, labels = next(stream.batches)
    shown = preview.first_images(data.train, make_train_image(config.data, SIZE), 6, config)
    assert [image.label for image in shown] == labels[:6].numpy().tolist()
    assert np.array_equal([image.prepared for image in shown], images[:6])
    files = {path.read_bytes() for path in (shapes / "train").rglob("*.*")}
    assert all(image.encoded.numpy() in files for image in shown)


def test_a_row_is_one_image_in_all_its_forms(tf, preview, run, drawn, shapes, capsys, monkeypatch):
    from efficientnet_tpu.data.decoding.image_format import decode
    from efficientnet_tpu.data.preprocessing import Preparation, eval_image

    first_images, first = preview.first_images, []
    monkeypatch.setattr(preview, "first_images", lambda *words: first.extend(first_images(*words)) or first)
    run(f"--data_dir={shapes}", "--augment=autoaugment")
    training = drawn[0]
    columns = len(training.headings)
    assert training.headings[:3] == ("original", "in evaluation", "training, epoch 1")
    assert len(training.tiles) == 6 * columns
    files = {decode(tf.constant(path.read_bytes())).numpy().tobytes(): path for path in shapes.rglob("train/*/*.*")}
    for image, (original, evaluated, *draws) in zip(first[:6], _rows(training), strict=True):
        path = files[original.pixels.tobytes()]
        height, width = original.pixels.shape[:2]
        assert original.caption == [path.parent.name, f"{width} x {height}"]
        expected = eval_image(tf.constant(path.read_bytes()), Preparation(SIZE, 5))  # 32 / 7
        assert np.array_equal(evaluated.pixels, expected)
        assert np.array_equal(draws[0].pixels, image.prepared)
        assert {draw.pixels.shape for draw in draws} == {(SIZE, SIZE, 3)}
        assert len({draw.pixels.tobytes() for draw in draws}) > 2
    assert "6 training images, each with its evaluation crop and 6 draws" in capsys.readouterr().out


def _rows(section):
    columns = len(section.headings)
    return [section.tiles[start : start + columns] for start in range(0, len(section.tiles), columns)]


def test_draws_that_show_nothing_are_counted(run, drawn, shapes, capsys):
    run(f"--data_dir={shapes}", "--augment=randaugment")  # 100 pixels to the side are more than the image has
    draws = [tile.pixels for row in _rows(drawn[0]) for tile in row[2:]]
    blank = sum(pixels.min() == pixels.max() for pixels in draws)
    assert 6 <= blank <= 18  # a share of 1 - (12/16)**2, more or less
    assert f"({blank} of the 36 show one level of grey, nothing else)" in capsys.readouterr().out


# ---- Mixing.


def test_mixed_images_have_their_labels_shares(run, drawn, shapes, capsys):
    run(f"--data_dir={shapes}", "--cutmix_alpha=1", "--random_erasing=0.1")
    section = drawn[1]
    assert "--cutmix_alpha=1 --random_erasing=0.1" in section.title
    assert len(section.tiles) == 8
    for tile in section.tiles:
        shares = {line.partition("% ")[2]: int(line.partition("%")[0]) for line in tile.caption}
        assert sum(shares.values()) == pytest.approx(100, abs=1)
        assert set(shares) <= {"circle", "square", "triangle"}
    assert any(len(tile.caption) == 2 for tile in section.tiles)
    assert "8 images with --cutmix_alpha=1 --random_erasing=0.1" in capsys.readouterr().out


def test_mixing_is_that_of_the_training_step(tf, preview):
    from efficientnet_tpu.config.train import TrainConfig
    from efficientnet_tpu.data.augment.mixup import make_mix

    train = TrainConfig(mixup_alpha=0.4)
    images = [preview.TrainingImage(_photo(label), label, tf.constant("")) for label in range(4)]
    [section] = preview.mixed_sections(images, "abcd", train)
    pixels = tf.constant(np.stack([image.prepared for image in images]))
    expected, targets = make_mix(train)(pixels, tf.eye(4), tf.zeros([2], tf.int32))
    for tile, picture, row in zip(section.tiles, expected.numpy(), targets.numpy(), strict=True):
        assert abs(tile.pixels - picture).max() <= 0.501
        assert tile.caption[0] == f"{row.max():.0%} {'abcd'[row.argmax()]}"
    assert preview.mixed_sections(images, "abcd", TrainConfig()) == []


# ---- The operations.


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_every_operation_is_shown_once_in_its_forms(augmentation_tiles, augment):
    image = _photo()
    sections = augmentation_tiles.sections(DataConfig(augment=augment), image)
    parts = [_by_name(section) for section in sections if "sub-policies" not in section.title]
    parts = [part for part in parts if set(part) <= set(OPERATIONS)]
    assert sorted(itertools.chain(*parts)) == sorted(OPERATIONS)
    for name, tiles in itertools.chain.from_iterable(part.items() for part in parts):
        assert len(tiles) == (2 if OPERATIONS[name].is_signed else len(tiles))
        assert len({tuple(tile.caption) for tile in tiles}) == len(tiles) <= 2
        assert all(tile.pixels.shape == image.shape for tile in tiles)


@pytest.mark.parametrize("semantics", ["reference", "pil"])
def test_operations_are_those_of_training(tf, augmentation_tiles, semantics):
    from tests.support import image_op_oracles

    image = _photo()
    config = DataConfig(augment_semantics=semantics)  # none: all at their nominal strength
    [section] = augmentation_tiles.sections(config, image)
    for name, tiles in _by_name(section).items():
        strength = argument(name, 10, *RANDAUGMENT_PIXELS)
        for tile, sign in zip(tiles, (1, -1), strict=False):
            assert np.array_equal(tile.pixels, image_op_oracles.apply(name, image, sign * strength, semantics)), (
                name,
                sign,
            )


def test_the_arguments_of_autoaugment(augmentation_tiles):
    sections = augmentation_tiles.sections(DataConfig(augment="autoaugment"), np.zeros((224, 224, 3), np.uint8))
    captions = {name: [tile.caption[1] for tile in tiles] for name, tiles in _by_name(sections[0]).items()}
    # Policy v0 of the reference: smallest and largest, or both signs of the largest.
    assert captions == {
        "AutoContrast": [""],
        "Equalize": [""],
        "Invert": [""],
        "Rotate": ["+27°", "-27°"],
        "Posterize": ["0 bits", "2 bits"],
        "Solarize": ["from 51", "from 256"],
        "SolarizeAdd": ["+33", "+77"],
        "Color": ["x 0.1", "x 1.7"],
        "ShearX": ["+0.27", "-0.27"],
        "ShearY": ["+0.21", "-0.21"],
        "TranslateY": ["+225 px of 224", "-225 px of 224"],
    }
    assert set(_by_name(sections[2])) == {"Contrast", "Brightness", "Sharpness", "TranslateX", "Cutout"}


def test_randaugment_is_shown_at_its_magnitude(augmentation_tiles):
    config = DataConfig(augment="randaugment", randaug_magnitude=5, randaug_num_layers=3)
    operations, draws = augmentation_tiles.sections(config, _photo())
    captions = {name: [tile.caption[1] for tile in tiles] for name, tiles in _by_name(operations).items()}
    assert captions["Rotate"] == ["+15°", "-15°"]
    assert captions["Cutout"] == ["40 x 40 px"]
    assert captions["Posterize"] == ["2 bits"]
    assert len(captions) == 16
    assert {len(tile.caption) for tile in draws.tiles} == {3}
    assert "3 of 16 operations" in draws.title


def test_magnitude_0_has_no_sign(augmentation_tiles):
    operations, _ = augmentation_tiles.sections(DataConfig(augment="randaugment", randaug_magnitude=0), _photo())
    assert [tile.caption[1] for tile in _by_name(operations)["Rotate"]] == ["0°"]


def test_captions_of_draws_say_what_was_done(tf, augmentation_tiles):
    """The operations that a caption names, applied to the image, give the tile (Cutout's place is not in it)."""
    from efficientnet_tpu.data.augment import image_ops

    image = _photo()
    config = DataConfig(augment="randaugment", randaug_magnitude=2)
    _, section = augmentation_tiles.sections(config, image)
    checked = 0
    for tile in section.tiles:
        names = [line.partition(" ")[0] for line in tile.caption]
        if "Cutout" in names:
            continue
        expected = image
        for name, line in zip(names, tile.caption, strict=True):
            sign = -1 if OPERATIONS[name].is_signed and " -" in line else 1
            strength = sign * argument(name, 2, *RANDAUGMENT_PIXELS)
            expected = image_ops.apply(name, tf.constant(expected), strength).numpy()
        assert np.array_equal(tile.pixels, expected), tile.caption
        checked += 1
    assert checked > 10


@pytest.mark.parametrize("augment", ["autoaugment", "autoaugment-cifar10", "autoaugment-svhn"])
def test_sub_policies_in_the_order_of_the_table(tf, augmentation_tiles, augment):
    from efficientnet_tpu.data.augment import image_ops
    from efficientnet_tpu.data.augment.policies import AUTOAUGMENT_FLAGS, POLICIES, autoaugment_pixels

    image = _photo()
    section = augmentation_tiles.sections(DataConfig(augment=augment), image)[1]
    policy = POLICIES[AUTOAUGMENT_FLAGS[augment]]
    assert len(section.tiles) == len(policy) == 25
    pixels = autoaugment_pixels(AUTOAUGMENT_FLAGS[augment], SIZE)
    for tile, operations in zip(section.tiles, policy, strict=True):
        expected = image
        for operation, line in zip(operations, tile.caption, strict=True):
            assert line.startswith(operation.name)
            assert line.endswith(f" ({operation.probability:.0%})")
            if operation.probability > 0:
                strength = argument(operation.name, operation.level, *pixels)
                expected = image_ops.apply(operation.name, tf.constant(expected), strength).numpy()
        assert np.array_equal(tile.pixels, expected)


# ---- The whole program.


OTHER_SOURCES = [pytest.param(source, marks=pytest.mark.slow) for source in ("folder", "manifest", "fake")]


@pytest.mark.parametrize("source", ["sample", *OTHER_SOURCES])
def test_every_source(run, shapes, tmp_path, source, capsys):
    manifest = tmp_path / "images.csv"
    with open(manifest, "w") as file:
        rows = [(path, path.parent.name) for path in sorted(shapes.rglob("train/*/*.*"))]
        csv.writer(file).writerows([("path", "label"), *rows])
    flags = {
        "folder": f"--data_dir={shapes}",
        "manifest": f"--data_dir={manifest}",
        "sample": "--dataset=sample",
        "fake": "--dataset=fake:7:50:10",
    }
    path = run(flags[source])
    out = capsys.readouterr().out
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert f"{path}: {picture.width} x {picture.height} pixels\n" in out
        assert picture.width == 1388
        pixels = np.asarray(picture)
    assert "6 training images" in out
    assert "16 operations" in out
    assert pixels.std() > 30


def test_what_cannot_be_read_is_left_out_as_in_training(tf, run, drawn, tmp_path, capsys):
    from efficientnet_tpu.data.datasets import open_data
    from efficientnet_tpu.data.split import SINGLE_HOST

    root = tmp_path / "images"
    for name, level in itertools.product("ab", range(8)):
        (root / name).mkdir(parents=True, exist_ok=True)
        pixels = np.full((40, 40, 3), 10 * level + 5, np.uint8)
        (root / name / f"{level}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    split = open_data(DataConfig(data_dir=str(root))).train
    order = tf.constant([0, 0], tf.int64)  # seed, epoch
    paths = [split.locate(SINGLE_HOST, order, position) for position in range(8)]
    for position in (1, 2):
        with open(paths[position], "r+b") as file:
            file.truncate(60)
    run(f"--data_dir={root}")
    # An image that cannot be read is replaced by the next one.
    levels = [(row[0].pixels.max() - 5) // 10 for row in _rows(drawn[0])]
    assert levels == [int(paths[position][-5]) for position in (0, 3, 3, 3, 4, 5)]
    out = capsys.readouterr().out
    assert all(f"skipped {paths[position]}: truncated PNG" in out for position in (1, 2))
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_set_smaller_than_the_picture(tf, run, drawn, tmp_path):
    for path in ("train/a/1", "train/b/2", "validation/a/3", "validation/b/4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{path}.png").write_bytes(tf.io.encode_png(_photo(int(path[-1]))).numpy())
    run(f"--data_dir={tmp_path}")
    assert sorted(row[0].caption[0] for row in _rows(drawn[0])) == ["a", "b"]


@pytest.mark.parametrize(
    ("label", "words"), [(0, "cat"), (1, "class 1"), (2, "why?"), (3, "label 3, no class"), (-1, "label -1, no class")]
)
def test_names_of_classes(preview, label, words):
    assert preview.class_name(("cat", "\ue000", "why?"), label) == words


def test_the_picture_is_refused_before_the_images_are_looked_for(run, tmp_path):
    with pytest.raises(UserError, match=f"--picture={tmp_path}/none/x.png: there is no folder"):
        run(f"--data_dir={tmp_path}", f"--picture={tmp_path}/none/x.png")
    with pytest.raises(UserError, match="--picture is missing"):
        run("--dataset=sample", "--picture=")
