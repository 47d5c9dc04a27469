"""Converts image files, of a folder, a manifest or ImageNet's archives, to TFRecord shards in the layout of ImageNet.
See `tfrecord_layout` for names and keys.

A record holds the file's bytes, unchanged unless --max_side asks for a reduced copy, and the label: class names are in
dataset.json, file names nowhere, so that the shards are hardly larger than the images.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.shard_part import VERIFY, ShardPart, read_shard_part
from efficientnet_tpu.data.archives.imagenet_archives import are_archives
from efficientnet_tpu.data.conversion import finished_set
from efficientnet_tpu.data.conversion.conversion_journal import Journal
from efficientnet_tpu.data.conversion.planned_set import local_state, plan_set, require_shards_for
from efficientnet_tpu.data.conversion.reduced_copy import DEFAULT_QUALITY, ReducedCopies
from efficientnet_tpu.data.conversion.write_shards import require_decodable_classes, write_shards
from efficientnet_tpu.data.datasets import find_files, require_training_images
from efficientnet_tpu.data.records.tfrecord_layout import has_journal
from efficientnet_tpu.data.sources.labelled_files import LabelledFiles
from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.storage import directory_lock
from efficientnet_tpu.storage.durable import make_directories
from efficientnet_tpu.storage.presence import check_empty
from efficientnet_tpu.storage.write_errors import cannot_be_written, explained_write_errors


def convert(config: Config) -> None:
    """`main.py make-tfrecords`: writes output_dir whole, or not at all; or, by --shards, one part of it.

    The shards are written beside it, in output_dir.partial, which is renamed at the end; dataset.json, written last,
    marks them complete. Interrupted, the same command continues behind the shards that are finished. There is no
    minival split here: a run holds out whole training shards, as many as its own --minival_percent says.
    """
    if config.data.dataset != "auto":
        raise UserError(f"--dataset={config.data.dataset}: make-tfrecords converts the image files of --data_dir.")
    part = read_shard_part(config.output.shards)
    output_dir = config.output.output_dir
    output_dir = output_dir.rstrip("/") if "://" in output_dir else os.path.abspath(output_dir)
    with _explained_errors(output_dir):
        if config.output.shards == VERIFY:
            finished_set.verify_parts(output_dir)
        elif part:
            _convert_part(config, output_dir, part)
        else:
            _convert_all(config, output_dir)


def _convert_all(config: Config, output_dir: str) -> None:
    """Writes all shards, and publishes them."""
    copies = make_copies(config)
    files = _find_files(config, output_dir)
    planned, shards = plan_set(files, config)
    partial_dir = f"{output_dir}.partial"
    _make_directory_above(output_dir)
    with directory_lock.held(output_dir, "output_dir", "conversion", lock_file=f"{output_dir}.lock"):
        _check_output_dir(output_dir, config.data.data_dir)  # another may have finished meanwhile
        make_directories(partial_dir)
        finished_set.take_back(output_dir)
        journal = Journal.open(partial_dir, planned, local_state(files))
        with _removed_or_kept(journal):
            if not journal.shards:
                require_decodable_classes(files, config.data.source)
            write_shards(journal, files, shards, copies)
            found = finished_set.FinishedSet.of([journal])
            finished_set.publish(output_dir, found)
    print(*found.summary(output_dir), sep="\n", flush=True)
    if copies and (summary := copies.summary()):
        print(summary, flush=True)


def _convert_part(config: Config, output_dir: str, part: ShardPart) -> None:
    """Writes the shards of one part. Other machines may be at work on other parts."""
    copies = make_copies(config)
    files = _find_files(config, output_dir)
    planned, shards = plan_set(files, config)
    require_shards_for(part, planned)
    _make_directory_above(output_dir)
    with finished_set.part_lock(output_dir, part):
        _check_output_dir(output_dir, config.data.data_dir)  # another may have completed it meanwhile
        make_directories(f"{output_dir}.partial")
        journal = Journal.open_part(f"{output_dir}.partial", planned, part)
        with _removed_or_kept(journal):
            if not journal.shards:
                require_decodable_classes(files, config.data.source)
            write_shards(journal, files, {name: shards[name] for name in planned.shard_names(part)}, copies)
    num_images = sum(shard.num_images for shard in journal.shards.values())
    num_bytes = sum(shard.bytes or 0 for shard in journal.shards.values())
    print(f"part {part}: {num_images:,} images in {len(journal.shards)} shards, {num_bytes:,} bytes")
    if copies and (summary := copies.summary()):
        print(summary)
    print(
        f"when all {part.count} parts are written: `{program()} make-tfrecords --output_dir={output_dir} "
        f"--shards={VERIFY}`",
        flush=True,
    )


def _find_files(config: Config, output_dir: str) -> LabelledFiles:
    """Lists the images to be written. Raises UserError for a set without what training needs."""
    _check_output_dir(output_dir, config.data.data_dir)
    files = find_files(dataclasses.replace(config.data, minival_percent=0.0))
    require_training_images({split: len(examples) for split, examples in files.splits.items()}, config.data)
    # Shards have no test split: nothing reads one.
    files.splits.pop("test", None)
    return files


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
    if not are_archives(data_dir):
        data_dir = data_dir.rstrip("/") if "://" in data_dir else os.path.abspath(data_dir)
        if (output_dir + "/").startswith(data_dir + "/"):
            raise UserError(
                f"--output_dir={output_dir}: is inside --data_dir={data_dir}. Choose a directory beside it."
            )
    try:
        exists = tf.io.gfile.exists(output_dir)
    except tf.errors.OpError as error:  # gs://: no network, no permission
        raise UserError(f"--output_dir={output_dir}: cannot be reached: {error.message}") from error
    if not exists:
        return
    if "://" not in output_dir or not tf.io.gfile.isdir(output_dir):
        check_empty(output_dir, "output_dir")
        return
    names = finished_set.names_in(output_dir)
    shards_only = all(name.startswith(("train-", "validation-", UNREADABLE_JSONL)) for name in names)
    # On an object store, a conversion may have been interrupted while it renamed its objects one by one.
    half_published = shards_only and has_journal(finished_set.names_in(f"{output_dir}.partial"))
    if names and not half_published:
        raise UserError(f"--output_dir={output_dir}: is not empty. Choose a new directory, or empty this one.")


def _make_directory_above(output_dir: str) -> None:
    """Makes the directory that the lock stands in."""
    if "://" not in output_dir:
        with explained_write_errors(f"--output_dir={output_dir}"):
            make_directories(os.path.dirname(output_dir))


@contextlib.contextmanager
def _explained_errors(output_dir: str) -> Iterator[None]:
    """Raises UserError where the shards cannot be written."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        if not _is_write_error(error, output_dir):
            raise
        raise cannot_be_written(f"--output_dir={output_dir}", error) from error


@contextlib.contextmanager
def _removed_or_kept(journal: Journal) -> Iterator[None]:
    """Removes what was begun after a failure before the first shard that is the user's mistake. After another failure,
    keeps it to be continued.
    """
    try:
        yield
    except BaseException as error:
        is_mistake = isinstance(error, UserError) or _is_write_error(error, journal.directory)
        if is_mistake and not journal.shards:
            with contextlib.suppress(tf.errors.OpError):
                journal.clear_away()
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
