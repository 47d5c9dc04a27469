"""What is read, how it compares with Pillow, and what is refused: files of every kind, in TensorFlow's graphs."""

import sys
import zlib

import numpy as np
import pytest

from tests.support import image_files
from tests.support.image_files import HEIGHT, WIDTH, photo

GOOD, BAD = image_files.good(), image_files.bad()
# Largest and mean difference from Pillow in grey levels. TensorFlow decodes JPEG by the faster of libjpeg's transforms.
JPEG_TOLERANCE = (8, 1.6)


def _difference(pixels, expected):
    assert pixels.shape == expected.shape
    difference = abs(pixels.astype(int) - expected)
    return difference.max(), difference.mean()


@pytest.mark.parametrize("name", GOOD)
def test_reads_what_pillow_reads(tf, image_format, decode, name):
    pixels = decode(GOOD[name])
    largest, mean = _difference(pixels, image_files.pillow(GOOD[name]))
    if "JPEG" in name:
        assert largest <= JPEG_TOLERANCE[0]
        assert mean <= JPEG_TOLERANCE[1]
    else:
        assert largest == 0
    shape = image_format.image_shape(GOOD[name]).numpy()  # as stored
    assert shape[:2].tolist() == list(pixels.shape[:2][:: -1 if "rotated" in name else 1])
    assert shape.dtype == np.int32
    np.testing.assert_array_equal(image_format.decode(GOOD[name]), pixels)  # eagerly too


@pytest.mark.parametrize("name", BAD)
def test_refuses(tf, image_format, decode, name):
    encoded, _ = BAD[name]
    for function in (decode, image_format.decode):
        with pytest.raises(tf.errors.InvalidArgumentError):
            function(encoded)


@pytest.mark.webp
def test_reads_and_refuses_in_a_dataset_too(tf, image_format, decode):
    files = [*GOOD.values(), *(encoded for encoded, _ in BAD.values())]
    dataset = tf.data.Dataset.from_tensor_slices(files).map(image_format.decode, num_parallel_calls=4).ignore_errors()
    images = list(dataset.as_numpy_iterator())
    assert len(images) == len(GOOD)
    for pixels, encoded in zip(images, files, strict=False):
        np.testing.assert_array_equal(pixels, decode(encoded))


def test_16_bit_png_keeps_the_higher_byte(decode):
    """Pillow clips 16-bit grey to 255, which is white nearly everywhere."""
    levels = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    pixels = decode(image_files.encode(levels, "PNG"))
    np.testing.assert_array_equal(pixels, np.repeat((levels >> 8)[..., np.newaxis], 3, axis=-1))
    colours = np.random.default_rng(0).integers(0, 2**16, (5, 7, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    np.testing.assert_array_equal(decode(image_files.png(7, 5, zlib.compress(rows), depth=16)), colours >> 8)


def test_cmyk_without_adobes_marker_is_not_inverted(decode):
    """As libjpeg's conversion has it. Pillow takes all CMYK for Adobe's, which stores it inverted."""
    import PIL.Image

    cmyk = PIL.Image.fromarray(photo()).convert("CMYK")
    encoded = image_files.encode(cmyk, "JPEG", quality=95)
    begin, end = image_files.adobe_marker(encoded)
    ink = 255 - np.asarray(cmyk).astype(int)  # Pillow wrote it inverted
    expected = (255 - ink[..., :3]) * (255 - ink[..., 3:]) // 255
    assert _difference(decode(encoded[:begin] + encoded[end:]), expected)[1] < JPEG_TOLERANCE[1]


def test_without_a_background_the_transparent_pixels_of_a_gif_are_black(image_format):
    """TensorFlow's way. Pillow gives them the colour that is declared transparent."""
    import PIL.Image

    palette = PIL.Image.fromarray(photo()).quantize(64)
    encoded = image_files.encode(palette, "GIF", transparency=5)
    expected = np.where(np.asarray(palette)[..., np.newaxis] == 5, 0, image_files.pillow(encoded))
    assert (np.asarray(palette) == 5).any()
    np.testing.assert_array_equal(image_format.decode(encoded, image_format.Reading(background="none")), expected)


def test_a_gifs_first_frame_is_read_without_its_canvas(decode):
    encoded = image_files.gif_with_offset(canvas=(100, 80), left=30, top=20)
    on_canvas = image_files.pillow(encoded)
    assert on_canvas.shape == (80, 100, 3)
    np.testing.assert_array_equal(decode(encoded), on_canvas[20:60, 30:80])


def test_an_animation_cut_off_behind_its_first_frame_is_read(decode):
    encoded = GOOD["animated GIF"]
    np.testing.assert_array_equal(decode(encoded[: len(encoded) * 2 // 3]), decode(encoded))


def test_the_upper_part_of_a_truncated_jpeg_is_read(tf, decode):
    """Training may draw a crop above the damage: the picture is right, the file is not. `decode` refuses it."""
    encoded = GOOD["JPEG"]
    truncated = encoded[: len(encoded) // 2]
    upper, lower = [0, 0, HEIGHT // 4, WIDTH], [HEIGHT // 4, 0, HEIGHT // 2, WIDTH]
    part = tf.image.decode_and_crop_jpeg(truncated, upper, channels=3)
    np.testing.assert_array_equal(part, tf.image.decode_and_crop_jpeg(encoded, upper, channels=3))
    for function in (decode, lambda encoded: tf.image.decode_and_crop_jpeg(encoded, lower, channels=3)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            function(truncated)


@pytest.mark.parametrize("name", image_files.claiming(9, 9))
def test_limit_of_pixels(tf, image_format, name):
    side = int(image_format.MAX_PIXELS**0.5)
    below, above = (image_files.claiming(side + more, side)[name] for more in (0, 1))
    assert image_format.image_shape(below)[:2].numpy().tolist() == [side, side]
    assert side * (side + 1) > image_format.MAX_PIXELS
    for encoded in (above, image_files.claiming(2**14 - 1, 2**14 - 1)[name]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
            image_format.image_shape(encoded)


@pytest.fixture
def peak_megabytes():
    """A function that gives the memory taken at the peak since the last call."""
    if sys.platform != "linux":
        pytest.skip("the kernel's account of the peak is Linux's")

    def status(name):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))

    before = 0.0

    def peak():
        nonlocal before
        grown = status("VmHWM") - before
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS")
        return grown

    peak()
    return peak


def test_claims_cost_no_memory(tf, image_format, decode, peak_megabytes):
    """A GIF of 150 kB may hold a frame of 20000 x 20000: TensorFlow by itself takes 1.6 GB for it."""
    claims = [encoded for name, (encoded, _) in BAD.items() if "claims" in name]
    claims += image_files.claiming(2**14, 2**14).values()
    claims.append(image_files.gif_bomb(20000, 20000))
    peak_megabytes()
    for encoded in claims:
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(encoded)
    assert peak_megabytes() < 40


def test_frames_that_are_not_used_cost_nothing(tf, decode, peak_megabytes):
    encoded = image_files.gif_bomb(10, 12000)
    assert len(encoded) < 12000**2 / 1000
    decode(encoded[:-20])
    peak_megabytes()
    np.testing.assert_array_equal(decode(encoded), np.zeros([10, 10, 3]))
    assert peak_megabytes() < 40
    assert tf.io.decode_gif(image_files.gif_bomb(10, 100)).shape == [2, 100, 100, 3]  # the bomb is one


@pytest.mark.parametrize("unit", [b"\x21\xfe\x01\0\0", b"\x21\xfe" + b"\x01\0" * 10**6])
def test_a_gif_of_countless_pieces_is_given_up(tf, decode, unit):
    """Of comments that are empty, and of one that comes a byte at a time."""
    encoded = GOOD["GIF"]
    begin = image_files.gif_frame(encoded)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(encoded[:begin] + unit * (10**6 // len(unit) + 1) + encoded[begin:])


def test_a_gif_with_a_hundred_comments_is_read(decode):
    encoded = GOOD["GIF"]
    begin = image_files.gif_frame(encoded)
    commented = encoded[:begin] + b"\x21\xfe\x01\0\0" * 100 + encoded[begin:]
    np.testing.assert_array_equal(decode(commented), decode(encoded))


def test_bomb_below_the_limit_costs_its_pixels(decode, peak_megabytes):
    encoded = image_files.png_bomb(4000)
    assert len(encoded) < 4000**2 * 3 / 900
    decode(encoded)
    peak_megabytes()
    assert not decode(encoded).any()
    assert peak_megabytes() < 2.5 * 4000**2 * 3 / 2**20  # the image, and its copy in the dataset's result


@pytest.mark.webp
def test_works_in_an_exported_function(tf, image_format, tmp_path):
    module = tf.Module()
    signature = [tf.TensorSpec([None], tf.string)]
    module.sizes = tf.function(
        lambda files: tf.map_fn(lambda file: tf.shape(image_format.decode(file)), files, fn_output_signature=tf.int32),
        input_signature=signature,
    )
    tf.saved_model.save(module, str(tmp_path))
    files = [GOOD[name] for name in ("JPEG", "PNG", "animated GIF", "palette BMP", "WebP with alpha")]
    assert tf.saved_model.load(str(tmp_path)).sizes(files).numpy().tolist() == [[HEIGHT, WIDTH, 3]] * len(files)
