"""Converts image files, of a folder or a manifest, to TFRecord shards in the layout of ImageNet. See `tfrecord_layout`
for names and keys.

A record holds the file's bytes, unchanged unless --max_side asks for a reduced copy, and the label: class names are in
dataset.json, file names nowhere, so that the shards are hardly larger than the images.
"""

import contextlib
import dataclasses
import json
import os
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.conversion import shard_file
from efficientnet_tpu.data.conversion.conversion_journal import JOURNAL, Journal, plan_fingerprint
from efficientnet_tpu.data.conversion.find_unreadable import unreadable_files
from efficientnet_tpu.data.conversion.parallel_map import READERS, in_order
from efficientnet_tpu.data.conversion.reduced_copy import DEFAULT_QUALITY, ReducedCopies
from efficientnet_tpu.data.datasets import find_files, require_training_images
from efficientnet_tpu.data.records.tfrecord_layout import DATASET_JSON, DatasetInfo, ShardInfo, SplitInfo, shard_name
from efficientnet_tpu.data.sources.labelled_files import Example, LabelledFiles
from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.display.terminal import ImageProgress
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import directory_lock
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.durable import make_directories, sync_directory
from efficientnet_tpu.storage.presence import check_empty
from efficientnet_tpu.storage.write_errors import cannot_be_written, explained_write_errors

_WRITERS = 8  # shards written at the same time
_AT_ONCE = 256  # images in flight, which bounds the memory
_NAMED = 10  # unreadable images on the terminal; all are in a file


class _StoppedError(Exception):
    """Another shard has failed, or the user has interrupted."""


def convert_folder(config: Config) -> None:
    """`main.py make-tfrecords`: writes output_dir whole, or not at all.

    The shards are written beside it, in output_dir.partial, which is renamed at the end; dataset.json, written last,
    marks them complete. Interrupted, the same command continues behind the shards that are finished. There is no
    minival split here: a run holds out whole training shards, as many as its own --minival_percent says.
    """
    if config.data.dataset != "auto":
        raise UserError(f"--dataset={config.data.dataset}: make-tfrecords converts the image files of --data_dir.")
    output_dir, data_dir = (
        path.rstrip("/") if "://" in path else os.path.abspath(path)
        for path in (config.output.output_dir, config.data.data_dir)
    )
    _check_output_dir(output_dir, data_dir)
    copies = make_copies(config)
    files = find_files(dataclasses.replace(config.data, minival_percent=0.0))
    require_training_images({split: len(examples) for split, examples in files.splits.items()}, config.data)
    # Shards have no test split: nothing reads one.
    files.splits.pop("test", None)
    partial_dir = f"{output_dir}.partial"
    try:
        if "://" not in output_dir:
            with explained_write_errors(f"--output_dir={output_dir}"):
                make_directories(os.path.dirname(output_dir))  # the lock stands there
        with directory_lock.held(output_dir, "output_dir", "conversion", lock_file=f"{output_dir}.lock"):
            _check_output_dir(output_dir, data_dir)  # another may have finished meanwhile
            make_directories(partial_dir)
            if "://" in output_dir and tf.io.gfile.exists(output_dir):
                for name in _names_in(output_dir):  # undoes a publication that was interrupted
                    tf.io.gfile.rename(f"{output_dir}/{name}", f"{partial_dir}/{name}", overwrite=True)
            journal = Journal.open(partial_dir, plan_fingerprint(files, config))
            with _removed_or_kept(journal):
                info, unreadable = _convert(config, files, journal, copies)
                _publish(partial_dir, output_dir, info)
    except (tf.errors.OpError, OSError) as error:
        if not _is_write_error(error, output_dir):
            raise
        raise cannot_be_written(f"--output_dir={output_dir}", error) from error
    _print_summary(output_dir, info, unreadable)
    if copies and (summary := copies.summary()):
        print(summary, flush=True)


def make_copies(config: Config) -> ReducedCopies | None:
    """Returns what makes the copies that --max_side asks for; None without it.

    Raises UserError for a --quality that nothing has.
    """
    output = config.output
    if output.max_side is not None:
        return ReducedCopies(output.max_side, output.quality or DEFAULT_QUALITY, config.data.background)
    if output.quality is not None:
        raise UserError(
            f"--quality={output.quality}: without --max_side, files are written as they are. Add --max_side=N, the "
            "pixels of a copy's longer side, or leave --quality out."
        )
    return None


def _check_output_dir(output_dir: str, data_dir: str) -> None:
    """Raises UserError unless output_dir is new or empty, and outside the images."""
    if (output_dir + "/").startswith(data_dir + "/"):
        raise UserError(f"--output_dir={output_dir}: is inside --data_dir={data_dir}. Choose a directory beside it.")
    try:
        exists = tf.io.gfile.exists(output_dir)
    except tf.errors.OpError as error:  # gs://: no network, no permission
        raise UserError(f"--output_dir={output_dir}: cannot be reached: {error.message}") from error
    if not exists:
        return
    if "://" not in output_dir or not tf.io.gfile.isdir(output_dir):
        check_empty(output_dir, "output_dir")
        return
    names = _names_in(output_dir)
    shards_only = all(name.startswith(("train-", "validation-", UNREADABLE_JSONL)) for name in names)
    # On an object store, a conversion may have been interrupted while it renamed its objects one by one.
    half_published = "://" in output_dir and shards_only
    if names and not (half_published and tf.io.gfile.exists(f"{output_dir}.partial/{JOURNAL}")):
        raise UserError(f"--output_dir={output_dir}: is not empty. Choose a new directory, or empty this one.")


def _names_in(output_dir: str) -> list[str]:
    names = tf.io.gfile.listdir(output_dir)
    # ram:// lists by the beginning of the path, and with it what lies beside the directory.
    return [name for name in names if name not in (".lock", ".partial")] if "://" in output_dir else names


@contextlib.contextmanager
def _removed_or_kept(journal: Journal) -> Iterator[None]:
    """Removes the partial directory after a failure before the first shard that is the user's mistake. After another
    failure, keeps it to be continued.
    """
    try:
        yield
    except BaseException as error:
        is_mistake = isinstance(error, UserError) or _is_write_error(error, journal.directory)
        if is_mistake and not journal.shards:
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.rmtree(journal.directory)
        else:
            print(
                f"not finished; {journal.directory} keeps what is done ({len(journal.shards)} shards): the same "
                "command continues",
                flush=True,
            )
        raise


def _is_write_error(error: BaseException, path: str) -> bool:
    """Returns whether an error is TensorFlow's, or one of writing `path` or what begins so."""
    is_of_path = isinstance(error, OSError) and str(error.filename).startswith(path)
    return isinstance(error, tf.errors.OpError) or is_of_path


def _convert(
    config: Config, files: LabelledFiles, journal: Journal, copies: ReducedCopies | None
) -> tuple[DatasetInfo, dict[str, str]]:
    """Writes the shards that the journal lacks, and beside them what goes with the shards, dataset.json last.

    copies: None to write the files as they are. Returns also the unreadable images of all splits: path -> reason.
    """
    partial_dir = journal.directory
    if journal.unreadable:
        print(f"{partial_dir}: continuing; {len(journal.shards)} shards were finished", flush=True)
    num_shards = {"train": config.output.train_shards, "validation": config.output.validation_shards}
    _check_finished(journal)
    splits = {}
    for split, examples in files.splits.items():
        if split not in journal.unreadable:
            # Before the writing, because the sizes and the number of the shards follow from the count.
            journal.split_checked(split, unreadable_files(split, examples))
        decodable = [example for example in examples if example[0] not in journal.unreadable[split]]
        labels = {label for _, label in decodable}
        missing = [name for label, name in enumerate(files.label_names) if label not in labels]
        if split == "train" and missing:
            raise UserError(f"--data_dir={config.data.data_dir}: no training image of the class {missing[0]} decodes.")
        if not labels:
            raise UserError(f"--data_dir={config.data.data_dir}: no {split} image decodes.")
        random.Random(config.run.seed).shuffle(decodable)
        splits[split] = _write_split(journal, split, decodable, num_shards[split], copies)
    info = DatasetInfo(files.label_names, splits, copies.max_side if copies else None)
    unreadable = {path: reason for found in journal.unreadable.values() for path, reason in found.items()}
    lines = [json.dumps({"where": path, "reason": why}, ensure_ascii=False) for path, why in unreadable.items()]
    texts = {UNREADABLE_JSONL: "".join(f"{line}\n" for line in lines), DATASET_JSON: info.to_json()}
    for name, text in texts.items():
        if text:  # without unreadable images there is no list of them
            write_atomically(f"{partial_dir}/{name}", text)
    return info, unreadable


def _check_finished(journal: Journal) -> None:
    """Reads back the shards that an interrupted conversion has finished; those that have changed are written again."""

    def look(shard: ShardInfo) -> str:
        try:
            found = shard_file.read_back(f"{journal.directory}/{shard.name}")
        except ValueError as error:
            return str(error)
        return "" if found == shard else f"holds {found.num_images:,} images in {found.bytes:,} bytes, or other ones"

    finished = list(journal.shards.values())
    with ThreadPoolExecutor(_WRITERS) as pool:
        for shard, reason in zip(finished, pool.map(look, finished), strict=True):
            if reason:
                print(f"{journal.directory}/{shard.name}: {reason}; writing it again", flush=True)
                journal.shard_lost(shard.name)


def _write_split(
    journal: Journal, split: str, examples: Sequence[Example], num_shards: int, copies: ReducedCopies | None
) -> SplitInfo:
    """Writes the examples in this order, dealt like cards: the sizes of the shards differ by at most one."""
    num_shards = min(num_shards, len(examples))
    names = [shard_name(split, index, num_shards) for index in range(num_shards)]
    missing = [index for index, name in enumerate(names) if name not in journal.shards]
    progress = ImageProgress(f"{split}: written", sum(len(examples[index::num_shards]) for index in missing))
    stop = threading.Event()

    def read(example: Example) -> bytes:
        path, _ = example
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                content = file.read()
            return copies.copy(content) if copies else content
        except tf.errors.OpError as error:
            raise UserError(f"--data_dir: {path} cannot be read: {error.message}") from error

    def images(part: Sequence[Example]) -> Iterator[tuple[bytes, int]]:
        for (_, label), encoded in zip(part, in_order(readers, read, part, _AT_ONCE // _WRITERS), strict=True):
            if stop.is_set():
                raise _StoppedError
            yield encoded, label
            progress.advance()

    def write(index: int) -> ShardInfo:
        return _write_and_read_back(f"{journal.directory}/{names[index]}", images(examples[index::num_shards]))

    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(_WRITERS) as writers:
        try:
            for future in as_completed([writers.submit(write, index) for index in missing]):
                journal.shard_finished(future.result())
        except BaseException:
            stop.set()
            writers.shutdown(wait=False, cancel_futures=True)
            raise
    return SplitInfo(len(examples), tuple(journal.shards[name] for name in names))


def _write_and_read_back(path: str, images: Iterator[tuple[bytes, int]]) -> ShardInfo:
    written = shard_file.write_shard(path, images)
    try:
        shard = shard_file.read_back(path)
    except ValueError as error:
        raise UserError(f"{path}: written a moment ago, the file {error}. Check the disk, then start again.") from error
    if (shard.num_images, shard.bytes) != written:
        raise UserError(
            f"{path}: {written[0]:,} images in {written[1]:,} bytes were written, {shard.num_images:,} in "
            f"{shard.bytes:,} bytes are there. Check the disk, then start again."
        )
    return shard


def _publish(partial_dir: str, output_dir: str, info: DatasetInfo) -> None:
    """Renames the finished directory to output_dir, without what only the conversion needed."""
    directory_lock.require_ours(output_dir)
    shards = {shard.name for split in info.splits.values() for shard in split.shards}
    results = shards | {UNREADABLE_JSONL, DATASET_JSON}
    names = sorted(tf.io.gfile.listdir(partial_dir), key=lambda name: (name == DATASET_JSON, name))
    extra = [name for name in names if name not in results and name != JOURNAL]
    for name in extra:
        tf.io.gfile.remove(f"{partial_dir}/{name}")
    if "://" not in output_dir:
        tf.io.gfile.remove(f"{partial_dir}/{JOURNAL}")
        sync_directory(partial_dir)
        tf.io.gfile.rename(partial_dir, output_dir, overwrite=True)  # replaces an empty directory
        sync_directory(os.path.dirname(output_dir))
        return
    # An object store renames one object at a time: dataset.json comes last here too, and then the journal goes.
    for name in names:
        if name in results:
            tf.io.gfile.rename(f"{partial_dir}/{name}", f"{output_dir}/{name}", overwrite=True)
    tf.io.gfile.rmtree(partial_dir)


def _print_summary(output_dir: str, info: DatasetInfo, unreadable: dict[str, str]) -> None:
    total_bytes = 0
    for split, split_info in info.splits.items():
        split_bytes = sum(shard.bytes or 0 for shard in split_info.shards)
        total_bytes += split_bytes
        print(f"{split}: {split_info.num_images:,} images in {len(split_info.shards)} shards, {split_bytes:,} bytes")
    num_images = sum(split.num_images for split in info.splits.values())
    print(f"{output_dir}: {num_images:,} images of {len(info.label_names)} classes, {total_bytes:,} bytes")
    if unreadable:
        print(f"skipped {len(unreadable):,} files that cannot be decoded, listed in {output_dir}/{UNREADABLE_JSONL}:")
        for path, reason in list(unreadable.items())[:_NAMED]:
            print(f"  {path}: {reason}")
        if len(unreadable) > _NAMED:
            print(f"  and {len(unreadable) - _NAMED} more")
