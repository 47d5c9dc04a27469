"""Writes the shards of a conversion that its journal lacks. What is written is read back at once."""

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from efficientnet_tpu.data.conversion import shard_file
from efficientnet_tpu.data.conversion.conversion_journal import Journal, Unreadable
from efficientnet_tpu.data.conversion.decodable_images import decodable_images, first_reason
from efficientnet_tpu.data.conversion.reduced_copy import ReducedCopies
from efficientnet_tpu.data.datasets import split_of_files
from efficientnet_tpu.data.parallel_map import READERS, in_order
from efficientnet_tpu.data.records.tfrecord_layout import ShardInfo
from efficientnet_tpu.data.sources.labelled_files import Example, LabelledFiles
from efficientnet_tpu.display.terminal import ImageProgress
from efficientnet_tpu.errors import UserError

WRITERS = 8  # shards written or read at the same time
_IMAGES_PER_STREAM = 4096  # at least: to begin a stream of decoded images takes half a second of a core
_AHEAD = 32  # images of a stream that are reduced at the same time


class _StoppedError(Exception):
    """Another shard has failed, or the user has interrupted."""


def write_shards(
    journal: Journal, files: LabelledFiles, shards: Mapping[str, Sequence[Example]], copies: ReducedCopies | None
) -> None:
    """Writes the shards that the journal lacks. shards: name -> examples, in their order.

    Images that cannot be decoded are left out, and noted with their shard. copies: None to write files as they are.
    """
    _check_finished(journal)
    missing = [name for name in shards if name not in journal.shards]
    num_images = sum(len(shards[name]) for name in missing)
    num_streams = min(WRITERS, len(missing), -(-num_images // _IMAGES_PER_STREAM))
    progress = ImageProgress("written:", num_images)
    stop, noting = threading.Event(), threading.Lock()

    def write(names: Sequence[str]) -> None:
        for name, images in _grouped(files, {name: shards[name] for name in names}, num_streams):
            unreadable: list[Unreadable] = []
            stream = _decoded(_counted(images, progress, stop), unreadable)
            if copies:
                stream = in_order(reducers, lambda image: (copies.copy(image[0]), image[1]), stream, _AHEAD)
            shard = _write_and_read_back(f"{journal.directory}/{name}", stream)
            with noting:
                journal.shard_finished(shard, unreadable)

    with ThreadPoolExecutor(READERS) as reducers, ThreadPoolExecutor(max(1, num_streams)) as writers:
        try:
            parts = [missing[stream::num_streams] for stream in range(num_streams)]
            for future in as_completed([writers.submit(write, names) for names in parts]):
                future.result()
        except BaseException:
            stop.set()
            writers.shutdown(wait=False, cancel_futures=True)
            raise


def require_decodable_classes(files: LabelledFiles, named: str) -> None:
    """Raises UserError where no training image of a class can be decoded, or no validation image.

    One image of each class is decoded, and others where that fails.
    """
    by_label: dict[int, list[Example]] = {}
    for example in files.splits["train"]:
        by_label.setdefault(example[1], []).append(example)

    def decodes(examples: Sequence[Example]) -> bool:
        return any(not first_reason(split_of_files(files, [example])) for example in examples)

    with ThreadPoolExecutor(READERS) as pool:
        for label, is_there in zip(by_label, pool.map(decodes, by_label.values()), strict=True):
            if not is_there:
                raise UserError(f"{named}: no training image of the class {files.label_names[label]} decodes.")
    if not decodes(files.splits["validation"]):
        raise UserError(f"{named}: no validation image decodes.")


_Image = tuple[bytes, int, str, str]  # content, label, path, why it cannot be decoded


def _grouped(
    files: LabelledFiles, shards: Mapping[str, Sequence[Example]], num_streams: int
) -> Iterator[tuple[str, Iterator[_Image]]]:
    """Yields the name and the images of each shard, of one stream of images."""
    rows = [(name, path, label) for name, examples in shards.items() for path, label in examples]
    split = split_of_files(files, [(path, label) for _, path, label in rows])
    stream = decodable_images(split, num_streams)
    for name, images in itertools.groupby(stream, key=lambda image: rows[image[0]][0]):
        yield name, ((content, rows[at][2], rows[at][1], reason) for at, content, reason in images)


def _counted(images: Iterable[_Image], progress: ImageProgress, stop: threading.Event) -> Iterator[_Image]:
    for image in images:
        if stop.is_set():
            raise _StoppedError
        yield image
        progress.advance()


def _decoded(images: Iterable[_Image], unreadable: list[Unreadable]) -> Iterator[tuple[bytes, int]]:
    """Yields (content of the file, label) of the images that can be decoded; notes the others in `unreadable`."""
    for content, label, path, reason in images:
        if reason:
            unreadable.append(Unreadable(path, label, reason))
        else:
            yield content, label


def _check_finished(journal: Journal) -> None:
    """Reads back the shards that an interrupted conversion has finished; those that have changed are written again."""
    if journal.shards:
        print(f"{journal.directory}: continuing; {len(journal.shards)} shards were finished", flush=True)

    def look(shard: ShardInfo) -> str:
        try:
            found, _ = shard_file.read_back(f"{journal.directory}/{shard.name}")
        except ValueError as error:
            return str(error)
        return "" if found == shard else f"holds {found.num_images:,} images in {found.bytes:,} bytes, or other ones"

    finished = list(journal.shards.values())
    with ThreadPoolExecutor(WRITERS) as pool:
        for shard, reason in zip(finished, pool.map(look, finished), strict=True):
            if reason:
                print(f"{journal.directory}/{shard.name}: {reason}; writing it again", flush=True)
                journal.shard_lost(shard.name)


def _write_and_read_back(path: str, images: Iterator[tuple[bytes, int]]) -> ShardInfo:
    written = shard_file.write_shard(path, images)
    try:
        shard, _ = shard_file.read_back(path)
    except ValueError as error:
        raise UserError(f"{path}: written a moment ago, the file {error}. Check the disk, then start again.") from error
    if (shard.num_images, shard.bytes) != written:
        raise UserError(
            f"{path}: {written[0]:,} images in {written[1]:,} bytes were written, {shard.num_images:,} in "
            f"{shard.bytes:,} bytes are there. Check the disk, then start again."
        )
    return shard
