"""Every operation equals its oracle to the last bit, in both semantics; and the oracles are what they say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu.data.augment.operations import OPERATIONS
from tests.support import image_op_oracles as oracles
from tests.support.op_inputs import ARGUMENTS, LARGE, SEMANTICS, photograph

# The oracles of the reference call TensorFlow for what only it can decide.
pytestmark = pytest.mark.usefixtures("tf")

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "augment_policies.json").read_text())
SMALL = (37, 53)


def _pictures(height, width):
    """uint8 [count, height, width, 3]: photographs, noise, and all that makes an operation stumble."""
    generator = np.random.default_rng(1)
    ramp = np.broadcast_to(np.linspace(0, 255, width)[np.newaxis, :, np.newaxis], (height, width, 3))
    return np.stack(
        [
            photograph(height, width),
            photograph(height, width, 1) // 2 + 60,  # faded
            generator.integers(0, 256, (height, width, 3)),
            generator.integers(0, 2, (height, width, 3)) * 255,
            generator.integers(100, 102, (height, width, 3)),  # two neighbouring levels
            ramp,
            np.zeros((height, width, 3)),
            np.full((height, width, 3), 255),
            np.broadcast_to([3, 94, 197], (height, width, 3)),  # constant; the last bit of the blur matters
            np.broadcast_to(100 + np.indices((height, width)).sum(0)[..., np.newaxis] % 2, (height, width, 3)),
        ]
    ).astype(np.uint8)


PICTURES = {size: _pictures(*size) for size in (SMALL, LARGE)}


def _uniforms(count):
    """float32 [count, 2] in [0, 1): corners first."""
    corners = np.array([[0, 0], [0, np.nextafter(np.float32(1), 0)], [0.5, 0.5]], np.float32)
    return np.concatenate([corners, np.random.default_rng(2).random((count, 2), np.float32)])[:count]


def _show(name, semantics, value, index, result, expected):
    """What pytest prints where they differ."""
    different = (result != expected).any(-1)
    worst = np.abs(result.astype(int) - expected).max()
    return f"{name}({value}) of {semantics}, picture {index}: {different.mean():.3%} of pixels differ, by up to {worst}"


@pytest.fixture(scope="module")
def image_ops(tf):
    from efficientnet_tpu.data.augment import image_ops

    return image_ops


# ---- The oracles


@pytest.mark.parametrize("name", ["Equalize", "Invert", "Brightness", "Posterize", "Solarize"])
def test_reference_is_pillow_where_both_are_right(name):
    limits = {"Posterize": (1, 8), "Solarize": (0, 255)}.get(name, (0, 1000))
    values = [value for value in ARGUMENTS[name] if limits[0] <= value <= limits[1]]
    assert values
    for picture in (*PICTURES[SMALL], *PICTURES[LARGE][:3]):
        for value in values:
            np.testing.assert_array_equal(*(oracles.apply(name, picture, value, semantics) for semantics in SEMANTICS))


@pytest.mark.parametrize("name", ["TranslateX", "TranslateY"])
def test_reference_translates_by_whole_pixels_like_pillow(name):
    for value in (value for value in ARGUMENTS[name] if value == int(value)):
        picture = PICTURES[LARGE][0]
        np.testing.assert_array_equal(*(oracles.apply(name, picture, value, semantics) for semantics in SEMANTICS))


@pytest.mark.parametrize(("name", "levels"), [("AutoContrast", 1), ("Color", 5), ("Sharpness", 9)])
def test_reference_rounds_otherwise_than_pillow(name, levels):
    """Never further than the factor, at most 5.5, can carry a difference of one or two levels."""
    worst = 0
    for picture in PICTURES[LARGE]:
        for value in ARGUMENTS[name]:
            results = [oracles.apply(name, picture, value, semantics).astype(int) for semantics in SEMANTICS]
            worst = max(worst, np.abs(results[0] - results[1]).max())
    assert 0 < worst <= levels


@pytest.mark.parametrize("name", ["Rotate", "ShearX", "ShearY"])
def test_reference_and_pillow_turn_and_shear_the_same_way(name):
    """Other pixels are nearest here and there, but opposite signs would leave little in common."""
    y, x = np.mgrid[:224, :224]
    smooth = np.stack([y, x, (x + y) // 2], -1).astype(np.uint8)
    for value in (value for value in ARGUMENTS[name] if value != 0):
        same, opposite = (
            np.abs(oracles.apply(name, smooth, value, "reference").astype(int) - oracles.apply(name, smooth, v, "pil"))
            for v in (value, -value)
        )
        assert np.median(same) == 0
        assert same.mean() < 1.5
        assert opposite.mean() > 4 * same.mean() + 1


def test_contrast_of_the_reference_mistakes_the_number_of_pixels_for_the_mean():
    black = np.zeros((224, 224, 3), np.uint8)
    assert np.unique(oracles.apply("Contrast", black, 0.1, "reference")) == int(196 * 0.9)
    assert np.unique(oracles.apply("Contrast", black, 0.1, "pil")) == 0
    assert np.unique(oracles.apply("Contrast", np.zeros((256, 256, 3), np.uint8), 0.1, "reference")) == 229  # of 255


@pytest.mark.parametrize(("threshold", "wrapped"), [(256, 0), (435, 179), (716, 204), (512, 0), (768, 0), (204, 204)])
def test_solarize_of_the_reference_wraps(threshold, wrapped):
    picture = PICTURES[SMALL][2]
    solarized = oracles.apply("Solarize", picture, threshold, "reference")
    np.testing.assert_array_equal(solarized, np.where(picture < wrapped, picture, 255 - picture))
    if threshold >= 256:
        np.testing.assert_array_equal(oracles.apply("Solarize", picture, threshold, "pil"), picture)


@pytest.mark.parametrize(
    ("bits", "reference", "pil"),
    [(0, 0x80, 0x00), (1, 0x80, 0x80), (2, 0xC0, 0xC0), (8, 0xFF, 0xFF), (9, 0x80, 0xFF), (12, 0x80, 0xFF)],
)
def test_posterize_keeps_these_bits(bits, reference, pil):
    picture = PICTURES[SMALL][2]
    np.testing.assert_array_equal(oracles.apply("Posterize", picture, bits, "reference"), picture & reference)
    np.testing.assert_array_equal(oracles.apply("Posterize", picture, bits, "pil"), picture & pil)


def test_gray_of_the_reference_is_tensorflows(tf):
    colours = np.arange(0, 2**24, 13, np.uint32)[: 1000 * 1000].reshape(1000, 1000)
    picture = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8)
    np.testing.assert_array_equal(oracles._gray(picture), tf.image.rgb_to_grayscale(picture)[..., 0])


def test_blur_is_nine_products_added_in_order():
    """In the processor's fused multiply-add, or without: TensorFlow takes the former where it uses oneDNN."""
    for picture in PICTURES[LARGE]:
        blurred = oracles.blur(picture)
        by_hand = [oracles.blur_by_hand(picture, fused) for fused in (True, False)]
        assert any(np.array_equal(blurred, other) for other in by_hand)
        assert np.abs(by_hand[0] - by_hand[1]).max() < 1e-4


def test_projective_transform_is_tensorflows(tf):
    picture = PICTURES[SMALL][0] | 1  # 0 marks what TensorFlow found outside
    transforms = [oracles.rotation(degrees, *SMALL) for degrees in ARGUMENTS["Rotate"]]
    transforms += [[1, ratio, 0, 0, 1, 0] for ratio in ARGUMENTS["ShearX"]]
    transforms += [[1, 0, pixels, 0, 1, -pixels] for pixels in (0.5, -0.5, 0.49999997, 3, -2.5)]
    for transform in transforms:
        expected = tf.raw_ops.ImageProjectiveTransformV3(
            images=picture[np.newaxis],
            transforms=np.array([[*transform, 0, 0]], np.float32),
            output_shape=SMALL,
            fill_value=0.0,
            interpolation="NEAREST",
        )[0].numpy()
        result = oracles.projective_transform(picture, transform)
        np.testing.assert_array_equal(result, np.where(expected == 0, oracles.GRAY, expected))


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_positive_angles_turn_counterclockwise_and_positive_pixels_move_left_and_up(semantics):
    right_half = np.zeros((9, 9, 3), np.uint8)
    right_half[:, 5:] = 200
    np.testing.assert_array_equal(oracles.apply("Rotate", right_half, 90, semantics)[:4], 200)
    np.testing.assert_array_equal(oracles.apply("TranslateX", right_half, 5, semantics)[:, :4], 200)
    np.testing.assert_array_equal(oracles.apply("TranslateX", right_half, 5, semantics)[:, 4:], oracles.GRAY)
    np.testing.assert_array_equal(oracles.apply("TranslateY", right_half, 5, semantics)[4:], oracles.GRAY)


# ---- The operations


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_every_operation_names_its_oracle(image_ops, semantics):
    assert list(image_ops.IMAGE_OPS[semantics]) == list(OPERATIONS)
    for name, op in image_ops.IMAGE_OPS[semantics].items():
        assert callable(getattr(oracles, op.oracle, None)), f"{name}: image_op_oracles.py has no {op.oracle}"
        assert op.oracle in (f"{semantics}_{_snake(name)}", _snake(name))


def _snake(name):
    """`shear_x` of `ShearX`; `autocontrast` is one word."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name.replace("AutoContrast", "Autocontrast")).lower()


@pytest.mark.parametrize("semantics", ["reference", pytest.param("pil", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_its_oracle_inside_a_dataset(tf, image_ops, name, semantics):
    """Every argument of the tables on every picture: all on the small size; on the large photograph, noise, one
    colour, and chequers, whose mean lies halfway between two levels there.
    """
    for size, pictures in ((SMALL, PICTURES[SMALL]), (LARGE, PICTURES[LARGE][[0, 2, 8, 9]])):
        cases = [(index, value) for index in range(len(pictures)) for value in ARGUMENTS[name]]
        indices, values = (np.array(column) for column in zip(*cases, strict=True))
        uniforms = _uniforms(len(cases))
        dataset = tf.data.Dataset.from_tensor_slices((indices, values.astype(np.float32), uniforms))
        constant = tf.constant(pictures)
        results = dataset.map(
            lambda index, value, center, constant=constant: image_ops.apply(
                name, constant[index], value, semantics, center
            )
        )
        assert results.element_spec.dtype == tf.uint8
        for (index, value), center, result in zip(cases, uniforms, results.as_numpy_iterator(), strict=True):
            expected = oracles.apply(name, pictures[index], value, semantics, center)
            assert result.shape == (*size, 3)
            assert np.array_equal(result, expected), _show(name, semantics, value, index, result, expected)


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_its_oracle_eagerly(image_ops, tf, name, semantics):
    """Arguments in turn over the pictures, as plain numbers."""
    uniforms = _uniforms(len(PICTURES[SMALL]))
    for index, picture in enumerate(PICTURES[SMALL]):
        value = ARGUMENTS[name][index * 2 % len(ARGUMENTS[name])]
        center = tf.constant(uniforms[index]) if name == "Cutout" else None
        result = image_ops.apply(name, tf.constant(picture), value, semantics, center).numpy()
        expected = oracles.apply(name, picture, value, semantics, uniforms[index])
        assert result.dtype == np.uint8
        assert np.array_equal(result, expected), _show(name, semantics, value, index, result, expected)


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_color_where_the_last_bit_decides(tf, image_ops, semantics):
    """The 1318 colours whose grey is closest to a whole level: another order of sums, or fused ones, show there."""
    weighted = [weight * np.arange(256, dtype=np.int32) for weight in (2989, 5870, 1140)]
    # Grey in the reference is the integer part of 511 / 5,100,000 of the weighted sum.
    rest = 511 * np.add.outer(np.add.outer(weighted[0], weighted[1]), weighted[2]) % 5_100_000
    colours = np.argwhere(np.minimum(rest, 5_100_000 - rest) <= 200).astype(np.uint8)
    picture = np.resize(colours, (*SMALL, 3))
    assert len(colours) < SMALL[0] * SMALL[1]
    color = tf.function(lambda factor: image_ops.apply("Color", tf.constant(picture), factor, semantics))
    for factor in (0.0, 0.28, 3.16):
        expected = oracles.apply("Color", picture, factor, semantics)
        np.testing.assert_array_equal(color(tf.constant(factor)), expected)
        np.testing.assert_array_equal(image_ops.apply("Color", tf.constant(picture), factor, semantics), expected)


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_autocontrast_of_any_range(image_ops, tf, semantics):
    """300 of the 32,640 ranges of levels: where one is stretched to exactly 255 or just below, the last bit decides."""
    generator = np.random.default_rng(3)
    ranges = np.sort(generator.integers(0, 256, (100, 2, 3)), axis=1)
    pictures = np.linspace(ranges[:, 0], ranges[:, 1], SMALL[0] * SMALL[1], axis=1)
    pictures = np.round(pictures).astype(np.uint8).reshape(100, *SMALL, 3)
    results = tf.data.Dataset.from_tensor_slices(pictures).map(
        lambda picture: image_ops.apply("AutoContrast", picture, 0.0, semantics)
    )
    for picture, result in zip(pictures, results.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(result, oracles.apply("AutoContrast", picture, 0.0, semantics))


def test_cutout_of_centers_along_the_borders(tf, image_ops):
    """Half a pixel inside every row and column that the border cuts off, and one in the middle."""
    height, width = SMALL
    picture = PICTURES[SMALL][2]
    for row in (0, 1, 2, 18, 34, 35, 36):
        for column in (0, 1, 2, 26, 50, 51, 52):
            uniforms = np.array([(row + 0.5) / height, (column + 0.5) / width], np.float32)
            result = image_ops.apply("Cutout", tf.constant(picture), 2.0, "reference", tf.constant(uniforms)).numpy()
            expected = picture.copy()
            expected[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = 128
            np.testing.assert_array_equal(result, expected)
