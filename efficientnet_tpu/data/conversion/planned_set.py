"""The set that a conversion will write, decided before anything is read: the same on every machine that writes a part.

The images are shuffled by --seed and dealt like cards, whether they can be decoded or not: which shard has an image
follows from names alone. A shard then lacks those of its images that cannot be decoded.
"""

import contextlib
import hashlib
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.shard_part import ShardPart
from efficientnet_tpu.data.datasets import folder_of_paths
from efficientnet_tpu.data.records.tfrecord_layout import (
    ENCODED_KEY,
    FORMAT,
    LABEL_KEY,
    default_num_shards,
    shard_name,
)
from efficientnet_tpu.data.sources.labelled_files import Example, LabelledFiles
from efficientnet_tpu.errors import UserError


@dataclass(frozen=True)
class PlannedSplit:
    """A split: its shards, and the images of each class, by label, that were listed."""

    num_shards: int
    class_counts: tuple[int, ...]


@dataclass(frozen=True)
class PlannedSet:
    """A set to be written. fingerprint: of all that decides the shards' bytes, but for the images' pixels."""

    fingerprint: str
    label_names: tuple[str, ...]
    splits: Mapping[str, PlannedSplit]
    max_side: int | None

    def shard_names(self, part: ShardPart | None = None) -> list[str]:
        """Returns the names of the shards of a part, or of all. Parts differ by one shard of each split at most."""
        names = [
            shard_name(split, index, planned.num_shards)
            for split, planned in self.splits.items()
            for index in range(planned.num_shards)
        ]
        return names if part is None else names[part.number - 1 :: part.count]

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads."""
        splits = {name: [split.num_shards, list(split.class_counts)] for name, split in self.splits.items()}
        return {
            "fingerprint": self.fingerprint,
            "label_names": list(self.label_names),
            "splits": splits,
            "max_side": self.max_side,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "PlannedSet":
        """Reads what `to_json` returned."""
        splits = {name: PlannedSplit(shards, tuple(counts)) for name, (shards, counts) in content["splits"].items()}
        return cls(content["fingerprint"], tuple(content["label_names"]), splits, content["max_side"])

    def difference(self, other: "PlannedSet") -> str:
        """Says in what another set, which is not this one, differs."""
        if self.label_names != other.label_names:
            return f"{len(other.label_names):,} classes, or other ones"
        for name, split in self.splits.items():
            theirs = other.splits.get(name)
            images, shards = sum(split.class_counts), split.num_shards
            if theirs and sum(theirs.class_counts) != images:
                return f"{sum(theirs.class_counts):,} {name} images, not {images:,}"
            if theirs and theirs.num_shards != shards:
                return f"{theirs.num_shards:,} {name} shards, not {shards:,}"
        return "images of other names or sizes, another --seed, --max_side or --quality"


def plan_set(files: LabelledFiles, config: Config) -> tuple[PlannedSet, dict[str, list[Example]]]:
    """Plans the set of all images in `files`. Returns also the examples of each shard, by its name, in order.

    Raises UserError where --shards makes more parts than there are shards.
    """
    output = config.output
    asked = {"train": output.train_shards, "validation": output.validation_shards}
    shards: dict[str, list[Example]] = {}
    splits: dict[str, PlannedSplit] = {}
    for split, listed in files.splits.items():
        num_shards = min(asked[split] or default_num_shards(split, len(listed)), len(listed))
        examples = list(listed)
        random.Random(config.run.seed).shuffle(examples)
        for index in range(num_shards):
            shards[shard_name(split, index, num_shards)] = examples[index::num_shards]
        counts = [0] * len(files.label_names)
        for _, label in listed:
            counts[label] += 1
        splits[split] = PlannedSplit(num_shards, tuple(counts))
    planned = PlannedSet(_fingerprint(files, config, splits), files.label_names, splits, output.max_side)
    return planned, shards


def require_shards_for(part: ShardPart, planned: PlannedSet) -> None:
    """Raises UserError where a set has fewer shards than parts."""
    num_shards = len(planned.shard_names())
    if part.count > num_shards:
        each = " and ".join(f"{split.num_shards} {name}" for name, split in planned.splits.items())
        raise UserError(
            f"--shards={part.number}/{part.count}: the set has {num_shards} shards ({each}), too few for {part.count} "
            "parts. Take fewer parts, or more --train_shards."
        )


def _fingerprint(files: LabelledFiles, config: Config, splits: Mapping[str, PlannedSplit]) -> str:
    """Returns a hash of images, labels, seed, numbers of shards, format and copies.

    An image counts by its path below --data_dir, which may be another place on another machine, and by its size where
    that is known without asking a server.
    """
    digest = hashlib.sha256()
    output = config.output
    head: list[Any] = [FORMAT, ENCODED_KEY, LABEL_KEY, config.run.seed]
    head += [[name, split.num_shards] for name, split in splits.items()]
    if output.max_side:
        head += [output.max_side, output.quality, config.data.background]
    digest.update(json.dumps([head, files.label_names]).encode())
    below = folder_of_paths(config.data.data_dir)
    for split, examples in sorted(files.splits.items()):
        for path, label in examples:
            digest.update(json.dumps([split, path.removeprefix(below), label, _size(path, files)]).encode())
    return digest.hexdigest()


def _size(path: str, files: LabelledFiles) -> int | None:
    if files.places:
        return files.places[path].size
    if "://" not in path:
        with contextlib.suppress(OSError):  # not there, or out of reach: reading it will tell
            return os.stat(path).st_size
    return None


def local_state(files: LabelledFiles) -> str:
    """Returns a hash of where the images of a local disk are, and when they were changed last.

    By it a conversion by one machine knows that an image was changed between two starts. Machines that write parts
    have copies of different times.
    """
    digest = hashlib.sha256()
    paths = {place.archive for place in files.places.values()} or {
        path for _, one in sorted(files.splits.items()) for path, _ in one
    }
    for path in sorted(paths):
        changed = None
        if "://" not in path:
            with contextlib.suppress(OSError):
                changed = os.stat(path).st_mtime_ns
        digest.update(json.dumps([path, changed]).encode())
    return digest.hexdigest()
