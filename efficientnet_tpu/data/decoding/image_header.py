"""Headers of image files: format, size, peculiarities, whether the file's end is there.

For reports, on the host, without TensorFlow; `image_format` reads headers in the graph. Any bytes give an answer.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

READABLE = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "WebP": (".webp",),
}
# First bytes -> format. Reports name the formats behind the first five, so that users know what to convert.
_MAGIC_NUMBERS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"RIFF", "WebP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"version https://git-lfs", "Git LFS pointer"),
)
# The 4 bytes behind "ftyp" tell kinds of the ISO base media format apart.
_MEDIA_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC"}
BMP_MASKS = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"  # of red, green, blue in 4 bytes, as TensorFlow takes them
BMP_ALPHA_MASK = b"\0\0\0\xff"  # behind them, where the fourth byte is a pixel's opacity
TURNED, TRANSPARENT = "rotated by EXIF", "transparent"
_ORIENTATION_TAG, _EXIF_NUMBERS = 0x0112, {3: "H", 4: "I"}  # of a type of numbers, its letter in `struct`
_JPEG_MARK = b"Exif\0\0"
_GRAPHIC_CONTROL = 0xF9  # of a GIF: the extension that may declare a color transparent
# Markers that begin a JPEG's frame -> a kind that TensorFlow does not read, or nothing.
_JPEG_FRAMES = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2), ""),
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA), ""),  # arithmetic coding
}


@dataclass(frozen=True)
class Header:
    """The header of an image file. Width and height are 0 if the file ends before them or is not READABLE."""

    format: str  # one of READABLE, another that has a name, or empty
    width: int = 0
    height: int = 0
    traits: tuple[str, ...] = ()  # CMYK, 16-bit, animated, rotated by EXIF: worth knowing, no obstacle
    obstacle: str = ""  # why TensorFlow does not read this kind of the format
    is_complete: bool = True  # whether its end is there


def format_of(encoded: bytes) -> str:
    """Returns the name of the format that a file's first bytes show; empty if it is unknown."""
    for magic, name in _MAGIC_NUMBERS:
        if encoded.startswith(magic):
            return name if name != "WebP" or encoded[8:12] == b"WEBP" else "RIFF"
    return _MEDIA_BRANDS.get(encoded[8:12], "MP4") if encoded[4:8] == b"ftyp" else ""


def with_article(name: str) -> str:
    """Returns 'a JPEG', 'an AVIF', 'an MP4': by how the name of a format is spoken."""
    spelled = ("MP", "SVG", "HTML", "XML", "XCF", "RTF")  # letter by letter, the first of which begins with a vowel
    return f"{'an' if name.startswith((*'AEIO', *spelled)) else 'a'} {name}"


def format_named(name: str) -> str:
    """Returns the format that a file name's extension promises; empty if it is none of READABLE."""
    name = name.lower()
    return next((format for format, extensions in READABLE.items() if name.endswith(extensions)), "")


def read_header(encoded: bytes) -> Header:
    """Reads the header from any bytes. Fields that a damaged header lacks keep their defaults."""
    name = format_of(encoded)
    if name not in _READERS:
        return Header(name)
    try:
        return _READERS[name](encoded)
    except (struct.error, IndexError):
        return Header(name, is_complete=False)


def read_jpeg(encoded: bytes) -> Header:
    """Reads the header of a JPEG file."""
    width, height, obstacle = 0, 0, ""
    traits: set[str] = set()
    position, orientation = 2, 0
    for marker, position, end in _jpeg_segments(encoded):
        if marker == 0xE1 and encoded[position : position + 6] == _JPEG_MARK:
            orientation = orientation or _orientation(encoded[position:end])  # the first counts
        elif marker in _JPEG_FRAMES:
            bits, height, width, components = struct.unpack_from(">BHHB", encoded, position)
            traits |= {"CMYK"} if components == 4 else set()
            obstacle = _JPEG_FRAMES[marker] or ("" if bits == 8 else f"{bits} bits")
    traits |= {TURNED} if orientation > 1 else set()
    # Behind the headers: a thumbnail inside them has an end of its own.
    is_complete = encoded.rfind(b"\xff\xd9", position) >= 0
    return Header("JPEG", width, height, tuple(sorted(traits)), obstacle, is_complete)


def _jpeg_segments(encoded: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields marker, begin and end of the segments up to the first scan, or to the first that makes no sense."""
    position = 2
    while position + 4 <= len(encoded) and encoded[position] == 0xFF:
        marker = encoded[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        (length,) = struct.unpack_from(">H", encoded, position + 2)
        yield marker, position + 4, position + 2 + length
        if marker == 0xDA:
            return
        position += 2 + max(length, 2)


def _orientation(exif: bytes) -> int:
    """Returns 1..8 from a TIFF structure's first directory; 1, upright, if it has none or is damaged.

    exif: the structure, or a JPEG's segment, which has a mark before it, as some programs write in other files too.
    """
    exif = exif.removeprefix(_JPEG_MARK)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(num_entries):
            tag, kind, _, four_bytes = struct.unpack_from(f"{order}HHI4s", exif, directory + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                (value,) = struct.unpack_from(f"{order}{_EXIF_NUMBERS.get(kind, 'H')}", four_bytes)
                return value if kind in _EXIF_NUMBERS and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def read_png(encoded: bytes) -> Header:
    """Reads the header of a PNG file."""
    width, height, depth, kind = struct.unpack_from(">IIBB", encoded, 16)
    chunks: dict[bytes, bytes] = {}
    for name, content in _png_chunks(encoded):
        chunks.setdefault(name, content)  # the first counts
    traits = ["16-bit"] * (depth == 16) + ["animated"] * (b"acTL" in chunks)
    traits += [TURNED] * (_orientation(chunks.get(b"eXIf", b"")) > 1)
    traits += [TRANSPARENT] * (kind in (4, 6) or b"tRNS" in chunks)  # opacities, or a transparent color
    return Header("PNG", width, height, tuple(traits), is_complete=encoded.rfind(b"IEND") >= 0)


def _png_chunks(encoded: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields kinds and contents of the chunks, without the pixels, up to the first that the file does not hold."""
    position = 8
    while position + 8 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, position)
        if kind != b"IDAT":
            yield kind, encoded[position + 8 : position + 8 + length]
        position += 12 + length


def read_gif(encoded: bytes) -> Header:
    """Reads the size of the first frame, whether a color is transparent in it, and whether there is a second."""
    frames: list[tuple[int, int]] = []
    is_transparent = False
    try:
        position = 13 + _color_table_bytes(encoded[10])
        while len(frames) < 2 and encoded[position] != 0x3B:
            size = None
            if encoded[position] == 0x2C:
                size = struct.unpack_from("<HH", encoded, position + 5)
                position += 9 + _color_table_bytes(encoded[position + 9])
            elif encoded[position + 1] == _GRAPHIC_CONTROL and not frames:
                is_transparent = encoded[position + 3] % 2 == 1
            position += 2
            while encoded[position]:
                position += 1 + encoded[position]
            position += 1
            frames += [(size[0], size[1])] if size else []
    except IndexError:  # truncated, which does no harm behind the first frame
        if not frames:
            raise
    width, height = frames[0] if frames else (0, 0)
    traits = ["animated"] * (len(frames) > 1) + [TRANSPARENT] * is_transparent
    return Header("GIF", width, height, tuple(traits))


def _color_table_bytes(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags >= 128 else 0


def read_bmp(encoded: bytes) -> Header:
    """Reads the header of a BMP file."""
    (begin,) = struct.unpack_from("<I", encoded, 10)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", encoded, 18)
    obstacle = "" if bits in (8, 24, 32) else f"{bits} bits a pixel"
    if compression == 3 and (bits != 32 or encoded[54:66] != BMP_MASKS):
        obstacle = "unusual order of colours"
    elif compression not in (0, 3):
        return Header("BMP", width, abs(height), obstacle="compressed")
    num_bytes = begin + (width * bits + 31) // 32 * 4 * abs(height)
    return Header("BMP", width, abs(height), obstacle=obstacle, is_complete=len(encoded) >= num_bytes)


def read_webp(encoded: bytes) -> Header:
    """Reads the header of a WebP file."""
    (size,) = struct.unpack_from("<I", encoded, 4)
    kind, flags = encoded[12:16], encoded[20]
    traits: list[str] = []
    if kind == b"VP8 ":
        width, height = (number % 2**14 for number in struct.unpack_from("<HH", encoded, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", encoded, 21)
        width, height = 1 + bits % 2**14, 1 + bits // 2**14 % 2**14
        traits += [TRANSPARENT] * (bits // 2**28 % 2)
    else:
        width, height = (1 + int.from_bytes(encoded[begin : begin + 3], "little") for begin in (24, 27))
        if kind == b"VP8X" and flags & 8:
            traits += [TURNED] * (_orientation(_webp_exif(encoded)) > 1)
        traits += [TRANSPARENT] * (flags // 16 % 2)
    obstacle = "animated" if kind == b"VP8X" and flags & 2 else ""
    return Header("WebP", width, height, tuple(traits), obstacle, is_complete=len(encoded) >= 8 + size)


def _webp_exif(encoded: bytes) -> bytes:
    """Returns the content of the chunk EXIF; empty if the file holds none."""
    position = 12
    while position + 8 <= len(encoded):
        kind, length = struct.unpack_from("<4sI", encoded, position)
        if kind == b"EXIF":
            return encoded[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return b""


_READERS = {"JPEG": read_jpeg, "PNG": read_png, "GIF": read_gif, "BMP": read_bmp, "WebP": read_webp}
