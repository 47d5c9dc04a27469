"""The table of compiled steps that ships with the project, and the model of the steps that are not in it.

A row is what the TPU compiler said of one core's step; rows are made by `main.py plan --compile`, which keeps them in
the user's own table too. A step that is in neither is scaled from the compiled one that is most like it: memory and
traffic by what convolutions write, which is what a step's memory holds. No TensorFlow.
"""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientnet_tpu.analysis.compiled_program import Compilation, Cost
from efficientnet_tpu.analysis.operation_model import state_bytes, step_flops
from efficientnet_tpu.config import Config, ModelConfig, TrainConfig, UserError
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import architecture_of
from efficientnet_tpu.tpu_types import GENERATIONS, Slice

SHIPPED = Path(__file__).parent / "tpu_table.jsonl"
# Options that change the compiled step; at their defaults they are not named in a key.
_OF_THE_STEP = (
    *("gradient_clip_norm", "mixup_alpha", "cutmix_alpha", "random_erasing", "freeze", "bn_mode"),
    *("momentum", "moving_average_decay", "gradient_accumulation_steps"),
)


@dataclass(frozen=True)
class Key:
    """What a compiled step depends on, beside the source."""

    model: str
    width: float | None  # --width_coefficient, where it overrides the model's
    depth: float | None  # --depth_coefficient, likewise
    resolution: int
    num_classes: int
    kind: str  # of TPU
    num_cores: int
    batch_size: int  # per core
    recipe: str  # `recipe_of`: what of the recipe changes the program


@dataclass(frozen=True)
class Row:
    """One compiled step. program: hash of what was compiled; cpu_seconds: that the compiler took."""

    key: Key
    compilation: Compilation
    compiler: str
    program: str
    cpu_seconds: float


@dataclass(frozen=True)
class Estimate:
    """A step's figures. `row`: the compiled step that they are, or are scaled from; `is_compiled`: which of the two."""

    compilation: Compilation
    row: Row
    is_compiled: bool


def key_of(config: Config, tpu: Slice, batch_size: int) -> Key:
    """What the step of `config` is in the table; batch_size: of the whole slice."""
    model = config.model
    architecture = architecture_of(model, config.plan.num_classes)
    return Key(
        model.baseline or model.model,
        model.width_coefficient,
        model.depth_coefficient,
        architecture.resolution,
        config.plan.num_classes,
        tpu.kind,
        tpu.num_cores,
        batch_size // tpu.num_cores,
        recipe_of(config.train, config.hardware.precision),
    )


def recipe_of(train: TrainConfig, precision: str) -> str:
    """'rmsprop bfloat16', and whatever else changes the compiled step."""
    default = TrainConfig()
    words = [train.optimizer, "bfloat16" if precision == "auto" else precision]
    words += [
        f"{name}={getattr(train, name)}" for name in _OF_THE_STEP if getattr(train, name) != getattr(default, name)
    ]
    return " ".join(words)


def to_json(row: Row) -> str:
    """One line."""
    return json.dumps(dataclasses.asdict(row), sort_keys=True)


def from_json(line: str) -> Row:
    """The inverse."""
    fields = json.loads(line)
    compilation = dict(fields["compilation"])
    if compilation["costs"] is not None:
        compilation["costs"] = {name: Cost(**cost) for name, cost in compilation["costs"].items()}
    return Row(
        Key(**fields["key"]),
        Compilation(**compilation),
        fields["compiler"],
        fields["program"],
        fields["cpu_seconds"],
    )


def load(*paths: str | os.PathLike) -> list[Row]:
    """Rows of the tables that are there; later ones come first, so that a user's own results count for more.

    Raises UserError for a file that is no such table.
    """
    rows = []
    for path in paths:
        lines = Path(path).read_text().splitlines() if os.path.exists(path) else []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(from_json(line))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"--plan_table={path}: line {number} is no row of a table of `plan --compile`. Delete the line, or "
                    "name another file."
                ) from error
    return rows[::-1]


def estimate(key: Key, architecture: Architecture, optimizer: str, rows: Sequence[Row]) -> Estimate | None:
    """Figures of a step: compiled if a row is exactly it, else scaled from the nearest row; None with no row at all.

    The nearest is of the same kind of TPU if there is one, else of the kind next to it in age; and then the one of the
    size most alike.
    """
    for row in rows:
        if row.key == key:
            return Estimate(row.compilation, row, True)
    usable = [row for row in rows if row.compilation.fits]
    if not usable:
        return None
    wanted = size_of(architecture) * key.batch_size
    nearest = min(usable, key=lambda row: (_apart(row.key.kind, key.kind), abs(math.log(_row_size(row) / wanted))))
    return Estimate(scaled(nearest, key, architecture, optimizer), nearest, False)


def _apart(kind: str, other: str) -> int:
    order = list(GENERATIONS)
    return abs(order.index(kind) - order.index(other))


def scaled(row: Row, key: Key, architecture: Architecture, optimizer: str) -> Compilation:
    """What another step would cost: what lives as long as the weights by their number, the rest by what is written."""
    from_architecture = _architecture(row.key)
    base = row.compilation
    factor = size_of(architecture) * key.batch_size / _row_size(row)
    state, base_state = (
        state_bytes(architecture, optimizer).total,
        state_bytes(from_architecture, optimizer).total,
    )
    held = state / base_state
    fixed = {"optimizer and average", "all-reduce"}
    costs = {
        name: Cost(*(int(value * (held if name in fixed else factor)) for value in (cost.hbm_bytes, cost.cycles)))
        for name, cost in (base.costs or {}).items()
    }
    matrix = sum(step_flops(architecture).values()) * key.batch_size
    base_matrix = sum(step_flops(from_architecture).values()) * row.key.batch_size
    temp = int(base.temp_bytes * factor)
    code = int(base.code_bytes * len(architecture.blocks) / len(from_architecture.blocks))
    images = 3 * (architecture.resolution**2 * key.batch_size - row.key.resolution**2 * row.key.batch_size)
    arguments = int((base.argument_bytes - 3 * row.key.resolution**2 * row.key.batch_size) * held)
    arguments += 3 * row.key.resolution**2 * row.key.batch_size + images
    return Compilation(
        argument_bytes=arguments,
        output_bytes=int(base.output_bytes * held),
        alias_bytes=int(base.alias_bytes * held),
        temp_bytes=temp,
        code_bytes=code,
        flops=matrix + max(0.0, base.flops - base_matrix) * factor,
        bytes_accessed=base.bytes_accessed * factor,
        costs=costs,
        needed_bytes=arguments + temp + code,
    )


def size_of(architecture: Architecture) -> int:
    """What convolutions write for one image, in elements."""
    return count(architecture).activations - architecture.num_classes


def _row_size(row: Row) -> float:
    return float(size_of(_architecture(row.key)) * row.key.batch_size)


def _architecture(key: Key) -> Architecture:
    model = ModelConfig(width_coefficient=key.width, depth_coefficient=key.depth, resolution=key.resolution)
    is_table = key.model.startswith("{")  # of stages, --baseline's
    model = dataclasses.replace(model, **{"baseline" if is_table else "model": key.model})
    return architecture_of(model, key.num_classes)


def model_errors(rows: Iterable[Row], optimizer: str = "rmsprop") -> dict[str, list[float]]:
    """How wrong the model is where the truth is known: each row predicted from the others of its kind of TPU.

    Relative errors of `needed_bytes` and of HBM traffic; empty lists where no kind has two rows.
    """
    known = [row for row in rows if row.compilation.fits]
    errors: dict[str, list[float]] = {"memory": [], "traffic": []}
    for row in known:
        others = [other for other in known if other is not row and other.key.kind == row.key.kind]
        guess = estimate(
            row.key, _architecture(row.key), optimizer, [other for other in others if other.key != row.key]
        )
        if guess is None:
            continue
        errors["memory"].append(guess.compilation.needed_bytes / row.compilation.needed_bytes - 1)
        errors["traffic"].append(hbm_bytes(guess.compilation) / hbm_bytes(row.compilation) - 1)
    return errors


def largest_errors(rows: Iterable[Row]) -> dict[str, float]:
    """Of the model's memory and traffic, relative; 1 where nothing is known of it."""
    found = model_errors(rows)
    return {name: max((abs(error) for error in errors), default=1.0) for name, errors in found.items()}


def hbm_bytes(compilation: Compilation) -> int:
    """Read from and written to HBM in a step."""
    return sum(cost.hbm_bytes for cost in (compilation.costs or {}).values())


def cycles(compilation: Compilation) -> int:
    """The compiler's, in a step."""
    return sum(cost.cycles for cost in (compilation.costs or {}).values())
