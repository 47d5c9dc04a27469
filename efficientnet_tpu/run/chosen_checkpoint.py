"""The checkpoint of a run that a command takes, the best or the last, and the lines that say which and why."""

import sys
from collections.abc import Collection
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run.checkpoint_names import checkpoint_paths, checkpoint_version, irregular_part
from efficientnet_tpu.run.early_stopping import EarlyStopping, watched_split
from efficientnet_tpu.storage.literal_path import literal_path

# Where a checkpoint has the evaluations so far: the name that `Checkpoints` gives them.
_SELECTION = "selection/.ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True)
class ChosenCheckpoint:
    """The checkpoint that a command takes.

    which: "best" or "last". description: what it is and what the other one is; "" where there is one checkpoint only
    and no evaluation, as of imported weights. chosen_by: the split whose images found it to be the best; "" for the
    last. other: the one that is there too and was not taken.
    """

    which: str
    description: str = ""
    chosen_by: str = ""
    other: str = ""

    @property
    def note(self) -> str:
        """The line for a command that takes --checkpoint."""
        return self.description + (f"; --checkpoint={self.other} takes it" if self.other else "")

    def note_on(self, measured: Collection[str]) -> str:
        """Returns the note for a command that measures these splits of the run's own data set."""
        if not (self.note and self.chosen_by in measured):
            return self.note
        some_of = "some of " if len(measured) > 1 else ""
        return f"{self.note}\nthe best was chosen by {some_of}these images: its figure flatters"


@dataclass(frozen=True)
class _Found:
    """A checkpoint's step and the top-1 accuracy, 0..1, that was measured there; None where none was."""

    step: int
    accuracy: float | None

    def describe(self, of: str = "") -> str:
        """Returns 'step 120: 90.60%', with `of` 'step 120: top-1 90.60% of the validation images'."""
        if self.accuracy is None:
            return f"step {self.step}"
        return f"step {self.step}: " + (
            f"top-1 {self.accuracy:.2%} of the {of} images" if of else f"{self.accuracy:.2%}"
        )


def choose_checkpoint(stored: Config, asked: str) -> ChosenCheckpoint:
    """Chooses a checkpoint of the run whose configuration is `stored`. asked: what --checkpoint says.

    auto is the best, and the last where nothing was evaluated, as with imported weights. That the one asked for by name
    is missing is for those to say who restore it.
    """
    best, last = (_newest(stored.run.model_dir, which) for which in ("best", "last"))
    which = ("best" if best else "last") if asked == "auto" else asked
    watched = watched_split(stored)
    other = ""
    if best and (last is None or last.step == best.step):
        description = f"best and last checkpoint, {best.describe(watched)}"
    elif best and which == "best":
        description = f"best checkpoint, {best.describe(watched)}, by which it was chosen; the last, {last.describe()}"
        other = "last"
    elif best:
        description = f"last checkpoint, {last.describe(watched)}; the best, {best.describe()}"
        other = "best"
    elif last and last.step and which == "last":
        description = f"last checkpoint, {last.describe()}: there is no best one as long as nothing has been evaluated"
    else:
        description = ""
    return ChosenCheckpoint(which, description, watched if which == "best" else "", other)


def _newest(model_dir: str, which: str) -> _Found | None:
    """Returns the newest checkpoint whose evaluations can be read, else the newest; None where there is none."""
    paths = checkpoint_paths(model_dir, which)
    for path in paths:
        if irregular_part(path):
            continue
        try:
            with literal_path(path) as literal:
                reader = tf.train.load_checkpoint(literal)
                stored = reader.get_tensor(_SELECTION) if reader.has_tensor(_SELECTION) else b"{}"
        except (tf.errors.OpError, OSError, IndexError, ValueError):
            continue  # whoever restores it names the damage
        step, _ = checkpoint_version(path)
        try:
            return _Found(step, EarlyStopping.from_json(stored, path).accuracy_at(step))
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr, flush=True)
            return _Found(step, None)
    return _Found(checkpoint_version(paths[0])[0], None) if paths else None
