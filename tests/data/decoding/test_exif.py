"""Pictures that EXIF says are to be turned: in every format, byte order and place, against Pillow."""

import random
import struct
import zlib

import numpy as np
import pytest

from efficientnet_tpu.data.decoding.image_header import TURNED, read_header
from tests.support import image_files
from tests.support.image_files import encode, photo, pillow

ORIENTATIONS = range(1, 9)
FORMATS = {"JPEG": {"quality": 95, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}
HEIGHT, WIDTH = 40, 72


def tiff(orientation, side="<", kind=3, entries_before=1):
    """A TIFF structure whose last entry is the orientation; the entries before have nothing to do with it."""
    others = struct.pack(f"{side}HHIHH", 0x0103, 3, 1, 6, 0) * entries_before
    value = struct.pack(f"{side}HH", orientation, 0) if kind == 3 else struct.pack(f"{side}I", orientation)
    entries = others + struct.pack(f"{side}HHI", 0x0112, kind, 1) + value
    order = b"II" if side == "<" else b"MM"
    return order + struct.pack(f"{side}HIH", 42, 8, entries_before + 1) + entries + bytes(4)


def segment(marker, content):
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def exif_segment(orientation, **how):
    return segment(0xE1, b"Exif\0\0" + tiff(orientation, **how))


def behind_start(jpeg, *pieces):
    """A JPEG with pieces behind its first two bytes, before JFIF's segment."""
    return jpeg[:2] + b"".join(pieces) + jpeg[2:]


def chunk(kind, content):
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def before(kind, png, piece):
    """A PNG with a piece before its first chunk of a kind."""
    position = png.index(kind) - 4
    return png[:position] + piece + png[position:]


@pytest.fixture(scope="module")
def decode_stored(tf, image_format):
    """`decode` in the reference's way."""
    stored = image_format.Reading(exif_orientation=False)
    function = tf.function(
        lambda encoded: image_format.decode(encoded, stored), input_signature=[tf.TensorSpec([], tf.string)]
    )
    return lambda encoded: function(tf.constant(encoded)).numpy()


def with_orientation(kind, orientation, side="<"):
    mark = b"" if kind == "PNG" else b"Exif\0\0"  # Pillow writes it as it is into the other two
    return encode(photo(HEIGHT, WIDTH), kind, exif=mark + tiff(orientation, side), **FORMATS[kind])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("side", ["<", ">"])
def test_pictures_are_turned_as_pillow_turns_them(decode, decode_stored, kind, side):
    for orientation in ORIENTATIONS:
        encoded = with_orientation(kind, orientation, side)
        image, stored, expected = decode(encoded), decode_stored(encoded), pillow(encoded)
        assert image.shape == expected.shape == ((HEIGHT, WIDTH, 3) if orientation < 5 else (WIDTH, HEIGHT, 3))
        assert abs(image.astype(int) - expected).max() <= (8 if kind == "JPEG" else 0), orientation
        # Turned and nothing else: the pixels of an upright file with the same content.
        np.testing.assert_array_equal(stored, decode(with_orientation(kind, 1, side)))
        assert (TURNED in read_header(encoded).traits) == (orientation > 1)


def test_a_webp_without_a_jpegs_mark_is_turned_too(decode):
    encoded = encode(photo(HEIGHT, WIDTH), "WEBP", lossless=True, exif=tiff(6))
    np.testing.assert_array_equal(decode(encoded), np.rot90(photo(HEIGHT, WIDTH), -1))
    assert TURNED in read_header(encoded).traits


def _jpegs():
    """name -> a JPEG that is to be turned by EXIF that stands where few programs write it."""
    jpeg = encode(photo(HEIGHT, WIDTH), "JPEG", **FORMATS["JPEG"])
    tables = jpeg.index(b"\xff\xdb")
    profile = segment(0xE2, b"ICC_PROFILE\0" + bytes(np.random.default_rng(0).integers(0, 256, 65000, np.uint8)))
    return {
        "before JFIF": behind_start(jpeg, exif_segment(6)),
        "behind a profile of 65 kB": behind_start(jpeg, profile, exif_segment(6)),
        "behind 200 kB of profiles": behind_start(jpeg, profile * 3, exif_segment(6)),
        "behind a comment": behind_start(jpeg, segment(0xFE, b"Exif is what follows"), exif_segment(6)),
        "behind padding": behind_start(jpeg, b"\xff" * 7, exif_segment(6)),
        "behind XMP": behind_start(jpeg, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), exif_segment(6)),
        "behind the tables": jpeg[:tables] + segment(0xFE, bytes(5000)) + exif_segment(6) + jpeg[tables:],
        "as the last segment": jpeg[: jpeg.index(b"\xff\xda")] + exif_segment(6) + jpeg[jpeg.index(b"\xff\xda") :],
        "as the first of two": behind_start(jpeg, exif_segment(6), exif_segment(3)),
        "in 32 bits": behind_start(jpeg, exif_segment(6, kind=4)),
        "in 32 bits, big end first": behind_start(jpeg, exif_segment(6, side=">", kind=4)),
        "behind 60 entries": behind_start(jpeg, exif_segment(6, side=">", entries_before=60)),
    }


@pytest.mark.parametrize("place", _jpegs())
def test_exif_is_found_anywhere_before_the_scan(decode, place):
    encoded = _jpegs()[place]
    expected = np.rot90(decode(encode(photo(HEIGHT, WIDTH), "JPEG", **FORMATS["JPEG"])), -1)
    np.testing.assert_array_equal(decode(encoded), expected)
    assert TURNED in read_header(encoded).traits


@pytest.mark.parametrize("kind", [b"IDAT", b"IEND"])
def test_a_pngs_chunk_is_found_before_and_behind_the_pixels(decode, kind):
    png = before(kind, encode(photo(HEIGHT, WIDTH), "PNG"), chunk(b"eXIf", tiff(8, ">")))
    np.testing.assert_array_equal(decode(png), np.rot90(photo(HEIGHT, WIDTH)))
    assert TURNED in read_header(png).traits


def _damaged():
    """name -> EXIF data that say nothing."""
    good = tiff(6)
    return {
        "another value": tiff(9), "zero": tiff(0), "a text": tiff(6, kind=2), "no order": b"XX" + good[2:],
        "nothing": b"", "only an order": b"II", "cut before its value": good[:-8],
        "a directory behind its end": good[:4] + b"\xff\xff\xff\xff" + good[8:],
        "a directory that is negative": good[:4] + b"\0\0\0\x80" + good[8:],
        "entries that are not there": good[:8] + b"\xff\xff" + good[10:22],
    }  # fmt: skip


@pytest.mark.parametrize("damage", _damaged())
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_exif_turns_nothing(decode, damage, kind):
    data = _damaged()[damage]
    image = photo(HEIGHT, WIDTH)
    if kind == "JPEG":
        encoded = behind_start(encode(image, kind, **FORMATS[kind]), segment(0xE1, b"Exif\0\0" + data))
    elif kind == "PNG":
        encoded = before(b"IDAT", encode(image, kind), chunk(b"eXIf", data))
    else:
        encoded = encode(image, kind, lossless=True, exif=data or b" ")
    np.testing.assert_array_equal(decode(encoded), decode(encode(image, kind, **FORMATS[kind])))
    assert TURNED not in read_header(encoded).traits


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_graph_and_the_report_agree_on_any_bytes(tf, kind):
    from efficientnet_tpu.data.decoding import exif

    read = {"JPEG": exif.jpeg_orientation, "PNG": exif.png_orientation, "WEBP": exif.webp_orientation}[kind]
    function = tf.function(read, input_signature=[tf.TensorSpec([], tf.string)])
    generator, found = random.Random(kind), 0
    start = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "WEBP": b"RIFF"}[kind]
    for _ in range(400):
        encoded = bytearray(with_orientation(kind, generator.randrange(10), generator.choice("<>")))
        for _ in range(generator.choice((0, 1, 3))):
            encoded[generator.randrange(len(start) + 4, min(len(encoded), 160))] = generator.choice((0, 1, 6, 255))
        encoded = bytes(encoded[: generator.choice((len(encoded), generator.randrange(20, 200)))])
        orientation = function(tf.constant(encoded)).numpy()
        assert 1 <= orientation <= 8
        header = read_header(encoded)
        if header.width:  # else the report has no traits
            assert (orientation > 1) == (TURNED in header.traits), encoded
            found += orientation > 1
    assert 20 < found < 350


@pytest.mark.parametrize("kind", [pytest.param("JPEG", marks=pytest.mark.slow), "PNG", "WEBP"])
def test_a_window_is_that_of_the_upright_picture(tf, image_format, decode, kind):
    """Its place is chosen in the picture as it is seen; of a JPEG, no more is decoded than lies there."""

    def choose(window, whole):
        def choose_window(shape):
            with tf.control_dependencies([tf.debugging.assert_equal(shape[:2], whole.shape[:2])]):
                return tf.constant(window)

        return choose_window

    windows = ([0, 0, 9, 30], [13, 5, 20, 11], [31, 2, 9, 38])
    for orientation in ORIENTATIONS:
        encoded = with_orientation(kind, orientation)
        whole = decode(encoded)
        for top, left, height, width in windows:
            part = image_format.decode_window(tf.constant(encoded), choose([top, left, height, width], whole))
            np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def test_the_lower_half_of_a_turned_jpeg_may_be_cut_off(tf, image_format):
    """As that of an upright one: only the window is decoded."""
    upside_down = with_orientation("JPEG", 3)
    window = image_format.decode_window(tf.constant(upside_down[:-600]), lambda shape: tf.constant([30, 0, 10, WIDTH]))
    whole = image_format.decode_window(tf.constant(upside_down), lambda shape: tf.constant([30, 0, 10, WIDTH]))
    np.testing.assert_array_equal(window, whole)


@pytest.mark.slow
@pytest.mark.webp
def test_a_dataset_and_an_exported_function_turn_alike(tf, image_format, decode, tmp_path):
    files = [with_orientation(kind, orientation) for kind in FORMATS for orientation in (1, 2, 7)]
    images = tf.data.Dataset.from_tensor_slices(files).map(image_format.decode).as_numpy_iterator()
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def decode_file(encoded):
        return image_format.decode(encoded)

    module.decode = decode_file
    tf.saved_model.save(module, str(tmp_path))
    exported = tf.saved_model.load(str(tmp_path)).decode
    for encoded, image in zip(files, images, strict=True):
        np.testing.assert_array_equal(image, decode(encoded))
        np.testing.assert_array_equal(exported(tf.constant(encoded)), image)


@pytest.mark.slow
def test_padding_without_end_is_given_up(tf):
    from efficientnet_tpu.data.decoding import exif

    encoded = behind_start(encode(photo(HEIGHT, WIDTH), "JPEG"), b"\xff" * 10**6, exif_segment(6))
    assert exif.jpeg_orientation(tf.constant(encoded)).numpy() == 1


def test_too_many_pixels_are_refused_before_they_are_turned(tf, decode):
    claims = image_files.claiming(60000, 60000)
    jpeg = behind_start(claims["JPEG that claims"], exif_segment(6))
    png = before(b"IDAT", claims["PNG that claims"], chunk(b"eXIf", tiff(6)))
    for encoded in (jpeg, png):
        with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
            decode(encoded)


@pytest.mark.parametrize("side", "<>")
@pytest.mark.parametrize("has_jfif", [False, True])
def test_the_usual_data_of_an_upright_picture_are_told_without_reading_them(tf, side, has_jfif):
    from efficientnet_tpu.data.decoding import exif

    is_upright = tf.function(exif.is_usual_upright, input_signature=[tf.TensorSpec([], tf.string)])
    jpeg = encode(photo(HEIGHT, WIDTH), "JPEG")

    def answer(piece):
        content = jpeg[:20] + piece + jpeg[20:] if has_jfif else behind_start(jpeg, piece)
        return bool(is_upright(tf.constant(content)))

    for entries_before in (0, 1, 5, 20):
        answers = [answer(exif_segment(one, side=side, entries_before=entries_before)) for one in ORIENTATIONS]
        assert answers == [True] + [False] * 7
    # What is unusual has to be read.
    assert not answer(exif_segment(1, side=side, kind=4))
    assert not answer(exif_segment(1, side=side, entries_before=100))
    assert not answer(segment(0xFE, b"a comment") + exif_segment(1, side=side))
