"""The journal of a conversion, in a directory beside output_dir. By it an interrupted conversion is continued."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.records.tfrecord_layout import DATASET_JSON, ENCODED_KEY, FORMAT, LABEL_KEY, ShardInfo
from efficientnet_tpu.data.sources.labelled_files import LabelledFiles
from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.atomic_write import write_atomically

JOURNAL = "journal.json"
# All names that a conversion writes begin so, temporary files included.
_OURS = ("train-", "validation-", DATASET_JSON, UNREADABLE_JSONL, JOURNAL)


def plan_fingerprint(files: LabelledFiles, config: Config) -> str:
    """Returns a hash of all that decides the shards' bytes: images, labels, seed, numbers of shards, format.

    An image counts by its path and, on a local disk, where that is cheap, by its size and the time of its last change.
    """
    digest = hashlib.sha256()
    output = config.output
    head = [FORMAT, ENCODED_KEY, LABEL_KEY, config.run.seed, output.train_shards, output.validation_shards]
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
    """The finished steps of a conversion. The file is written again, whole, after each step."""

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
        shards = [asdict(shard) for shard in self.shards.values()]
        content = {"plan": self._plan, "unreadable": self.unreadable, "shards": shards}
        write_atomically(f"{self.directory}/{JOURNAL}", json.dumps(content) + "\n")

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
        content = {}
        if tf.io.gfile.exists(f"{directory}/{JOURNAL}"):
            with tf.io.gfile.GFile(f"{directory}/{JOURNAL}") as file:
                content = json.loads(file.read())  # written atomically: it is whole
        if content.get("plan") == plan:
            journal.unreadable = content["unreadable"]
            journal.shards = {shard["name"]: ShardInfo(**shard) for shard in content["shards"]}
            return journal
        if names:
            print(
                f"{directory}: left by another conversion (the images, --seed or the numbers of shards were others); "
                "starting afresh",
                flush=True,
            )
            tf.io.gfile.rmtree(directory)
            tf.io.gfile.makedirs(directory)
        return journal
