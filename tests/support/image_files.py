"""Image files of every kind that people have, good and bad, made on the spot; and mutations of them."""

import functools
import io
import random
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

HEIGHT, WIDTH = 90, 120
# Top, left, rows and columns from one pixel to the next, of the passes of an interlaced PNG.
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def photo(height=HEIGHT, width=WIDTH, channels=3):
    """uint8 [height, width, channels]: slopes with a little noise, as compressible as a photograph."""
    rows, columns = np.mgrid[:height, :width]
    slopes = [rows * 2, columns * 1.5, rows + columns, 255 - columns][:channels]
    noise = np.random.default_rng(height * width).integers(-8, 9, (height, width, channels))
    return np.clip(np.stack([slope % 256 for slope in slopes], axis=-1) + noise, 0, 255).astype(np.uint8)


def encode(image, kind, **options):
    """Bytes of a file. image: uint8 array or a Pillow image."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow(encoded, background="white"):
    """uint8 [height, width, 3] as Pillow reads it: turned upright, and laid on a color where it is transparent."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return np.asarray(image.convert("RGB"))


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def replaced(encoded, position, layout, *values):
    """The file with numbers packed over what stands at a position."""
    numbers = struct.pack(layout, *values)
    return encoded[:position] + numbers + encoded[position + len(numbers) :]


def adobe_marker(encoded):
    """Begin and end of the segment by which Adobe tells how the colours are meant."""
    begin = encoded.index(b"\xff\xee")
    return begin, begin + 2 + struct.unpack(">H", encoded[begin + 2 : begin + 4])[0]


def ycck():
    """A CMYK JPEG whose marker says that its first three channels are YCbCr."""
    encoded = encode(Image.fromarray(photo()).convert("CMYK"), "JPEG", quality=95)
    return replaced(encoded, adobe_marker(encoded)[1] - 1, "B", 2)


def gif_frame(encoded):
    """Position of the first frame's descriptor in a GIF of Pillow's."""
    return encoded.index(b"\x2c", 13 + (3 << (encoded[10] % 8 + 1) if encoded[10] >= 128 else 0))


def gif_with_offset(canvas, left, top):
    """A GIF with one frame that does not fill its canvas (width, height)."""
    encoded = encode(Image.fromarray(photo(40, 50)).quantize(64), "GIF")
    return replaced(replaced(encoded, 6, "<HH", *canvas), gif_frame(encoded) + 1, "<HH", left, top)


def top_down_bmp():
    encoded = encode(photo(), "BMP")
    rows = np.frombuffer(encoded[54:], np.uint8).reshape(HEIGHT, -1)
    return replaced(encoded[:54] + rows[::-1].tobytes(), 22, "<i", -HEIGHT)


def bmp_with_masks(*masks):
    """A 32-bit BMP that says where in 4 bytes its colours are; they are red, green, blue from the first byte on."""
    pixels = np.concatenate([photo()[::-1], np.zeros([HEIGHT, WIDTH, 1], np.uint8)], axis=-1).tobytes()
    header = struct.pack("<IiiHHIIiiII3I", 40, WIDTH, HEIGHT, 1, 32, 3, len(pixels), 0, 0, 0, 0, *masks)
    return b"BM" + struct.pack("<IHHI", 66 + len(pixels), 0, 0, 66) + header + pixels


def rle_bmp(height=4, width=8):
    """A compressed BMP: every row is a run of one colour."""
    rows = b"".join(bytes([width, row, 0, 0]) for row in range(height)) + b"\0\1"
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(rows), 0, 0, 54 + 1024) + header + palette + rows


def interlaced_png():
    """An 8-bit RGB PNG in the seven passes of Adam7, which Pillow does not write."""
    pixels = photo()
    rows = b""
    for top, left, down, right in _ADAM7:
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::right])
    return png(WIDTH, HEIGHT, zlib.compress(rows), interlaced=1)


def png(width, height, data, depth=8, colour=2, interlaced=0):
    """A PNG of compressed pixel data, whatever its header may claim."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_bomb(side):
    """A black PNG of side x side pixels, 3 bytes each, in about a thousandth of their size."""
    compressor = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    return png(side, side, b"".join(compressor.compress(row) for _ in range(side)) + compressor.flush())


def gif_bomb(first, second):
    """A GIF of two black frames, squares of these sides, in less than a thousandth of their size."""
    frames = b"".join(
        b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\2" + _gif_blocks(_black(side**2))
        for side in (first, second)
    )
    return b"GIF89a" + struct.pack("<HHBBB", first, first, 0x80, 0, 0) + bytes(6) + frames + b";"


def _black(num_pixels):
    """GIF's compression of that many zeros: every code stands for one pixel more than the last, then for 4090 each."""
    codes, done, code, bits = [(4, 3), (0, 3)], 1, 6, 3
    while done < num_pixels:
        done += min(code, 4096) - 4 if code < 4096 else 4091
        codes.append((min(code, 4095), bits))
        code += 1
        bits = min(12, max(bits, code.bit_length()))
    value = position = 0
    packed = bytearray()
    for number, size in [*codes, (5, bits)]:
        value |= number << position
        position += size
        while position >= 8:
            packed.append(value & 255)
            value >>= 8
            position -= 8
    return bytes([*packed, value])


def _gif_blocks(data):
    return b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255)) + b"\0"


@functools.cache
def good():
    """name -> file: what TensorFlow and Pillow read alike, up to the rounding of JPEG."""
    image = Image.fromarray(photo())
    transparent = photo(channels=4)
    frames = [Image.fromarray(np.roll(photo(), 20 * shift, axis=0)) for shift in range(3)]
    palette = image.quantize(64)
    return {
        "JPEG": encode(image, "JPEG", quality=95),
        "JPEG 4:4:4": encode(image, "JPEG", quality=95, subsampling=0),
        "progressive JPEG": encode(image, "JPEG", quality=95, progressive=True),
        "grey JPEG": encode(image.convert("L"), "JPEG", quality=95),
        "CMYK JPEG": encode(image.convert("CMYK"), "JPEG", quality=95),
        "YCCK JPEG": ycck(),
        "rotated JPEG": encode(image, "JPEG", quality=95, exif=exif(6)),
        "PNG": encode(image, "PNG"),
        "interlaced PNG": interlaced_png(),
        "RGBA PNG": encode(transparent, "PNG"),
        "grey PNG with alpha": encode(Image.fromarray(transparent[..., 2:], "LA"), "PNG"),
        "palette PNG": encode(palette, "PNG"),
        "palette PNG with a transparent colour": encode(palette, "PNG", transparency=3),
        "4-bit PNG": encode(image.quantize(16), "PNG", bits=4),
        "1-bit PNG": encode(image.convert("1"), "PNG"),
        "animated PNG": encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "GIF": encode(palette, "GIF"),
        "interlaced GIF": encode(palette, "GIF", interlace=1),
        "animated GIF": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "BMP": encode(image, "BMP"),
        "top-down BMP": top_down_bmp(),
        "32-bit BMP": encode(transparent, "BMP"),
        "BMP with masks": bmp_with_masks(0xFF0000, 0xFF00, 0xFF),
        "palette BMP": encode(palette, "BMP"),
        "grey BMP": encode(image.convert("L"), "BMP"),
        "WebP": encode(image, "WEBP", quality=95),
        "lossless WebP": encode(image, "WEBP", lossless=True),
        "WebP with alpha": encode(transparent, "WEBP", lossless=True, exact=True),
        **{f"1-pixel {kind}": encode(photo(1, 1), kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP")},
        **{f"1 x 300 {kind}": encode(photo(1, 300), kind) for kind in ("JPEG", "PNG", "BMP", "WEBP")},
        **{f"300 x 1 {kind}": encode(photo(300, 1), kind) for kind in ("JPEG", "PNG", "BMP", "WEBP")},
    }


@functools.cache
def bad():
    """name -> (file, why it cannot be read)."""
    image = Image.fromarray(photo())
    frames = [Image.fromarray(np.roll(photo(), 20 * shift, axis=0)) for shift in range(2)]
    files = good()
    cut = {
        f"{kind} cut at {share:.0%}": (files[kind][: int(len(files[kind]) * share)], f"truncated {kind.split()[-1]}")
        for kind in ("JPEG", "progressive JPEG", "PNG", "GIF", "BMP", "WebP")
        for share in (0.1, 0.5, 0.98)
    }
    jpeg, gif = files["JPEG"], files["GIF"]
    strangers = {
        "HTML": (b"<!DOCTYPE html><html></html>", "not an image: starts with b'<!DOCTYPE html><'"),
        "text of 2 bytes": (b"no", "not an image: starts with b'no'"),
        "Git LFS": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "a Git LFS pointer in place of the file; `git lfs pull` gets it",
        ),
        "TIFF": (encode(image, "TIFF"), "a TIFF file; JPEG, PNG, GIF, BMP and WebP can be read"),
        "WAV": (b"RIFF\x24\0\0\0WAVEfmt ", "a RIFF file; JPEG, PNG, GIF, BMP and WebP can be read"),
        "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC file; JPEG, PNG, GIF, BMP and WebP can be read"),
    }
    kinds = {
        "compressed BMP": (rle_bmp(), "compressed"),
        "red-first BMP": (bmp_with_masks(0xFF, 0xFF00, 0xFF0000), "unusual order of colours"),
        "1-bit BMP": (encode(image.convert("1"), "BMP"), "1 bits a pixel"),
        "4-bit BMP": (replaced(files["palette BMP"], 28, "<H", 4), "4 bits a pixel"),
        "animated WebP": (encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]), "animated"),
        "12-bit JPEG": (replaced(jpeg, jpeg.index(b"\xff\xc0") + 4, "B", 12), "12 bits"),
        "lossless JPEG": (jpeg.replace(b"\xff\xc0", b"\xff\xc3"), "lossless"),
    }
    return {
        **cut,
        **strangers,
        **{
            name: (encoded, f"{name.split()[-1]} of a kind that TensorFlow does not read: {obstacle}")
            for name, (encoded, obstacle) in kinds.items()
        },
        **{name: (encoded, "claims 60000 x 60000 pixels") for name, encoded in claiming(60000, 60000).items()},
        "empty": (b"", "empty file"),
        "zeros": (bytes(1000), "nothing but zero bytes"),
        "JPEG without its end": (jpeg[:-2], "truncated JPEG"),
        "JPEG with a tail of zeros": (jpeg[: len(jpeg) // 2] + bytes(2 * len(jpeg)), "truncated JPEG"),
        "10 bytes of PNG": (files["PNG"][:10], "truncated PNG"),
        "52 bytes of BMP": (files["BMP"][:52], "truncated BMP"),
        "3 bytes of JPEG": (b"\xff\xd8\xff", "truncated JPEG"),
        "JPEG without its tables": (jpeg.replace(b"\xff\xdb", b"\xff\xe5"), "damaged JPEG"),
        "PNG with a wrong checksum": (replaced(files["PNG"], 100, "4s", b"oops"), "damaged PNG"),
        "JPEG of 1,000 scans": (
            scan_bomb(2000, 2000, 999),
            "takes too long: 1,000 scans of 2000 x 2000 pixels",
        ),
        "GIF without an image": (gif[: gif_frame(gif)] + b";", "damaged GIF"),
    }


def scan_bomb(width, height, scans):
    """A gray progressive JPEG with so many scans behind the first, none of which changes a pixel."""

    def segment(marker, body):
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    num_blocks = -(-width // 8) * -(-height // 8)
    tables = segment(0xDB, b"\0" + b"\1" * 64)
    frame = segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    # Codes of one bit each: no difference to the block before, and the end of 2^14 blocks.
    codes = b"".join(segment(0xC4, bytes([kind, 1, *bytes(15), code])) for kind, code in ((0x00, 0), (0x10, 0xE0)))
    first = segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-num_blocks // 8))
    runs = "".join("0" + "0" * 14 for _ in range(-(-num_blocks // 2**14)))
    other = segment(0xDA, b"\1\1\0\1\x3f\0") + int(runs + "0" * (-len(runs) % 8), 2).to_bytes(-(-len(runs) // 8), "big")
    return b"\xff\xd8" + tables + frame + codes + first + scans * other + b"\xff\xd9"


def claiming(width, height):
    """name -> a small file whose header claims this size; WebP has room for 16384 pixels a side."""
    files = good()
    jpeg, progressive = files["JPEG"], files["progressive JPEG"]
    claims = {
        "JPEG that claims": replaced(jpeg, jpeg.index(b"\xff\xc0") + 5, ">HH", height, width),
        "progressive JPEG that claims": replaced(progressive, progressive.index(b"\xff\xc2") + 5, ">HH", height, width),
        "PNG that claims": png(width, height, zlib.compress(bytes(1000))),
        "GIF that claims": replaced(files["GIF"], gif_frame(files["GIF"]) + 5, "<HH", width, height),
        "BMP that claims": replaced(files["BMP"], 18, "<ii", width, height),
    }
    if max(width, height) <= 2**14:
        lossless = files["lossless WebP"]
        claims["WebP that claims"] = replaced(files["WebP"], 26, "<HH", width, height)
        claims["lossless WebP that claims"] = replaced(lossless, 21, "<I", width - 1 | (height - 1) << 14 | 1 << 28)
    return claims


def mutated(generator: random.Random, files):
    """One of the files (a list of bytes) with damage of one of the kinds that fuzzers know."""
    encoded = bytearray(generator.choice(files))
    kind = generator.randrange(6)
    if kind == 0:  # single bits
        for _ in range(generator.choice((1, 2, 8, 64))):
            encoded[generator.randrange(len(encoded))] ^= 1 << generator.randrange(8)
    elif kind == 1:  # single bytes
        for _ in range(generator.choice((1, 2, 8, 64))):
            encoded[generator.randrange(len(encoded))] = generator.choice((0, 1, 127, 128, 254, 255))
    elif kind == 2:  # cut off
        del encoded[generator.randrange(len(encoded)) :]
    elif kind == 3:  # a piece of another file
        other = generator.choice(files)
        begin, length = generator.randrange(len(other)), generator.randrange(1, 400)
        position = generator.randrange(len(encoded))
        encoded[position : position + generator.choice((0, length))] = other[begin : begin + length]
    elif kind == 4:  # a piece left out
        begin = generator.randrange(len(encoded))
        del encoded[begin : begin + generator.randrange(1, 400)]
    else:  # numbers in the header
        for _ in range(generator.choice((1, 2, 3))):
            position = generator.randrange(min(len(encoded), 64))
            layout = generator.choice(("B", "<H", ">H", "<I", ">I"))
            limit = 256 ** struct.calcsize(layout)
            value = generator.choice((0, 1, limit // 2 - 1, limit // 2, limit - 1, generator.randrange(limit)))
            encoded = bytearray(replaced(bytes(encoded), position, layout, value))
    return bytes(encoded)
