"""Large windows are averaged before they are resized: one rule, the same for every format, exact to the bit."""

import io

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def reduction(tf):
    from efficientnet_tpu.data.decoding import reduction

    return reduction


@pytest.fixture(scope="module")
def image_format(tf):
    from efficientnet_tpu.data.decoding import image_format

    return image_format


def _noise(height, width):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def _encoded(pixels, file_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def _means(pixels, factor):
    """Means of whole squares, halves rounded up: uint8 [height, width, 3] -> [height // factor, width // factor, 3]."""
    height, width = (side // factor for side in pixels.shape[:2])
    squares = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return np.uint8((2 * squares.sum((1, 3), dtype=np.int64) + factor**2) // (2 * factor**2))


def test_a_window_is_halved_until_it_is_less_than_twice_the_side(reduction):
    sides = {447: 0, 448: 1, 895: 1, 896: 2, 1792: 3, 2646: 3, 3584: 4, 5250: 4, 13377: 5}
    for side, number in sides.items():
        for window in ([0, 0, side, 13377], [7, 3, 13377, side]):
            assert reduction.halvings(np.int32(window), 224) == number
    assert reduction.halvings(np.int32([0, 0, 13377, 13377]), 1) == 13


def test_a_reduced_window_lies_within_whole_squares(tf, reduction):
    random = np.random.default_rng(0)
    for _ in range(60):
        factor, side = 2 ** int(random.integers(1, 6)), int(random.integers(8, 40))
        size = random.integers(factor * side, 3 * factor * side, 2)
        begin = random.integers(0, 200, 2)
        part = reduction.reduced_window(tf.constant([*begin, *size], tf.int32), tf.constant(factor)).numpy()
        assert min(part[2:]) >= side
        assert (part[2:] == size // factor).all()
        assert (factor * (part[:2] + part[2:]) <= begin + size).all()  # where the picture may end
        # Half a square off at most, or what is cut off at the end.
        assert (abs(factor * part[:2] - begin) < factor).all()


@pytest.mark.parametrize("file_format", ["png", "bmp", "webp", "gif"])
def test_other_formats_are_averaged_exactly(tf, image_format, file_format):
    pixels = _noise(150, 139)
    if file_format == "gif":
        pixels[..., 1:] = pixels[..., :1] // 64 * 64
        pixels[..., 0] = pixels[..., 1]
    encoded = tf.constant(_encoded(pixels, file_format, **{"lossless": True} if file_format == "webp" else {}))

    def window(begin, size, side):
        return image_format.decode_window(encoded, lambda shape: tf.constant([*begin, *size]), least_side=side).numpy()

    np.testing.assert_array_equal(window((0, 0), (150, 139), 16), _means(pixels, 8))
    np.testing.assert_array_equal(window((21, 6), (120, 130), 40), _means(pixels, 2)[10:70, 3:68])
    # Below twice the side, and where nobody asks, not a bit changes.
    np.testing.assert_array_equal(window((21, 6), (120, 130), 61), pixels[21:141, 6:136])
    np.testing.assert_array_equal(window((21, 6), (120, 130), None), pixels[21:141, 6:136])


def test_the_decoder_reduces_a_jpeg(tf, image_format):
    encoded = tf.constant(_encoded(_noise(330, 270), "jpeg", quality=90))

    def window(begin, size, side):
        return image_format.decode_window(encoded, lambda shape: tf.constant([*begin, *size]), least_side=side).numpy()

    for ratio in (2, 4, 8):
        whole = tf.io.decode_jpeg(encoded, ratio=ratio).numpy()
        top, left = 32 // ratio, 16 // ratio
        part = window((32, 16), (256, 240), 240 // ratio)
        np.testing.assert_array_equal(part, whole[top:, left:][: 256 // ratio, : 240 // ratio])
    # The decoder stops at 1/8; means do the rest.
    np.testing.assert_array_equal(window((0, 0), (330, 270), 8), _means(whole, 4)[: 330 // 32, : 270 // 32])


def test_a_reduced_jpeg_is_nearly_the_mean(tf, image_format):
    rows, columns = np.mgrid[:256, :256] / 40
    pixels = np.uint8(127 + 60 * np.sin(rows)[..., None] + 60 * np.cos(columns)[..., None] + np.zeros(3))
    encoded = tf.constant(_encoded(pixels, "jpeg", quality=95))
    for factor in (2, 4, 8, 16):
        part = image_format.decode_window(encoded, lambda shape: [0, 0, 256, 256], least_side=256 // factor).numpy()
        assert abs(part.astype(int) - _means(pixels, factor)).max() <= 3


@pytest.mark.parametrize("file_format", ["jpeg", "png"])
def test_a_turned_picture_is_reduced_like_the_upright(tf, image_format, file_format):
    """The file lies on its side and says so. Squares are counted from its own corner."""
    pixels = _noise(96, 160)
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = tf.constant(_encoded(pixels, file_format, exif=exif))
    part = image_format.decode_window(encoded, lambda shape: tf.constant([0, 0, 160, 96]), least_side=24).numpy()
    stored = tf.io.decode_jpeg(encoded, ratio=4).numpy() if file_format == "jpeg" else _means(pixels, 4)
    np.testing.assert_array_equal(part, np.rot90(stored, -1))


def test_a_damaged_jpeg_is_an_error(tf, image_format):
    encoded = _encoded(_noise(200, 200), "jpeg")
    with pytest.raises(tf.errors.InvalidArgumentError):
        image_format.decode_window(
            tf.constant(encoded[:5000]), lambda shape: tf.constant([0, 0, 200, 200]), least_side=30
        )
