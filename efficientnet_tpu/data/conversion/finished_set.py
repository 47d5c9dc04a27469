"""The end of a conversion: the parts that machines have written are verified, and the set is published.

Parts are complete when every shard is there and is what its machine has written and read back: the same images, bytes
and checksum, as many images of each class as were listed and could be decoded.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config.shard_part import ShardPart
from efficientnet_tpu.data.conversion import shard_file
from efficientnet_tpu.data.conversion.conversion_journal import Journal, Unreadable, part_record
from efficientnet_tpu.data.conversion.planned_set import PlannedSet
from efficientnet_tpu.data.conversion.write_shards import WRITERS
from efficientnet_tpu.data.parallel_map import READERS
from efficientnet_tpu.data.records.tfrecord_layout import DATASET_JSON, PART_RECORD, DatasetInfo, ShardInfo, SplitInfo
from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.display.terminal import ImageProgress
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import directory_lock
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.durable import sync_directory
from efficientnet_tpu.storage.text_file import read_text

_NAMED = 10  # of unreadable images, or damaged shards, on the terminal; all images are in a file


@dataclass(frozen=True)
class FinishedSet:
    """The planned set and what was written of it. left_out: the images that a shard lacks, by its name."""

    planned: PlannedSet
    info: DatasetInfo
    left_out: Mapping[str, Sequence[Unreadable]]

    @classmethod
    def of(cls, journals: Sequence[Journal]) -> "FinishedSet":
        """Puts the journals' shards together, in order. Among them they have all shards of one set."""
        planned = journals[0].planned
        assert planned
        shards = {name: shard for journal in journals for name, shard in journal.shards.items()}
        left_out = {name: images for journal in journals for name, images in journal.unreadable.items()}
        splits: dict[str, SplitInfo] = {}
        for split in planned.splits:
            found = tuple(shards[name] for name in planned.shard_names() if name.startswith(f"{split}-"))
            splits[split] = SplitInfo(sum(shard.num_images for shard in found), found)
        return cls(planned, DatasetInfo(planned.label_names, splits, planned.max_side), left_out)

    @property
    def unreadable(self) -> list[Unreadable]:
        """The images that all shards lack."""
        return [image for shard in self.shards for image in self.left_out[shard.name]]

    @property
    def shards(self) -> list[ShardInfo]:
        """The shards of all splits."""
        return [shard for split in self.info.splits.values() for shard in split.shards]

    def class_counts(self, split: str) -> list[int]:
        """Returns the images of each class, by label, that the shards of a split must hold."""
        counts = list(self.planned.splits[split].class_counts)
        for shard in self.info.splits[split].shards:
            for image in self.left_out[shard.name]:
                counts[image.label] -= 1
        return counts

    def summary(self, output_dir: str) -> list[str]:
        """Returns lines on what was written, and what was left out."""
        lines = []
        for split, info in self.info.splits.items():
            num_bytes = sum(shard.bytes or 0 for shard in info.shards)
            lines.append(f"{split}: {info.num_images:,} images in {len(info.shards)} shards, {num_bytes:,} bytes")
        num_images = sum(shard.num_images for shard in self.shards)
        num_bytes = sum(shard.bytes or 0 for shard in self.shards)
        lines.append(
            f"{output_dir}: {num_images:,} images of {len(self.info.label_names)} classes, {num_bytes:,} bytes, digest "
            f"{self.info.digest()}"
        )
        if unreadable := self.unreadable:
            listed = f"{output_dir}/{UNREADABLE_JSONL}"
            lines.append(f"skipped {len(unreadable):,} files that cannot be decoded, listed in {listed}:")
            lines += [f"  {image.where}: {image.reason}" for image in unreadable[:_NAMED]]
            more = len(unreadable) - _NAMED
            lines += [f"  and {more} more"] * (more > 0)
        return lines


def verify_parts(output_dir: str) -> None:
    """`--shards=verify`: reads all parts in output_dir.partial, and publishes them as output_dir. Of a set that is
    complete, it reads all shards again.

    Raises UserError for a part or a shard that is not there, is not finished, or is not what was written.
    """
    partial_dir = f"{output_dir}.partial"
    if DATASET_JSON in names_in(output_dir):
        _verify_published(output_dir)
        return
    _require_parts(output_dir, _parts_in(partial_dir))
    with contextlib.ExitStack() as locks:
        lock_file = f"{output_dir}.lock"
        locks.enter_context(directory_lock.held(output_dir, "output_dir", "conversion", lock_file=lock_file))
        take_back(output_dir)
        parts = _parts_in(partial_dir)
        _require_parts(output_dir, parts)
        for part in parts:  # a part that is started again would look for shards that are being renamed
            locks.enter_context(part_lock(output_dir, part))
        found = FinishedSet.of([Journal.read(partial_dir, part_record(part)) for part in parts])
        labels = _read_all(partial_dir, found.info)
        for split, counts in labels.items():
            _require_class_counts(output_dir, split, found, counts)
        publish(output_dir, found)
    for split, counts in labels.items():
        numbers = [counts[label] for label in range(len(found.info.label_names))]
        print(f"{split}: every record read; {min(numbers):,} to {max(numbers):,} images of a class")
    print(*found.summary(output_dir), sep="\n", flush=True)


def _verify_published(output_dir: str) -> None:
    path = f"{output_dir}/{DATASET_JSON}"
    info = DatasetInfo.from_json(read_text(path, path), path)
    _read_all(output_dir, info)
    num_images = sum(split.num_images for split in info.splits.values())
    print(
        f"{output_dir}: complete, and every record read: {num_images:,} images of {len(info.label_names)} classes, "
        f"digest {info.digest()}",
        flush=True,
    )


def part_lock(output_dir: str, part: ShardPart) -> AbstractContextManager[None]:
    """Returns the context in which a process holds a part: no other machine writes it."""
    path = f"{output_dir}.part-{part.number:05d}-of-{part.count:05d}"
    return directory_lock.held(path, "output_dir", "conversion", lock_file=f"{path}.lock")


def names_in(directory: str) -> list[str]:
    """Returns the names in a directory; none where there is no directory."""
    if not tf.io.gfile.isdir(directory):
        return []
    # ram:// lists by the beginning of the path, and with it what lies beside the directory.
    return [name for name in tf.io.gfile.listdir(directory) if not ("://" in directory and name.startswith("."))]


def take_back(output_dir: str) -> None:
    """Undoes a publication that was interrupted, which an object store makes object by object."""
    if "://" in output_dir:
        _rename_all(names_in(output_dir), output_dir, f"{output_dir}.partial")


def publish(output_dir: str, found: FinishedSet) -> None:
    """Writes what goes with the shards, dataset.json last, and renames the directory to output_dir."""
    directory_lock.require_ours(output_dir)
    partial_dir = f"{output_dir}.partial"
    lines = [
        json.dumps({"where": image.where, "reason": image.reason}, ensure_ascii=False) for image in found.unreadable
    ]
    if lines:  # without unreadable images there is no list of them
        write_atomically(f"{partial_dir}/{UNREADABLE_JSONL}", "".join(f"{line}\n" for line in lines))
    write_atomically(f"{partial_dir}/{DATASET_JSON}", found.info.to_json())
    results = {shard.name for shard in found.shards} | {UNREADABLE_JSONL}
    if "://" not in output_dir:
        sync_directory(partial_dir)
        tf.io.gfile.rename(partial_dir, output_dir, overwrite=True)  # replaces an empty directory
        for name in names_in(output_dir):  # journals, and what killed writers left
            if name not in results and name != DATASET_JSON:
                tf.io.gfile.remove(f"{output_dir}/{name}")
        sync_directory(output_dir)
        sync_directory(os.path.dirname(output_dir))
        return
    # An object store renames one object at a time: dataset.json comes last here too, and then the journals go.
    _rename_all([name for name in names_in(partial_dir) if name in results], partial_dir, output_dir)
    _rename_all([DATASET_JSON], partial_dir, output_dir)
    tf.io.gfile.rmtree(partial_dir)


def _rename_all(names: Sequence[str], source: str, target: str) -> None:
    def rename(name: str) -> None:
        tf.io.gfile.rename(f"{source}/{name}", f"{target}/{name}", overwrite=True)

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(rename, names))


def _parts_in(partial_dir: str) -> list[ShardPart]:
    found = filter(None, map(PART_RECORD.fullmatch, sorted(names_in(partial_dir))))
    return [ShardPart(int(numbers[1]), int(numbers[2])) for numbers in found]


def _require_parts(output_dir: str, parts: Sequence[ShardPart]) -> None:
    """Raises UserError unless these are all parts of one set, and each has all of its shards."""
    partial_dir, named = f"{output_dir}.partial", "--shards=verify"
    if not parts:
        raise UserError(
            f"{named}: {partial_dir} holds no part. Give the --output_dir of the commands with --shards=K/N, after "
            "them."
        )
    counts = {part.count for part in parts}
    if len(counts) > 1:
        words = " and ".join(map(str, sorted(counts)))
        raise UserError(f"{named}: {partial_dir} holds parts of {words}. Remove the part-* files of one of them.")
    (count,) = counts
    missing = sorted(set(range(1, count + 1)) - {part.number for part in parts})
    if missing:
        raise UserError(
            f"{named}: {len(parts)} of {count} parts are in {partial_dir}; {missing[0]}/{count} is missing. Give "
            f"--shards={missing[0]}/{count} on a machine."
        )
    journals = {part: Journal.read(partial_dir, part_record(part)) for part in parts}
    first = next((journal for journal in journals.values() if journal.planned), None)
    for part, journal in journals.items():
        if first is None or first.planned is None or journal.planned is None:
            raise UserError(f"{named}: {journal.name} is damaged. Give --shards={part.number}/{count} again.")
        first.require_same_set(journal)
        expected = first.planned.shard_names(part)
        left = [name for name in expected if name not in journal.shards]
        if left:
            raise UserError(
                f"{named}: part {part} has {len(expected) - len(left)} of its {len(expected)} shards; {left[0]} is "
                f"missing. Wait for its machine, or give --shards={part.number}/{count} again."
            )


def _read_all(directory: str, info: DatasetInfo) -> dict[str, Counter[int]]:
    """Reads every record. Returns the images of each label in each split.

    Raises UserError where a shard is not what was written.
    """
    shards = {shard.name: shard for split in info.splits.values() for shard in split.shards}
    progress = ImageProgress("verified:", sum(shard.num_images for shard in shards.values()))

    def read(shard: ShardInfo) -> tuple[Counter[int], str]:
        try:
            found, labels = shard_file.read_back(f"{directory}/{shard.name}")
        except ValueError as error:
            return Counter(), str(error)
        progress.advance(found.num_images)
        changed = [
            name
            for name in ("num_images", "bytes", "crc32c")
            if getattr(shard, name) not in (None, getattr(found, name))
        ]
        return labels, f"has another {', '.join(changed)} than was written" if changed else ""

    with ThreadPoolExecutor(WRITERS) as pool:
        results = dict(zip(shards, pool.map(read, shards.values()), strict=True))
    damaged = [f"  {name}: {reason}" for name, (_, reason) in results.items() if reason]
    if damaged:
        more = [f"  and {len(damaged) - _NAMED} more"] * (len(damaged) > _NAMED)
        raise UserError(
            "\n".join(
                [
                    f"--shards=verify: {len(damaged)} of {len(shards)} shards in {directory} are not what was written:",
                    *damaged[:_NAMED],
                    *more,
                    "Give the commands of their parts again, which write them again; or copy them again.",
                ]
            )
        )
    totals: dict[str, Counter[int]] = {}
    for split, found in info.splits.items():
        totals[split] = sum((results[shard.name][0] for shard in found.shards), Counter())
    return totals


def _require_class_counts(output_dir: str, split: str, found: FinishedSet, counts: Counter[int]) -> None:
    """Raises UserError where the shards of a split hold another number of images of a class than they must."""
    for label, expected in enumerate(found.class_counts(split)):
        name = found.info.label_names[label]
        if counts[label] != expected:
            raise UserError(
                f"--shards=verify: {output_dir}.partial holds {counts[label]:,} {split} images of the class {name}; "
                f"listed and decoded were {expected:,}. Remove that directory, and write all parts again."
            )
        if split == "train" and not expected:
            raise UserError(f"--shards=verify: no training image of the class {name} decodes.")
