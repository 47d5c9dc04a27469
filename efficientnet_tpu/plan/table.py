"""The table of compiled steps: the one that ships with the project and the user's own.

Each row holds the TPU compiler's figures for the step of one core. `main.py plan --compile` makes rows and appends
them to the user's table. Nothing here needs TensorFlow.
"""

import dataclasses
import errno
import functools
import json
import os
import re
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientnet_tpu.config.cloud import PLAN_STEPS
from efficientnet_tpu.config.config import OPTIONS, Config, options_of
from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import Slice
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan.hlo_cost import Compilation, Cost
from efficientnet_tpu.storage import json_lines
from efficientnet_tpu.storage.durable import sync_file
from efficientnet_tpu.storage.regular_file import require_regular
from efficientnet_tpu.storage.text_file import read_bytes
from efficientnet_tpu.storage.user_cache import user_cache
from efficientnet_tpu.storage.write_errors import explained_write_errors

SHIPPED = Path(__file__).parent / "tpu_table.jsonl"
# Options that a StepKey has a place for; the others that change the step are named in its recipe.
_IN_OTHER_PLACES = frozenset(
    {"model", "stage_table", "width_coefficient", "depth_coefficient", "resolution"}
    | {"train_batch_size", "optimizer", "precision"}
)


@dataclass(frozen=True)
class StepKey:
    """The options that one core's compiled step depends on, apart from the source code."""

    model: str
    width: float | None  # --width_coefficient, where it overrides the model's
    depth: float | None  # --depth_coefficient, likewise
    resolution: int
    num_classes: int
    kind: str  # of TPU
    num_cores: int
    batch_size: int  # per core
    recipe: str  # see `describe_recipe`

    @property
    def plan_step(self) -> str:
        """Returns the kind of step, one of --plan_step's choices."""
        first = self.recipe.partition(" ")[0]
        return first if first in PLAN_STEPS else "train"

    @property
    def rematerialize(self) -> str:
        """Returns the value of --rematerialize."""
        named = re.search(r"\brematerialize=(\w+)", self.recipe)
        return named[1] if named else "none"

    @functools.cache  # noqa: B019 - a frozen record, of which there are few
    def build_architecture(self) -> Architecture:
        """Returns the records of the network that the step trains or evaluates."""
        model = ModelConfig(width_coefficient=self.width, depth_coefficient=self.depth, resolution=self.resolution)
        is_table = self.model.startswith("{")  # of stages, --stage_table's
        model = dataclasses.replace(model, **{"stage_table" if is_table else "model": self.model})
        return configured_architecture(model, self.num_classes)


@dataclass(frozen=True)
class CompiledStep:
    """A row of the table: one step and the compiler's figures for it.

    program: the hash of the compiled program.
    cpu_seconds: CPU time of the compilation.
    compiler_effort: the value of --plan_effort. A compilation of effort "memory" has no `costs`, because a TPU would
        run the program of effort "full".
    """

    key: StepKey
    compilation: Compilation
    compiler: str
    program: str
    cpu_seconds: float
    compiler_effort: str = "full"

    @property
    def has_costs(self) -> bool:
        return bool(self.compilation.costs)


def make_step_key(config: Config, tpu: Slice, batch_size: int) -> StepKey:
    """Returns the table's key for the step of `config` with `batch_size` images on the whole slice."""
    model = config.model
    return StepKey(
        model=model.stage_table or model.model,
        width=model.width_coefficient,
        depth=model.depth_coefficient,
        resolution=configured_architecture(model, config.plan.num_classes).resolution,
        num_classes=config.plan.num_classes,
        kind=tpu.kind,
        num_cores=tpu.num_cores,
        batch_size=batch_size // tpu.num_cores,
        recipe=describe_recipe(config),
    )


def describe_recipe(config: Config) -> str:
    """Returns the options that change the compiled step: 'rmsprop bfloat16 mixup_alpha=0.2', 'evaluation bfloat16' or
    'serving float32'.
    """
    step, precision = config.plan.plan_step, config.hardware.precision
    if step == "serving":
        return "serving float32"  # what export writes
    precision = "bfloat16" if precision == "auto" else precision
    if step == "evaluation":
        return f"evaluation {precision}"
    changes = {
        name: value
        for name, value in options_of(config).items()
        if (option := OPTIONS[name]).changes_step and name not in _IN_OTHER_PLACES and value != option.default
    }
    if config.train.bn_mode == "train":  # a plan knows no images, for which auto is train
        del changes["bn_mode"]
    return _in_order(f"{config.train.optimizer} {precision} " + " ".join(f"{n}={v}" for n, v in changes.items()))


def _in_order(recipe: str) -> str:
    """Returns a recipe with its options in alphabetical order, which makes equal recipes equal texts."""
    words = recipe.split()
    return " ".join([*words[:2], *sorted(words[2:])])


def without_accumulation(recipe: str) -> str:
    """Returns the recipe of one micro-batch of a step, a step without --gradient_accumulation_steps."""
    return " ".join(word for word in recipe.split() if not word.startswith("gradient_accumulation_steps="))


def to_json(row: CompiledStep) -> str:
    """Returns the row as one line of JSON."""
    fields = dataclasses.asdict(row)
    fields["effort"] = fields.pop("compiler_effort")  # the name in tables that exist
    return json.dumps(fields, sort_keys=True)


def from_json(fields: dict[str, Any]) -> CompiledStep:
    """Returns the row in the value of a line of `to_json`. Raises ValueError, KeyError, TypeError or AttributeError for
    any other value.
    """
    compilation = dict(fields["compilation"])
    if compilation["costs"] is not None:
        compilation["costs"] = {name: Cost(**cost) for name, cost in compilation["costs"].items()}
    key = StepKey(**fields["key"])
    for name, kind in typing.get_type_hints(StepKey).items():
        value = getattr(key, name)
        if not isinstance(value, kind) and not (type(value) is int and name in ("width", "depth")):
            raise TypeError(f"{name} is {value}")
    return CompiledStep(
        dataclasses.replace(key, recipe=_in_order(key.recipe)),
        Compilation(**compilation),
        fields["compiler"],
        fields["program"],
        fields["cpu_seconds"],
        fields.get("effort", "full"),
    )


def load(*paths: str | os.PathLike) -> list[CompiledStep]:
    """Returns the rows of those tables that exist, the last row of the last table first.

    So a user's own results take precedence over the shipped ones. Lines that are no rows are left out, which is said in
    one line. Raises UserError for a file that cannot be read, or that holds nothing else.
    """
    rows = []
    for path in filter(os.path.exists, paths):
        table = json_lines.parse(read_bytes(os.fspath(path), f"--plan_table={path}"), from_json)
        if table.damaged and not table.entries:
            raise UserError(f"--plan_table={path}: is no table of `plan --compile`. Name another file.")
        if table.damaged:
            print(table.damage(os.fspath(path)), file=sys.stderr, flush=True)
        rows += table.entries
    return rows[::-1]


def append(path: str, row: CompiledStep) -> None:
    """Appends a row to the table at `path`, that `require_writable` has made. Raises UserError if it cannot."""
    with explained_write_errors(f"--plan_table={path}"):
        line = (to_json(row) + "\n").encode()
        with Path(path).open("ab", buffering=0) as file:
            begin = file.seek(0, os.SEEK_END)
            if file.write(line) < len(line):  # one write, so that lines of two programs do not mix
                file.truncate(begin)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync_file(path)


def require_writable(path: str) -> None:
    """Raises UserError unless rows can be appended to the table at `path`, which is created if need be."""
    require_regular(path, f"--plan_table={path}")
    with explained_write_errors(f"--plan_table={path}"):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        Path(path).open("ab").close()


def user_table(config: Config) -> str:
    """Returns the path of the user's table, --plan_table or a file in the user's cache."""
    return config.plan.plan_table or os.path.join(user_cache(), "tpu_table.jsonl")


def load_tables(config: Config) -> list[CompiledStep]:
    """Returns the rows of the shipped table and of the user's."""
    return load(SHIPPED, user_table(config))
