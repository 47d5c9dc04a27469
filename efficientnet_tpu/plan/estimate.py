"""Figures of steps that are not in the table of compiled ones: scaled from the compiled step that is most like each.

What lives as long as the weights goes by their number; activations by what is kept of them (`activation_model`),
traffic and time by what convolutions write. No TensorFlow.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from efficientnet_tpu.hardware.tpu_specs import GENERATIONS
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.plan.activation_memory import activation_bytes, written_bytes
from efficientnet_tpu.plan.flops import state_bytes, step_flops
from efficientnet_tpu.plan.hlo_cost import Compilation, Cost
from efficientnet_tpu.plan.table import CompiledStep, StepKey

MARGIN = 0.97  # of a TPU's memory that what is only modelled may take
# Of a TPU's memory; a step that was compiled into more may have been made to fit, by computing some of it again, and
# says little of others.
_ROOMY = 0.87
_OTHERWISE = 0.5  # a step with --rematerialize is from one without as far as one of 1.6 times the size
_FIXED = {"optimizer and average", "all-reduce"}  # whose cost goes by the number of weights


@dataclass(frozen=True)
class Estimate:
    """A step's figures. `row` and `memory_row`: the compiled steps that traffic and time, and memory, are of or are
    scaled from; `is_compiled` and `is_memory_compiled`: which of the two.
    """

    compilation: Compilation
    row: CompiledStep
    is_compiled: bool
    memory_row: CompiledStep
    is_memory_compiled: bool


def estimate(key: StepKey, architecture: Architecture, optimizer: str, rows: Sequence[CompiledStep]) -> Estimate | None:
    """Figures of a step: compiled if a row is exactly it, else scaled from the nearest row; None with no row at all.

    The nearest is of the same kind of TPU if there is one, else of the kind next to it in age, and of the size most
    alike; one that remembers otherwise is taken for further away. A row of effort "memory" counts for memory only.
    """
    rows = [row for row in rows if row.key.plan_step == key.plan_step]
    exact = [row for row in rows if row.key == key]
    for row in exact:
        if row.has_costs or not row.compilation.fits:
            return Estimate(row.compilation, row, True, row, True)
    costs_row = _nearest(key, architecture, [row for row in rows if row.has_costs])
    fitting = [row for row in rows if row.compilation.fits]
    memory_row = exact[0] if exact else _nearest(key, architecture, [row for row in fitting if _roomy(row)] or fitting)
    if costs_row is None or memory_row is None:
        return None
    costs = scaled(costs_row, key, architecture, optimizer)
    memory = exact[0].compilation if exact else scaled(memory_row, key, architecture, optimizer)
    compilation = dataclasses.replace(
        memory, flops=memory.flops if exact else costs.flops, bytes_accessed=costs.bytes_accessed, costs=costs.costs
    )
    return Estimate(compilation, costs_row, False, memory_row, bool(exact))


def _nearest(key: StepKey, architecture: Architecture, rows: Sequence[CompiledStep]) -> CompiledStep | None:
    wanted = math.log(written_bytes(architecture, key.batch_size))

    def distance(row: CompiledStep) -> tuple[int, float]:
        size = math.log(written_bytes(row.key.build_architecture(), row.key.batch_size))
        otherwise = _OTHERWISE * (row.key.rematerialize != key.rematerialize)
        return _apart(row.key.kind, key.kind), abs(size - wanted) + otherwise

    return min(rows, key=distance, default=None)


def _roomy(row: CompiledStep) -> bool:
    return row.compilation.needed_bytes <= _ROOMY * GENERATIONS[row.key.kind].hbm_limit


def _apart(kind: str, other: str) -> int:
    order = list(GENERATIONS)
    return abs(order.index(kind) - order.index(other))


def _passes(key: StepKey) -> float:
    """What the step computes, in forward passes: three in training, four if one is repeated, else one."""
    if key.plan_step != "train":
        return 1.0
    return 3.0 if key.rematerialize == "none" else 4.0


def scaled(row: CompiledStep, key: StepKey, architecture: Architecture, optimizer: str) -> Compilation:
    """What another step of the same kind would cost; one with --rematerialize, four passes for three."""
    base, old = row.compilation, row.key.build_architecture()
    written = written_bytes(architecture, key.batch_size) / written_bytes(old, row.key.batch_size)
    work = written * _passes(key) / _passes(row.key)
    held = state_bytes(architecture, optimizer).total / state_bytes(old, optimizer).total
    temp = int(base.temp_bytes * _kept(key, architecture) / _kept(row.key, old))
    code = int(base.code_bytes * len(architecture.blocks) / len(old.blocks))
    matrix, old_matrix = (
        sum(step_flops(network).values()) * one.batch_size * _passes(one) / 3
        for network, one in ((architecture, key), (old, row.key))
    )
    images, old_images = (3 * one.resolution**2 * one.batch_size for one in (key, row.key))
    arguments = int((base.argument_bytes - old_images) * held) + images
    return Compilation(
        argument_bytes=arguments,
        output_bytes=int(base.output_bytes * held),
        alias_bytes=int(base.alias_bytes * held),
        temp_bytes=temp,
        code_bytes=code,
        flops=matrix + max(0.0, base.flops - old_matrix) * work,
        bytes_accessed=base.bytes_accessed * work,
        costs={name: _times(cost, held if name in _FIXED else work) for name, cost in (base.costs or {}).items()},
        needed_bytes=arguments + temp + code,
    )


def _kept(key: StepKey, architecture: Architecture) -> int:
    keeps = key.rematerialize if key.plan_step == "train" else "all"
    return activation_bytes(architecture, key.batch_size, keeps)


def _times(cost: Cost, factor: float) -> Cost:
    return Cost(int(cost.hbm_bytes * factor), int(cost.cycles * factor))


def model_errors(rows: Iterable[CompiledStep], optimizer: str = "rmsprop") -> dict[str, list[float]]:
    """How wrong the model is of training where the truth is known: each row predicted from others of its kind of TPU.

    Relative errors of `needed_bytes`, of steps for which there is room by the model, and of HBM traffic; empty lists
    where no kind has two rows.
    """
    known = [row for row in rows if row.compilation.fits and row.key.plan_step == "train"]
    errors: dict[str, list[float]] = {"memory": [], "traffic": []}
    for row in known:
        others = [other for other in known if other.key.kind == row.key.kind and other.key != row.key]
        guess = estimate(row.key, row.key.build_architecture(), optimizer, others)
        if guess is None:
            continue
        if guess.compilation.needed_bytes <= GENERATIONS[row.key.kind].hbm_limit:
            errors["memory"].append(guess.compilation.needed_bytes / row.compilation.needed_bytes - 1)
        if row.has_costs:
            errors["traffic"].append(guess.compilation.hbm_bytes / row.compilation.hbm_bytes - 1)
    return errors


def largest_errors(rows: Iterable[CompiledStep]) -> dict[str, float]:
    """Of the model's memory and traffic, relative; 1 where nothing is known of it."""
    found = model_errors(rows)
    return {name: max((abs(error) for error in errors), default=1.0) for name, errors in found.items()}
