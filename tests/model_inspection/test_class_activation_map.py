"""Class activation maps: they add up to the logit, and lie over the image where they belong."""

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError


@pytest.fixture(scope="module")
def cam(tf):
    from efficientnet_tpu.model_inspection import class_activation_map

    return class_activation_map


@pytest.mark.parametrize("name", ["efficientnet-nano", "mobilenet-v1", "resnet-50"])
def test_the_mean_of_a_map_plus_the_bias_is_the_logit(cam, name):
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.configured import configured_architecture

    options = {"model": name, "depth_coefficient": 0.3, "width_coefficient": 0.5, "resolution": 96}
    model = build_model(configured_architecture(with_options(Config(), options).model, 7))
    random = np.random.default_rng(0)
    bias = random.normal(size=7)
    model.get_layer("classifier").bias.assign(bias)
    model.get_layer("classifier").kernel.assign(random.normal(size=model.get_layer("classifier").kernel.shape))
    images = random.integers(0, 256, (3, 96, 96, 3), np.uint8)
    for class_ids in ([0, 3, 6], [5, 5, 1]):
        maps, logits = cam.class_maps(model, images, class_ids)
        assert maps.shape == (3, 3, 3)
        of_maps = maps.mean(axis=(1, 2)) + bias[class_ids]
        np.testing.assert_allclose(of_maps, logits[np.arange(3), class_ids], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(logits, model(images, training=False), atol=1e-6)
    assert maps.std() > 1e-4


def test_a_place_of_the_map_lies_over_its_part_of_the_image(cam):
    weights = np.zeros((7, 7), np.float32)
    weights[0, 6] = weights[5, 2] = 3
    large = cam.enlarged(weights, (224, 224))
    assert large.shape == (224, 224)
    for row, column in ((0, 6), (5, 2)):
        assert large[row * 32 + 16, column * 32 + 16] == pytest.approx(3, abs=0.1)
    assert large[112, 112] == 0
    np.testing.assert_allclose(cam.enlarged(np.full((7, 7), -2.5, np.float32), (50, 30)), -2.5)
    # A slope stays a slope: bilinear, with centres on centres.
    slope = cam.enlarged(np.tile(np.arange(4, dtype=np.float32), (4, 1)), (40, 40))
    np.testing.assert_allclose(slope[20, 5:35], (np.arange(5, 35) + 0.5) / 10 - 0.5, atol=1e-5)


def test_colours_from_blue_to_red(cam):
    values = np.array([[0, 0.5, 1]])
    np.testing.assert_allclose(cam.colors(values)[0], [[0, 0, 127.5], [127.5, 255, 127.5], [127.5, 0, 0]])


def test_overlay(cam):
    image = np.full((64, 64, 3), (255, 0, 0), np.uint8)
    weights = np.zeros((4, 4), np.float32)
    weights[3, 0] = 2
    picture = cam.overlay(image, weights)
    assert (picture.dtype, picture.shape) == (np.uint8, image.shape)
    red, _, blue = picture[60, 4].astype(int)
    assert red > blue  # hottest at the lower left
    assert picture[4, 60][2] > picture[4, 60][0]
    # Only differences between places count, and a map without any is blue, not a division by zero.
    np.testing.assert_array_equal(cam.overlay(image, 3 * weights - 7), picture)
    np.testing.assert_array_equal(cam.overlay(image, 0 * weights)[4, 4], picture[4, 60])


def test_a_folder_that_cannot_be_is_refused(cam, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"--cam={tmp_path}/file/maps: cannot be written"):
        cam.check_folder(f"{tmp_path}/file/maps", "")


@pytest.mark.slow
def test_maps_of_a_run(cam, trained, shapes, tmp_path, capsys):
    from PIL import Image

    from efficientnet_tpu import cli

    folder = tmp_path / "maps"
    validation = shapes / "validation"
    # 00.png of every class: three images of one name.
    words = [f"{validation}/{name}/00.png" for name in ("circle", "square", "triangle")]
    cli.main(["main.py", "predict", f"--model_dir={trained}", f"--cam={folder}", "--resolution=96", *words])
    assert {path.name for path in folder.iterdir()} == {"00.png", "00-2.png", "00-3.png"}
    assert f"{folder}: 3 class activation maps" in capsys.readouterr().err
    with Image.open(folder / "00.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * cam.SIDE
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    left, right = pixels[:, : pixels.shape[1] // 2], pixels[:, pixels.shape[1] // 2 :]
    # The red disc on the left, a map from blue to red on the right.
    assert (left[..., 0] - left[..., 2]).max() > 100
    assert (right[..., 0] - right[..., 2]).max() > 50
    assert (right[..., 2] - right[..., 0]).max() > 50


@pytest.mark.slow
def test_maps_of_runs_side_by_side(cam, trained, shapes, tmp_path, capsys):
    from PIL import Image

    from efficientnet_tpu import cli
    from efficientnet_tpu.model_inspection import compare_maps

    images = [f"{shapes}/validation/{name}/00.png" for name in ("circle", "square")]
    flags = [f"--runs={trained},{trained}/", f"--picture={tmp_path / 'maps.png'}"]
    cli.main(["main.py", "compare-maps", *flags, *images])
    assert f"{tmp_path / 'maps.png'}: 2 images, 2 runs" in capsys.readouterr().out
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.width > 3 * compare_maps.SIDE
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    third = pixels.shape[1] // 3
    first, second = pixels[20:, third : 2 * third - 8], pixels[20:, 2 * third : 3 * third - 8]
    assert (first[..., 2] - first[..., 0]).max() > 50  # blue somewhere: a map
    assert (second[..., 2] - second[..., 0]).max() > 50
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"text\.jpg: is not a readable image: not an image"):
        cli.main(["main.py", "compare-maps", *flags, f"{tmp_path}/text.jpg"])
    with pytest.raises(UserError, match="no trained run here"):
        cli.main(["main.py", "compare-maps", f"--runs={tmp_path}/none", flags[1], *images])
