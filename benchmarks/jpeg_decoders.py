"""JPEG decoders side by side, in one process and on one thread: CPU time a picture, and equality. See README.md.

    python benchmarks/jpeg_decoders.py --data_dir=FOLDER

What is not installed is left out. The rows of libjpeg need a C compiler and libjpeg's headers.
"""

import argparse
import contextlib
import ctypes
import functools
import glob
import importlib
import io
import os
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

Window = tuple[int, int, int, int]  # top, left, height, width
Decoder = Callable[[bytes, Window], Any]  # gives uint8 [height, width, 3], or None for what makes no pixels
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
TENSORFLOW = "TensorFlow"


@dataclass
class Row:
    """A decoder at one kind of work."""

    work: str
    name: str
    decode: Decoder
    windows: Sequence[Window]
    decode_all: Callable[[], None]
    equal: int = 0
    times: list[float] = field(default_factory=list)  # CPU milliseconds a picture, of each round


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints a table."""
    options = _parse(arguments)
    paths = sorted(glob.glob(f"{glob.escape(options.data_dir)}/*/*"))[: options.images]
    if not paths:
        sys.exit(f"--data_dir={options.data_dir}: no FOLDER/<class>/*.jpg there")
    encoded = [Path(path).read_bytes() for path in paths]
    with TemporaryDirectory() as folder:
        rows = _rows(encoded, folder)
        for row in rows:
            row.equal = _count_equal(row, rows, encoded)
        kilobytes = sum(map(len, encoded)) / len(encoded) / 1e3
        print(f"{len(encoded)} JPEG files, {kilobytes:.0f} kB on average; load average {os.getloadavg()[0]:.1f}")
        for _ in range(options.rounds):
            for row in rows:  # A B C A B C: what else the machine does meets all alike
                started = time.process_time()
                row.decode_all()
                row.times.append(1e3 * (time.process_time() - started) / len(encoded))
    print(table(rows, len(encoded)))


def table(rows: Sequence[Row], num_images: int) -> str:
    """Returns Markdown. Ratios are to TensorFlow at the same work, medians over the rounds."""
    lines = ["| work | decoder | CPU ms/picture (min-max) | of TensorFlow's | equal |", "|---|---|---|---|---|"]
    for row in rows:
        base = _of_tensorflow(row, rows)
        ratio = statistics.median(mine / its for mine, its in zip(row.times, base.times, strict=True))
        times = f"{statistics.median(row.times):.2f} ({min(row.times):.2f}-{max(row.times):.2f})"
        lines.append(f"| {row.work} | {row.name} | {times} | {ratio:.2f} | {row.equal} of {num_images} |")
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data_dir", required=True, help="JPEG files: FOLDER/<class>/*.jpg")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    for name in ("images", "rounds"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}={getattr(options, name)}: must be above 0")
    return options


def _rows(encoded: Sequence[bytes], folder: str) -> list[Row]:
    sizes = [Image.open(io.BytesIO(each)).size for each in encoded]
    random = np.random.default_rng(0)
    windows = [_draw_window(random, height, width) for width, height in sizes]
    whole = [(0, 0, height, width) for width, height in sizes]
    at_top = [(0, *window[1:]) for window in windows]
    libraries = _build_libraries(folder)
    croppers = {name: functools.partial(_by_libjpeg, library) for name, library in libraries.items()}
    frequencies = {
        f"{name}, Huffman code alone": functools.partial(_frequencies_by_libjpeg, library)
        for name, library in libraries.items()
    }
    rows = []
    for work, where, decoders in (
        ("window", windows, croppers),
        ("as large a window at the top", at_top, croppers),
        ("whole", whole, croppers | _whole_decoders() | frequencies),
    ):
        rows.append(Row(work, TENSORFLOW, _by_tensorflow, where, _graph(encoded, where)))
        for name, decode in decoders.items():
            rows.append(Row(work, name, decode, where, functools.partial(_decode_all, decode, encoded, where)))
    return rows


def _decode_all(decode: Decoder, encoded: Sequence[bytes], windows: Sequence[Window]) -> None:
    for each, window in zip(encoded, windows, strict=True):
        decode(each, window)


def _draw_window(random: np.random.Generator, height: int, width: int) -> Window:
    """Draws a crop as training does: a share of the area, an aspect, a place."""
    while True:
        area, aspect = random.uniform(*AREA) * height * width, random.uniform(*ASPECT)
        its_height, its_width = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
        if 0 < its_height <= height and 0 < its_width <= width:
            top, left = random.integers(height - its_height + 1), random.integers(width - its_width + 1)
            return int(top), int(left), its_height, its_width


def _of_tensorflow(row: Row, rows: Sequence[Row]) -> Row:
    return next(other for other in rows if (other.work, other.name) == (row.work, TENSORFLOW))


def _count_equal(row: Row, rows: Sequence[Row], encoded: Sequence[bytes]) -> int:
    """Counts the pictures of which TensorFlow makes the same pixels."""
    decode = _of_tensorflow(row, rows).decode
    pairs = zip(encoded, row.windows, strict=True)
    return sum(np.array_equal(row.decode(each, window), decode(each, window)) for each, window in pairs)


# ---- Decoders


def _by_tensorflow(encoded: bytes, window: Window) -> np.ndarray:
    return tf.image.decode_and_crop_jpeg(encoded, window, channels=3).numpy()


def _graph(encoded: Sequence[bytes], windows: Sequence[Window]) -> Callable[[], None]:
    """Returns a function that decodes all in one graph, as training does: a call from Python takes 0.2 ms more."""
    all_encoded, all_windows = tf.constant(encoded), tf.constant(windows)

    @tf.function(autograph=False)
    def decode_all() -> tf.Tensor:
        def decode(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels = tf.image.decode_and_crop_jpeg(all_encoded[index], all_windows[index], channels=3)
            return index + 1, total + tf.cast(pixels[0, 0, 0], tf.int32)

        return tf.while_loop(lambda index, _: index < len(encoded), decode, [0, 0], parallel_iterations=1)[1]

    decode_all()  # traces it
    return lambda: decode_all().numpy()


def _build_libraries(folder: str) -> dict[str, ctypes.CDLL]:
    """Builds peers/jpeg_window.c with the system's libjpeg and with the newer one inside Pillow's wheel."""
    linked = {"the system's libjpeg": ["-ljpeg"]}
    for path in glob.glob(f"{sysconfig.get_path('platlib')}/pillow.libs/libjpeg-*"):
        linked[f"libjpeg of Pillow {PIL.__version__}"] = [path, f"-Wl,-rpath,{os.path.dirname(path)}"]
    source = str(Path(__file__).resolve().parent / "peers" / "jpeg_window.c")
    libraries = {}
    for number, (name, link) in enumerate(linked.items()):
        output = f"{folder}/{number}.so"
        try:
            command = ["cc", "-O2", "-shared", "-fPIC", source, *link, "-o", output]
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name}: not built: {getattr(error, 'stderr', '') or error}", file=sys.stderr)
        else:
            libraries[name] = ctypes.CDLL(output)
    return libraries


def _by_libjpeg(library: ctypes.CDLL, encoded: bytes, window: Window) -> np.ndarray:
    out = np.empty((*window[2:], 3), np.uint8)
    address = out.ctypes.data_as(ctypes.c_void_p)
    if library.decode_window(encoded, ctypes.c_ulong(len(encoded)), *window, address):
        raise ValueError("libjpeg cannot decode a picture")
    return out


def _frequencies_by_libjpeg(library: ctypes.CDLL, encoded: bytes, _: Window) -> None:
    if library.read_frequencies(encoded, ctypes.c_ulong(len(encoded))):
        raise ValueError("libjpeg cannot read a picture")


def _whole_decoders() -> dict[str, Decoder]:
    """Returns those that know no windows, set to decode as TensorFlow does where they can be."""
    decoders: dict[str, Decoder] = {
        f"Pillow {PIL.__version__}": lambda encoded, _: np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    }
    with contextlib.suppress(ImportError):
        simplejpeg = importlib.import_module("simplejpeg")
        decoders[f"simplejpeg {simplejpeg.__version__}"] = lambda encoded, _: simplejpeg.decode_jpeg(
            encoded, fastdct=True
        )
    with contextlib.suppress(ImportError):
        imagecodecs = importlib.import_module("imagecodecs")
        decoders[f"imagecodecs {imagecodecs.__version__}"] = lambda encoded, _: imagecodecs.jpeg8_decode(
            encoded, outcolorspace="RGB"
        )
    return decoders


if __name__ == "__main__":
    main()
