"""Transparent pictures of every kind, laid on a color, against Pillow; opaque ones stay as they are."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from efficientnet_tpu.data.decoding.image_header import TRANSPARENT, read_header
from tests.support import image_files
from tests.support.image_files import encode, photo, pillow

HEIGHT, WIDTH = 30, 44


def _icon():
    """A black sign on nothing: all levels are 0, and only the opacities differ."""
    icon = np.zeros([HEIGHT, WIDTH, 4], np.uint8)
    icon[8:20, 10:30, 3] = np.linspace(0, 255, 20).astype(np.uint8)
    return icon


def _slopes():
    """Colors of all kinds with opacities of all kinds."""
    image = photo(HEIGHT, WIDTH, 4)
    image[..., 3] = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256
    return image


def _png_with_key(kind, levels, key):
    """A PNG of gray or color in which one color is transparent."""
    channels = 1 if kind == 0 else 3
    rows = b"".join(b"\0" + row.tobytes() for row in levels[..., :channels])
    png = image_files.png(levels.shape[1], levels.shape[0], zlib.compress(rows), colour=kind)
    content = struct.pack(f">{channels}H", *key)
    chunk = struct.pack(">I", len(content)) + b"tRNS" + content + struct.pack(">I", zlib.crc32(b"tRNS" + content))
    position = png.index(b"IDAT") - 4
    return png[:position] + chunk + png[position:]


def _bmp_with_alpha():
    pixels = _slopes()[::-1][..., [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 56, WIDTH, HEIGHT, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks
    return b"BM" + struct.pack("<IHHI", 70 + len(pixels), 0, 0, 70) + header + pixels


def _transparent():
    """name -> file."""
    slopes, opaque = Image.fromarray(_slopes()), Image.fromarray(photo(HEIGHT, WIDTH))
    palette = opaque.quantize(32)
    own_colors = encode(palette, "GIF", transparency=7)
    return {
        "PNG, RGBA": encode(slopes, "PNG"),
        "PNG, black sign": encode(_icon(), "PNG"),
        "PNG, gray and opacity": encode(Image.fromarray(_slopes()[..., 2:], "LA"), "PNG"),
        "PNG, palette with one transparent color": encode(palette, "PNG", transparency=3),
        "PNG, palette with opacities": encode(palette, "PNG", transparency=bytes(range(0, 256, 8))),
        "PNG, RGB with a transparent color": _png_with_key(2, photo(HEIGHT, WIDTH) // 64 * 64, (0, 64, 64)),
        "PNG, gray with a transparent level": _png_with_key(0, photo(HEIGHT, WIDTH) // 64 * 64, (64,)),
        "GIF": own_colors,
        "GIF, animated": encode(
            palette, "GIF", transparency=7, save_all=True, append_images=[palette.rotate(180)], disposal=2
        ),
        "WebP, lossless": encode(slopes, "WEBP", lossless=True, exact=True),
        "WebP, lossy": encode(slopes, "WEBP", quality=90),
        "BMP": _bmp_with_alpha(),
    }


TRANSPARENT_FILES = _transparent()


@pytest.fixture(scope="module")
def decode(tf, image_format):
    """decode(encoded, background) in a graph."""

    def function(background):
        reading = image_format.Reading(background=background)
        return tf.function(
            lambda encoded: image_format.decode(encoded, reading), input_signature=[tf.TensorSpec([], tf.string)]
        )

    functions = {background: function(background) for background in ("white", "#20c0ff", "none")}
    return lambda encoded, background="white": functions[background](tf.constant(encoded)).numpy()


@pytest.mark.parametrize("background", ["white", "#20c0ff"])
@pytest.mark.parametrize("name", TRANSPARENT_FILES)
def test_is_laid_on_the_color_as_pillow_lays_it(decode, name, background):
    encoded = TRANSPARENT_FILES[name]
    image, expected = decode(encoded, background), pillow(encoded, background)
    assert image.shape == expected.shape
    assert abs(image.astype(int) - expected).max() <= 1
    assert (decode(encoded, "none") != image).any()


@pytest.mark.parametrize("name", [name for name in TRANSPARENT_FILES if "BMP" not in name])
def test_the_report_knows(name):
    assert TRANSPARENT in read_header(TRANSPARENT_FILES[name]).traits


@pytest.mark.webp
def test_a_black_sign_on_nothing_is_seen(decode):
    """Below the opacities everything is 0: without a background, such a picture is nothing but zeros."""
    icon = encode(_icon(), "PNG")
    assert not decode(icon, "none").any()
    assert (decode(icon).min(), decode(icon).max()) == (0, 255)
    assert (decode(encode(_icon(), "WEBP", lossless=True))[0, 0] == 255).all()


@pytest.mark.parametrize("name", image_files.good())
def test_opaque_pictures_stay_as_they_are(decode, name):
    encoded = image_files.good()[name]
    if not Image.open(io.BytesIO(encoded)).has_transparency_data:
        np.testing.assert_array_equal(decode(encoded), decode(encoded, "none"))


def test_full_opacity_changes_nothing(decode):
    opaque = np.concatenate([photo(), np.full([*photo().shape[:2], 1], 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(decode(encode(opaque, "PNG")), photo())


def test_every_level_is_rounded_to_the_nearest(tf):
    from efficientnet_tpu.data.decoding.background import lay_on

    levels, opacities = (grid.astype(np.uint8) for grid in np.mgrid[:256, :256])
    image = np.stack([levels, levels, levels, opacities], axis=-1)
    color = np.array([0, 100, 255])
    laid = lay_on(tf.constant(image), tuple(color)).numpy()
    share = opacities[..., np.newaxis] / 255
    np.testing.assert_array_equal(laid, np.floor(levels[..., np.newaxis] * share + color * (1 - share) + 0.5 - 1e-9))


@pytest.mark.parametrize("shape", [(700, 900), (1, 300_000), (1000, 1)])
def test_large_pictures_come_in_parts(tf, shape):
    from efficientnet_tpu.data.decoding.background import lay_on

    image = np.random.default_rng(0).integers(0, 256, (*shape, 4), np.uint8)
    laid = lay_on(tf.constant(image), (255, 255, 255)).numpy()
    image = image.astype(int)
    expected = (image[..., :3] * image[..., 3:] + 255 * (255 - image[..., 3:]) + 127) // 255
    np.testing.assert_array_equal(laid, expected)


def test_a_gif_with_colors_of_its_own_frame(decode):
    """The transparent color is one of the frame's own, not of the file's."""
    encoded = TRANSPARENT_FILES["GIF"]
    begin = image_files.gif_frame(encoded)
    num_colors = 2 << (encoded[10] % 8)
    colors = encoded[13 : 13 + 3 * num_colors]
    flags = encoded[begin + 9] | 0x80 | encoded[10] % 8
    moved = (
        encoded[:13] + bytes(3 * num_colors) + encoded[13 + 3 * num_colors : begin + 9]
        + bytes([flags]) + colors + encoded[begin + 10 :]
    )  # fmt: skip
    np.testing.assert_array_equal(decode(moved), decode(encoded))
