"""The journal of a conversion, in a directory beside output_dir. By it an interrupted conversion is continued.

A conversion by one machine keeps journal.json. Of one in parts, each machine keeps part-00002-of-00008.jsonl, which no
other machine writes.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf

from efficientnet_tpu.config.shard_part import ShardPart
from efficientnet_tpu.data.conversion.planned_set import PlannedSet
from efficientnet_tpu.data.records.tfrecord_layout import DATASET_JSON, JOURNAL, PART_RECORD, ShardInfo
from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.text_file import read_bytes

_LARGEST = 1 << 32  # bytes: it has a line for each shard with all of its unreadable files
# All names that a conversion writes begin so, temporary files included.
_OURS = ("train-", "validation-", "part-", DATASET_JSON, UNREADABLE_JSONL, JOURNAL)


@dataclass(frozen=True)
class Unreadable:
    """An image that was left out of a shard, and why."""

    where: str
    label: int
    reason: str


def part_record(part: ShardPart) -> str:
    """Returns the name of the journal of a part."""
    return f"part-{part.number:05d}-of-{part.count:05d}.jsonl"


class Journal:
    """The finished shards of a conversion. The file is written again, whole, after each.

    A line for each shard, behind one for the set. Each begins with a hash of the rest, by which a damaged line is told:
    its step is taken again.
    """

    def __init__(self, directory: str, name: str, planned: PlannedSet | None, state: str = "") -> None:
        """directory: holds the finished shards. name: the file's. planned: None of a damaged journal. state: of what
        else must not change between two starts.
        """
        self.directory = directory
        self.planned = planned
        self._path = f"{directory}/{name}"
        self._state = state
        self.plans: set[tuple[str, ...]] = set()  # fingerprints and states that the file's lines tell
        self.shards: dict[str, ShardInfo] = {}  # written, and read back, by name
        self.unreadable: dict[str, tuple[Unreadable, ...]] = {}  # by the shard's name

    def shard_finished(self, shard: ShardInfo, unreadable: Sequence[Unreadable] = ()) -> None:
        """Notes that the shard has been written without these images, closed and read back."""
        self.shards[shard.name] = shard
        self.unreadable[shard.name] = tuple(unreadable)
        self.save()

    def shard_lost(self, name: str) -> None:
        """Notes that a finished shard has changed."""
        del self.shards[name], self.unreadable[name]
        self.save()

    def save(self) -> None:
        """Writes the file. Raises OSError, or for gs:// tf.errors.OpError."""
        steps: list[dict[str, Any]] = [{"set": self.planned.to_json() if self.planned else None}]
        for name, shard in self.shards.items():
            steps.append({"shard": asdict(shard), "unreadable": [asdict(image) for image in self.unreadable[name]]})
        plan = [self.planned.fingerprint if self.planned else "", self._state]
        lines = [json.dumps({"plan": plan, **step}) for step in steps]
        write_atomically(self._path, "".join(f"{_hash(line)} {line}\n" for line in lines))

    def clear_away(self) -> None:
        """Removes the file, and all that a conversion by one machine has begun. Raises tf.errors.OpError."""
        if self.name == JOURNAL:
            tf.io.gfile.rmtree(self.directory)
            return
        tf.io.gfile.remove(self._path)
        if "://" not in self.directory:
            with contextlib.suppress(OSError):  # other parts are there
                os.rmdir(self.directory)

    def _take_up(self, steps: Iterable[Mapping[str, Any]]) -> None:
        for step in steps:
            if step.get("shard"):
                shard = ShardInfo(**step["shard"])
                self.shards[shard.name] = shard
                self.unreadable[shard.name] = tuple(Unreadable(**image) for image in step["unreadable"])

    @classmethod
    def read(cls, directory: str, name: str) -> "Journal":
        """Reads a journal. Prints how many of its lines are damaged."""
        steps, damaged = _read_steps(f"{directory}/{name}")
        if damaged:
            print(f"{directory}/{name}: {damaged:,} of its lines are damaged; their steps are taken again", flush=True)
        ours = [step for step in steps if isinstance(step["plan"], list)]  # a text is of an earlier version
        planned = next((PlannedSet.from_json(step["set"]) for step in ours if step.get("set")), None)
        journal = cls(directory, name, planned)
        journal.plans = {tuple(step["plan"]) for step in steps}
        journal._take_up(ours)
        return journal

    @classmethod
    def open(cls, directory: str, planned: PlannedSet, state: str) -> "Journal":
        """Opens the journal of a conversion by one machine if it is of the same set. Else empties the directory, with a
        printed line.

        Raises UserError when the directory holds parts of several machines, or a file that no conversion writes.
        """
        names = _names_without_parts(directory)
        found = cls.read(directory, JOURNAL)
        journal = cls(directory, JOURNAL, planned, state)
        if found.plans == {(planned.fingerprint, state)}:
            journal.shards, journal.unreadable = found.shards, found.unreadable
        elif names:
            why = "the images or other flags were others" if found.plans else "no journal tells of which"
            print(f"{directory}: left by another conversion ({why}); starting afresh", flush=True)
            tf.io.gfile.rmtree(directory)
            tf.io.gfile.makedirs(directory)
        journal.save()
        _names_without_parts(directory)  # another machine may have begun a part meanwhile
        return journal

    @classmethod
    def open_part(cls, directory: str, planned: PlannedSet, part: ShardPart) -> "Journal":
        """Opens the journal of one machine's part.

        Raises UserError when the directory holds parts of another set, or as many as another N makes, or a conversion
        by one machine.
        """
        _names_in(directory)
        own = part_record(part)
        journal = cls(directory, own, planned)
        found = cls.read(directory, own)
        journal.require_same_set(found)
        journal.shards, journal.unreadable = found.shards, found.unreadable
        journal.save()
        # Looked at after this: of two machines that begin at the same time, one at least sees the other.
        try:
            for name in _names_in(directory):
                if name == JOURNAL:
                    raise UserError(
                        f"--output_dir: {directory} holds a conversion without --shards. Give its command again, or "
                        "remove that directory."
                    )
                numbers = PART_RECORD.fullmatch(name)
                if numbers and int(numbers[2]) != part.count:
                    raise UserError(
                        f"--shards={part.number}/{part.count}: {directory} holds a part of {int(numbers[2])}, {name}. "
                        "Take as many parts, or remove that directory."
                    )
                if numbers and name != own:
                    journal.require_same_set(cls.read(directory, name))
        except UserError:
            if not journal.shards:
                journal.clear_away()
            raise
        return journal

    def require_same_set(self, other: "Journal") -> None:
        """Raises UserError for the journal of a part of another set."""
        ours = self.planned
        if ours is None or {plan for plan, *_ in other.plans} <= {ours.fingerprint}:
            return
        how = ours.difference(other.planned) if other.planned else "other images or flags"
        raise UserError(
            f"--output_dir: {self.directory} holds a part of another set: {other.name} has {how}. Give all machines "
            "the same images and flags, or remove that directory."
        )

    @property
    def name(self) -> str:
        """The file's name."""
        return self._path.rpartition("/")[2]


def _names_in(directory: str) -> list[str]:
    """Returns the names in a directory of shards. Raises UserError for a name that no conversion writes."""
    names = tf.io.gfile.listdir(directory)
    unexpected = sorted(name for name in names if not name.startswith(_OURS))
    if unexpected:
        raise UserError(
            f"--output_dir: the shards are first written to {directory}, which holds something else: {unexpected[0]}. "
            "Move that away."
        )
    return names


def _names_without_parts(directory: str) -> list[str]:
    """Returns the same. Raises UserError where there are parts of several machines."""
    names = _names_in(directory)
    if any(map(PART_RECORD.fullmatch, names)):
        raise UserError(
            f"--output_dir: {directory} holds parts that were written with --shards=K/N. Write the others so, and then "
            "give --shards=verify; or remove that directory."
        )
    return names


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:16]


def _read_steps(path: str) -> tuple[list[dict[str, Any]], int]:
    """Returns the steps in a journal's whole lines, and how many lines are not."""
    if not tf.io.gfile.exists(path):
        return [], 0
    lines = read_bytes(path, path, _LARGEST).decode(errors="replace").split("\n")
    steps, damaged = [], 0
    for found, _, line in (line.partition(" ") for line in lines if line):
        if found == _hash(line):
            steps.append(json.loads(line))
        else:
            damaged += 1
    return steps, damaged
