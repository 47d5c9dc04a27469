import io
import random
import struct

import numpy as np
import pytest
from PIL import Image

from efficientnet_tpu.data.decoding.image_header import Header, format_named, format_of, read_header
from tests.support import image_files
from tests.support.image_files import HEIGHT, WIDTH, photo

GOOD, BAD = image_files.good(), image_files.bad()
TRAITS = {
    "CMYK JPEG": ("CMYK",),
    "YCCK JPEG": ("CMYK",),
    "rotated JPEG": ("rotated by EXIF",),
    "animated PNG": ("animated",),
    "animated GIF": ("animated",),
    "RGBA PNG": ("transparent",),
    "grey PNG with alpha": ("transparent",),
    "palette PNG with a transparent colour": ("transparent",),
    "WebP with alpha": ("transparent",),
}


@pytest.mark.parametrize("name", GOOD)
def test_tells_format_size_and_traits(name):
    kind = next(kind for kind in ("JPEG", "PNG", "GIF", "BMP", "WebP") if kind.lower() in name.lower())
    width, height = Image.open(io.BytesIO(GOOD[name])).size  # as stored
    assert read_header(GOOD[name]) == Header(kind, width, height, TRAITS.get(name, ()))


def test_16_bit_png():
    assert read_header(image_files.encode(np.zeros([3, 4], np.uint16), "PNG")) == Header("PNG", 4, 3, ("16-bit",))


@pytest.mark.parametrize("side", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation(side, orientation):
    """1 is upright, 2..8 are turned or mirrored, others are damage."""
    entries = b"".join(
        struct.pack(f"{side}HHIHH", tag, 3, 1, value, 0) for tag, value in ((0x0103, 1), (0x0112, orientation))
    )
    tiff = (b"II" if side == "<" else b"MM") + struct.pack(f"{side}HIH", 42, 8, 2) + entries + bytes(4)
    encoded = image_files.encode(photo(), "JPEG", exif=b"Exif\0\0" + tiff)
    assert Image.open(io.BytesIO(encoded)).getexif()[0x0112] == orientation
    assert read_header(encoded).traits == (("rotated by EXIF",) if 2 <= orientation <= 8 else ())


def test_the_end_of_a_thumbnail_is_not_the_end():
    thumbnail = image_files.encode(photo(20, 30), "JPEG")
    encoded = image_files.encode(photo(), "JPEG", exif=b"Exif\0\0" + thumbnail)
    assert read_header(encoded).is_complete
    assert encoded.count(b"\xff\xd9") == 2
    assert read_header(encoded[:-100]) == Header("JPEG", WIDTH, HEIGHT, is_complete=False)


def test_a_tail_of_zeros_is_not_an_end():
    """What a broken download or a damaged disk leaves."""
    encoded = GOOD["JPEG"]
    assert not read_header(encoded[: len(encoded) // 2] + bytes(len(encoded))).is_complete


def test_garbage_behind_the_end_does_no_harm():
    assert read_header(GOOD["JPEG"] + bytes(100)).is_complete


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\xff\xd8\xff\xdb", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
        (b"BM", "BMP"), (b"RIFF\0\0\0\0WEBP", "WebP"), (b"RIFF\0\0\0\0WAVE", "RIFF"),
        (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIC"), (b"\0\0\0\x18ftypmp42", "MP4"),
        (b"BM\0\0ftyp", "BMP"), (b"\xff\x0a", "JPEG XL"), (b"PK\x03\x04", "ZIP"), (b"<svg", ""), (b"", ""),
    ],
)  # fmt: skip
def test_format_of(start, name):
    assert format_of(start) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b.JPG", "JPEG"), ("b.jpeg", "JPEG"), ("b.png.gif", "GIF"), ("b.webp", "WebP"), ("b.bmp", "BMP"), ("b", "")],
)
def test_format_named(path, name):
    assert format_named(path) == name


def test_any_bytes_have_a_header():
    generator = random.Random(0)
    files = [*GOOD.values(), *(encoded for encoded, _ in BAD.values() if encoded)]
    for encoded in files:
        for length in [*range(64), *(generator.randrange(len(encoded)) for _ in range(20))]:
            read_header(encoded[:length])
    for _ in range(3000):
        header = read_header(image_files.mutated(generator, files))
        assert isinstance(header, Header)


def test_articles():
    from efficientnet_tpu.data.decoding.image_header import with_article

    names = ["JPEG", "PNG", "TIFF", "HEIC", "ZIP", "PDF", "gzip", "WebP", "AVIF", "MP4", "SVG"]
    assert [with_article(name).split()[0] for name in names] == ["a"] * 8 + ["an"] * 3
