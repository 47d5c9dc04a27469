"""The journal of a conversion, in a directory beside output_dir. By it an interrupted conversion is continued."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.records.tfrecord_layout import DATASET_JSON, ENCODED_KEY, FORMAT, LABEL_KEY, ShardInfo
from efficientnet_tpu.data.sources.labelled_files import LabelledFiles
from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.text_file import read_bytes

JOURNAL = "journal.json"
_LARGEST = 1 << 32  # bytes: it has a line for each split with all of its unreadable files
# All names that a conversion writes begin so, temporary files included.
_OURS = ("train-", "validation-", DATASET_JSON, UNREADABLE_JSONL, JOURNAL)


def plan_fingerprint(files: LabelledFiles, config: Config) -> str:
    """Returns a hash of all that decides the shards' bytes: images, labels, seed, numbers of shards, format, copies.

    An image counts by its path and, on a local disk, where that is cheap, by its size and the time of its last change.
    """
    digest = hashlib.sha256()
    output = config.output
    head = [FORMAT, ENCODED_KEY, LABEL_KEY, config.run.seed, output.train_shards, output.validation_shards]
    if output.max_side:
        head += [output.max_side, output.quality, config.data.background]
    digest.update(json.dumps([head, files.label_names]).encode())
    for split, examples in sorted(files.splits.items()):
        for path, label in examples:
            state: list[int] = []
            if "://" not in path:
                with contextlib.suppress(OSError):  # not there, or out of reach: reading it will tell
                    status = os.stat(path)
                    state = [status.st_size, status.st_mtime_ns]
            digest.update(json.dumps([split, path, label, *state]).encode())
    return digest.hexdigest()


class Journal:
    """The finished steps of a conversion. The file is written again, whole, after each step.

    A line for each step. It begins with a hash of the rest, by which a damaged line is told: its step is taken again.
    """

    def __init__(self, directory: str, plan: str) -> None:
        """directory: holds the finished shards. plan: from `plan_fingerprint`."""
        self.directory = directory
        self._plan = plan
        self.unreadable: dict[str, dict[str, str]] = {}  # of each split that has been checked: path -> reason
        self.shards: dict[str, ShardInfo] = {}  # written, and read back, by name

    def split_checked(self, split: str, unreadable: Mapping[str, str]) -> None:
        """Notes that all images of a split were decoded, or were found unreadable: path -> reason."""
        self.unreadable[split] = dict(unreadable)
        self._save()

    def shard_finished(self, shard: ShardInfo) -> None:
        """Notes that the shard has been written, closed and read back."""
        self.shards[shard.name] = shard
        self._save()

    def shard_lost(self, name: str) -> None:
        """Notes that a finished shard has changed."""
        del self.shards[name]
        self._save()

    def _save(self) -> None:
        steps: list[dict[str, Any]] = [{"split": split, "unreadable": why} for split, why in self.unreadable.items()]
        steps += [{"shard": asdict(shard)} for shard in self.shards.values()]
        lines = [json.dumps({"plan": self._plan, **step}) for step in steps]
        write_atomically(f"{self.directory}/{JOURNAL}", "".join(f"{_hash(line)} {line}\n" for line in lines))

    def _take_up(self, steps: Iterable[Mapping[str, Any]]) -> None:
        for step in steps:
            if "shard" in step:
                shard = ShardInfo(**step["shard"])
                self.shards[shard.name] = shard
            else:
                self.unreadable[step["split"]] = step["unreadable"]

    @classmethod
    def open(cls, directory: str, plan: str) -> "Journal":
        """Opens the directory's journal if it is of the same plan. Else empties the directory, with a printed line.

        Raises UserError when the directory holds a file that no conversion writes.
        """
        names = tf.io.gfile.listdir(directory)
        unexpected = sorted(name for name in names if not name.startswith(_OURS))
        if unexpected:
            raise UserError(
                f"--output_dir: the shards are first written to {directory}, which holds something else: "
                f"{unexpected[0]}. Move that away."
            )
        journal = cls(directory, plan)
        steps, damaged = _read_steps(f"{directory}/{JOURNAL}")
        if damaged:
            print(
                f"{directory}/{JOURNAL}: {damaged:,} of its lines are damaged; their steps are taken again", flush=True
            )
        if steps and all(step["plan"] == plan for step in steps):
            journal._take_up(steps)
            return journal
        if names:
            why = "the images or other flags were others" if steps else "no journal tells of which"
            print(f"{directory}: left by another conversion ({why}); starting afresh", flush=True)
            tf.io.gfile.rmtree(directory)
            tf.io.gfile.makedirs(directory)
        return journal


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
