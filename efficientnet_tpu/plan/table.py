"""The table of compiled steps that ships with the project.

A row is what the TPU compiler said of one core's step; rows are made by `main.py plan --compile`, which keeps them in
the user's own table too. No TensorFlow.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from efficientnet_tpu.config.commands import PLAN_STEPS
from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.run import ModelConfig, TrainConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import Slice
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.compound_scaling import configured_architecture
from efficientnet_tpu.plan.hlo_cost import Compilation, Cost

SHIPPED = Path(__file__).parent / "tpu_table.jsonl"
# Options that change the compiled step; at their defaults they are not named in a key.
_OF_THE_STEP = (
    *("gradient_clip_norm", "mixup_alpha", "cutmix_alpha", "random_erasing", "freeze", "bn_mode"),
    *("momentum", "moving_average_decay", "gradient_accumulation_steps", "rematerialize"),
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
    """One compiled step. program: hash of what was compiled; cpu_seconds: that the compiler took; effort: of
    --plan_effort. With effort "memory" the compilation has no `costs`: that program is not the one that would run.
    """

    key: Key
    compilation: Compilation
    compiler: str
    program: str
    cpu_seconds: float
    effort: str = "full"

    @property
    def has_costs(self) -> bool:
        return bool(self.compilation.costs)


def key_of(config: Config, tpu: Slice, batch_size: int) -> Key:
    """What the step of `config` is in the table; batch_size: of the whole slice."""
    model = config.model
    architecture = configured_architecture(model, config.plan.num_classes)
    return Key(
        model.baseline or model.model,
        model.width_coefficient,
        model.depth_coefficient,
        architecture.resolution,
        config.plan.num_classes,
        tpu.kind,
        tpu.num_cores,
        batch_size // tpu.num_cores,
        recipe_of(config),
    )


def recipe_of(config: Config) -> str:
    """'rmsprop bfloat16', and whatever else changes the compiled training step; 'evaluation bfloat16', 'serving
    float32'.
    """
    step, precision = config.plan.plan_step, config.hardware.precision
    if step == "serving":
        return "serving float32"  # what export writes
    precision = "bfloat16" if precision == "auto" else precision
    if step == "evaluation":
        return f"evaluation {precision}"
    train, default = config.train, TrainConfig()
    if train.bn_mode == default.bn_mode:
        train = dataclasses.replace(train, bn_mode="train")
    default = dataclasses.replace(default, bn_mode="train")
    words = [train.optimizer, precision]
    words += [
        f"{name}={getattr(train, name)}" for name in _OF_THE_STEP if getattr(train, name) != getattr(default, name)
    ]
    return " ".join(words)


def step_of(key: Key) -> str:
    """As --plan_step."""
    first = key.recipe.partition(" ")[0]
    return first if first in PLAN_STEPS else "train"


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
        fields.get("effort", "full"),
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


def architecture_of_key(key: Key) -> Architecture:
    """The network of a row."""
    model = ModelConfig(width_coefficient=key.width, depth_coefficient=key.depth, resolution=key.resolution)
    is_table = key.model.startswith("{")  # of stages, --baseline's
    model = dataclasses.replace(model, **{"baseline" if is_table else "model": key.model})
    return configured_architecture(model, key.num_classes)


def hbm_bytes(compilation: Compilation) -> int:
    """Read from and written to HBM in a step."""
    return sum(cost.hbm_bytes for cost in (compilation.costs or {}).values())


def cycles(compilation: Compilation) -> int:
    """The compiler's, in a step."""
    return sum(cost.cycles for cost in (compilation.costs or {}).values())
