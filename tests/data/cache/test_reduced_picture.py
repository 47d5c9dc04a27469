"""A reduced picture gives the same crops as its file, up to the reduction; what needs none stays as it is."""

import functools

import numpy as np
import pytest

from tests.support.image_files import encode, exif

SIZE = 16
HEIGHT, WIDTH = 150, 200


@pytest.fixture(scope="module")
def reduced_picture(tf):
    from efficientnet_tpu.data.cache import reduced_picture

    return reduced_picture


@pytest.fixture(scope="module")
def reduction(tf):
    from efficientnet_tpu.data.decoding import reduction

    return reduction


@pytest.fixture(scope="module")
def crop(tf):
    """crop(content, number, reduced) -> a random crop uint8 [height, width, 3]; of a number, the same one."""
    from efficientnet_tpu.data.preprocessing import Preparation, train_window

    def compiled(reduced):
        preparation = Preparation(SIZE, 2, reduced=reduced)
        signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)]
        return tf.function(
            lambda content, seed: train_window(content, seed, preparation, 0.08), input_signature=signature
        )

    functions = {reduced: compiled(reduced) for reduced in (False, True)}
    return lambda content, number, reduced: functions[reduced](tf.constant(content), tf.constant([7, number])).numpy()


@pytest.fixture(scope="module")
def rule(reduced_picture):
    return reduced_picture.KeptReductions(SIZE, 2, 0.08)


def _places(height=HEIGHT, width=WIDTH):
    """A picture whose levels tell the place: red the column, green the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 128)], -1).astype(np.uint8)


def test_halvings_of_both_modules_are_the_same(reduced_picture, reduction):
    random = np.random.default_rng(0)
    for side, least in zip(random.integers(1, 9000, 40).tolist(), random.integers(1, 600, 40).tolist(), strict=True):
        expected = int(reduction.halvings(np.int32([0, 0, side, side]), least))
        assert reduced_picture._halvings(side, least) == expected


def test_photographs_of_telephones_are_kept_at_a_quarter_and_an_eighth(reduced_picture):
    rule = functools.partial(reduced_picture.KeptReductions, 224, 32)
    assert rule(0.08).halvings(3024, 4032) == (2, 2)
    assert rule(None).halvings(3024, 4032) == (3, 1)
    assert rule(0.08).halvings(375, 500) == rule(None).halvings(375, 500) == (0, 1)
    assert rule(0.08).halvings(1000, 20000) == (1, 2)  # crops have the height of a panorama at most


@pytest.mark.parametrize("crop_min_area", [0.05, 0.08, 0.35])
def test_seven_of_eight_crops_are_reduced_no_further_and_all_keep_half_of_the_side(reduced_picture, crop_min_area):
    rule = reduced_picture.KeptReductions(224, 32, crop_min_area)
    random = np.random.default_rng(0)
    areas = crop_min_area + (1 - crop_min_area) * random.random(20_000)
    aspects = random.uniform(3 / 4, 4 / 3, 20_000)
    for height, width in ((1200, 1600), (2000, 3000), (3024, 4032), (4000, 4000), (6000, 8000)):
        first, count = rule.halvings(height, width)
        area = areas * height * width
        shorter = np.minimum(np.minimum(np.sqrt(area * aspects), np.sqrt(area / aspects)), min(height, width))
        halvings = np.floor(np.log2(shorter / 224))
        assert (halvings < first).mean() <= 1 / 8
        assert shorter.min() / 2**first >= (0.5 if crop_min_area == 0.05 else 0.6) * 224
        assert count == 1 + (halvings.max() > first)


@pytest.mark.parametrize(
    "orientation", [6, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 2, 3, 4, 5, 7, 8))]
)
def test_a_crop_is_at_its_place_in_every_orientation(reduced_picture, rule, crop, orientation):
    content = encode(_places(), "JPEG", quality=98, subsampling=0, exif=exif(orientation))
    reduced = rule.reduced(content)
    assert reduced_picture.is_reduced_picture(reduced)
    num_same = 0
    for number in range(24):
        expected = crop(content, number, reduced=False)
        kept = crop(reduced, number, reduced=True)
        is_same = kept.shape == expected.shape
        # The mean of a crop's levels is that of its middle. A small crop may have moved by half a pixel of a quarter,
        # and have lost the part of one at its end: 3.5 pixels, of which each is 1.3 levels of red and 1.7 of green.
        np.testing.assert_allclose(kept.mean((0, 1)), expected.mean((0, 1)), atol=2.0 if is_same else 6.0)
        num_same += is_same
    assert num_same >= 18
    np.testing.assert_array_equal(crop(content, number, reduced=True), expected)  # an image file is cropped as ever


def test_other_formats_and_transparent_pictures_are_kept_too(tf, reduced_picture, rule):
    from efficientnet_tpu.data.preprocessing import Preparation, eval_image

    pixels = np.dstack([_places(), np.where(np.arange(WIDTH) < WIDTH // 2, 0, 255)[np.newaxis].repeat(HEIGHT, 0)])
    content = encode(pixels.astype(np.uint8), "PNG")
    kept = reduced_picture.KeptReductions(SIZE, 2).reduced(content)
    expected = eval_image(tf.constant(content), Preparation(SIZE, 2)).numpy().astype(int)
    image = eval_image(tf.constant(kept), Preparation(SIZE, 2, reduced=True)).numpy()
    assert (expected[:, 0] > 250).all()  # laid on white
    assert np.abs(image - expected).mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF"])
def test_what_needs_no_reduction_stays_as_it_is(rule, kind):
    assert rule.reduced(encode(_places(30, 40), kind)) == b""


def test_what_is_no_image_stays_as_it_is_and_what_is_cut_off_raises(tf, rule):
    assert rule.reduced(b"no image") == rule.reduced(b"") == b""
    content = encode(_places(), "PNG")
    with pytest.raises(tf.errors.OpError):
        rule.reduced(content[: len(content) // 2])


def test_windows_at_every_border_lie_inside(tf, reduced_picture, rule):
    signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([4], tf.int32)]
    decode = tf.function(
        lambda content, window: reduced_picture.decode_window(content, lambda shape: window, rule.reading, SIZE),
        input_signature=signature,
    )
    for height, width in ((149, 203), (255, 161)):
        reduced = tf.constant(rule.reduced(encode(_places(height, width), "JPEG")))
        for size in (1, 3, 17, 40, 70, 130):
            for top, left in ((0, 0), (height - size, 0), (0, width - size), (height - size, width - size)):
                assert min(decode(reduced, tf.constant([top, left, size, size])).shape[:2]) >= 1
