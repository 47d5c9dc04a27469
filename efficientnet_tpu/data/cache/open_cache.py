"""The caches of a run's images: which splits have one, what is kept already, and whether there is room for the rest."""

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.data.cache import cache_place
from efficientnet_tpu.data.cache.cache_place import IN_MEMORY
from efficientnet_tpu.data.cache.cached_split import CachedSplit
from efficientnet_tpu.data.cache.picture_cache import Budget, DirectoryCache, MemoryCache, PictureCache
from efficientnet_tpu.data.cache.reduced_picture import KeptReductions, is_reduced_picture, kind_of_content
from efficientnet_tpu.data.decoding.image_header import read_header
from efficientnet_tpu.data.preprocessing import Preparation
from efficientnet_tpu.data.relabelled_split import RelabelledSplit
from efficientnet_tpu.data.sources.file_split import FileSplit
from efficientnet_tpu.data.split import Split
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program

_SAMPLE = 16  # images of a split that tell the size of all
_HEAD_BYTES = 2**18  # of a file, in which its size stands, behind EXIF data with a thumbnail and a color profile


@dataclass(frozen=True)
class CacheRequest:
    """Holds what --cache asks for.

    place: its value. preparation: of the run's images. crop_min_area: of training crops; None: nothing is trained.
    source: the flag that named the images. memory: bytes that pictures in memory may take.
    """

    place: str
    preparation: Preparation
    crop_min_area: float | None
    source: str
    memory: int = 0

    def reductions(self, is_train: bool) -> KeptReductions:
        """Returns the rule for training images, or for those of evaluations."""
        one = self.preparation
        return KeptReductions(one.size, one.padding, self.crop_min_area if is_train else None, one.reading)


def with_caches(splits: Mapping[str, Split], request: CacheRequest) -> tuple[dict[str, Split], list[str]]:
    """Returns the splits with their caches, and lines on what they hold.

    splits: by name; "train" is trained on, where the request has training crops. Raises UserError for images that are
    no files, a directory that is not ours or cannot be written, and one whose disk has no room for the pictures.
    """
    if request.place != IN_MEMORY:
        cache_place.make(request.place)
    budget = Budget(request.memory)
    caches = {
        name: _make_cache(_files(split, request), request.reductions(name == "train"), request.place, budget)
        for name, split in splits.items()
    }
    expected = {name: _Expected.of(cache) for name, cache in caches.items()}
    needed = sum(one.missing_bytes for one in expected.values())
    notes = [f"--cache={request.place}: {name}: {one.words}" for name, one in expected.items()]
    if request.place == IN_MEMORY:
        notes.append(
            f"--cache={IN_MEMORY}: at most {_gb(request.memory)} are taken, half of what is left beside training"
            + (f"; images beyond that, of {_gb(needed)}, are reduced anew every time" * (needed > request.memory))
        )
    elif needed > (free := shutil.disk_usage(request.place).free):
        raise UserError(
            f"--cache={request.place}: would take about {_gb(needed)} more, and {_gb(free)} are free. Free space, name "
            "a directory of another disk, or leave --cache out."
        )
    return {name: _with_cache(splits[name], cache) for name, cache in caches.items()}, notes


def cache_advice(split: Split, request: CacheRequest) -> str:
    """Returns a line where the training images are so large that a cache would pay, else "". Reads a few headers."""
    files = split.split if isinstance(split, RelabelledSplit) else split
    if not isinstance(files, FileSplit) or request.preparation.downscale != "mean":
        return ""
    numbers = _spread(range(files.num_images))
    paths = [path.decode() for path in tf.gather(files.path_tensor, numbers).numpy().tolist()]
    if any("://" in path for path in paths):
        return ""
    reductions, pixels, num_large = request.reductions(is_train=True), 0, 0
    for path in paths:
        try:
            with open(path, "rb") as file:
                header = read_header(file.read(_HEAD_BYTES))
        except OSError:
            continue
        pixels += header.height * header.width
        num_large += reductions.halvings(header.height, header.width)[0] > 0
    if 2 * num_large <= len(paths):
        return ""
    return (
        f"the training images have about {pixels / len(paths) / 1e6:.1f} megapixels, far more than crops of "
        f"{request.preparation.size} pixels can use: --cache=memory or --cache=DIR decodes each once, not every epoch"
    )


def _files(split: Split, request: CacheRequest) -> FileSplit:
    files = split.split if isinstance(split, RelabelledSplit) else split
    if not isinstance(files, FileSplit):
        raise UserError(
            f"--cache={request.place}: keeps pictures of image files, and {request.source} has none. Leave --cache "
            f"out; `{program()} make-tfrecords --max_side={2 * request.preparation.size}` writes reduced copies."
        )
    return files


def _with_cache(split: Split, cache: PictureCache) -> Split:
    if isinstance(split, RelabelledSplit):
        return dataclasses.replace(split, split=_with_cache(split.split, cache))
    assert isinstance(split, FileSplit)
    return CachedSplit(split.path_tensor, split.label_tensor, cache)


def _make_cache(files: FileSplit, reductions: KeptReductions, place: str, budget: Budget) -> PictureCache:
    paths = [path for path, _ in files.stored_in()]
    if place == IN_MEMORY:
        return MemoryCache(paths, reductions, budget)
    digest = hashlib.sha256(f"{reductions} {kind_of_content()} {tf.__version__}".encode()).hexdigest()
    kind = "evaluation" if reductions.crop_min_area is None else "training"
    return DirectoryCache(paths, reductions, place, f"{kind}-{reductions.size}-{digest[:12]}")


@dataclass(frozen=True)
class _Expected:
    """Estimates what the images of a cache will take, by some that were reduced, and kept. words: on that."""

    missing_bytes: int
    words: str

    @classmethod
    def of(cls, cache: PictureCache) -> "_Expected":
        total, missing = cache.num_images, cache.missing()
        known = f"{total - len(missing):,} of {total:,} images are kept"
        sizes, sample = [], _spread(missing)
        for number in sample:
            try:
                content = cache.make(number)
            except (OSError, tf.errors.OpError):  # training says which images cannot be read
                continue
            sizes.append(len(content) if is_reduced_picture(content) else 0)
        if not any(sizes):
            return cls(0, f"{known}; none of {len(sizes)} others is reduced" if sizes else known)
        mean = sum(sizes) / len(sizes)
        num_bytes = round(mean * len(missing))
        each = sum(sizes) / sum(size > 0 for size in sizes)
        return cls(num_bytes, f"{known}; the others take about {_gb(num_bytes)}, {each / 1e3:.0f} kB a picture")


def _spread(numbers: Sequence[int]) -> list[int]:
    """Returns up to _SAMPLE of the numbers, evenly spread."""
    step = max(1, -(-len(numbers) // _SAMPLE))
    return list(numbers[::step])


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
