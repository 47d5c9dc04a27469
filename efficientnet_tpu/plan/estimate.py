"""Figures of steps that no row of the table has: they are scaled from the most similar compiled step.

What lives as long as the weights scales with their number, activations scale with `activation_memory`, and traffic and
time scale with what the convolutions write. Nothing here needs TensorFlow.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from efficientnet_tpu.hardware.tpu_specs import GENERATIONS
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.plan.activation_memory import activation_bytes, written_bytes
from efficientnet_tpu.plan.flops import step_flops
from efficientnet_tpu.plan.hlo_cost import Compilation, Cost
from efficientnet_tpu.plan.table import CompiledStep, StepKey
from efficientnet_tpu.training.memory import state_bytes

MEMORY_MARGIN = 0.97  # the part of a TPU's memory that a modeled step may take
# The compiler may have recomputed activations to fit a step into more than this part of the memory, so such a step is
# no good measure of others.
_ROOMY = 0.87
# A row with another --rematerialize is taken to be as far away as one of exp(0.5) = 1.6 times the size.
_OTHER_REMATERIALIZE_DISTANCE = 0.5
_SCALE_WITH_WEIGHTS = {"optimizer and average", "all-reduce"}  # classes of operations; the others scale with the work


@dataclass(frozen=True)
class Estimate:
    """The figures of a step.

    cost_row: the compiled step that traffic and time are of, or are scaled from.
    is_compiled: whether they are of it.
    memory_row, is_memory_compiled: likewise for memory.
    """

    compilation: Compilation
    cost_row: CompiledStep
    is_compiled: bool
    memory_row: CompiledStep
    is_memory_compiled: bool


def estimate_step(
    key: StepKey, architecture: Architecture, optimizer: str, rows: Sequence[CompiledStep]
) -> Estimate | None:
    """Returns the figures of the row with this key, else figures scaled from the nearest row, or None without rows.

    A row of compiler effort "memory" counts for memory only.
    """
    rows = [row for row in rows if row.key.plan_step == key.plan_step]
    exact = [row for row in rows if row.key == key]
    for row in exact:
        if row.has_costs or not row.compilation.fits:
            return Estimate(row.compilation, row, True, row, True)
    cost_row = _nearest(key, architecture, [row for row in rows if row.has_costs])
    fitting = [row for row in rows if row.compilation.fits]
    roomy = [row for row in fitting if row.compilation.needed_bytes <= _ROOMY * GENERATIONS[row.key.kind].hbm_limit]
    memory_row = exact[0] if exact else _nearest(key, architecture, roomy or fitting)
    if cost_row is None or memory_row is None:
        return None
    costs = scale_compilation(cost_row, key, architecture, optimizer)
    memory = exact[0].compilation if exact else scale_compilation(memory_row, key, architecture, optimizer)
    compilation = dataclasses.replace(
        memory, flops=memory.flops if exact else costs.flops, bytes_accessed=costs.bytes_accessed, costs=costs.costs
    )
    return Estimate(compilation, cost_row, False, memory_row, bool(exact))


def _nearest(key: StepKey, architecture: Architecture, rows: Sequence[CompiledStep]) -> CompiledStep | None:
    """Returns the row most similar to a step.

    Prefers rows of the same TPU generation, then of the adjacent one, then of the closest size. A different
    --rematerialize counts as farther.
    """
    wanted = math.log(written_bytes(architecture, key.batch_size))
    generations = list(GENERATIONS)

    def distance(row: CompiledStep) -> tuple[int, float]:
        size = math.log(written_bytes(row.key.build_architecture(), row.key.batch_size))
        other = _OTHER_REMATERIALIZE_DISTANCE * (row.key.rematerialize != key.rematerialize)
        return abs(generations.index(row.key.kind) - generations.index(key.kind)), abs(size - wanted) + other

    return min(rows, key=distance, default=None)


def scale_compilation(row: CompiledStep, key: StepKey, architecture: Architecture, optimizer: str) -> Compilation:
    """Returns the figures of another step of the same kind, scaled from those of a compiled one."""
    base, old = row.compilation, row.key.build_architecture()
    written = written_bytes(architecture, key.batch_size) / written_bytes(old, row.key.batch_size)
    work = written * _num_passes(key) / _num_passes(row.key)
    held = state_bytes(architecture, optimizer).total / state_bytes(old, optimizer).total
    # Without a backward pass nothing is kept, as if everything were recomputed.
    kept, old_kept = (
        activation_bytes(network, one.batch_size, one.rematerialize if one.plan_step == "train" else "all")
        for network, one in ((architecture, key), (old, row.key))
    )
    temp = int(base.temp_bytes * kept / old_kept)
    code = int(base.code_bytes * len(architecture.blocks) / len(old.blocks))
    matrix, old_matrix = (
        sum(step_flops(network).values()) * one.batch_size * _num_passes(one) / 3
        for network, one in ((architecture, key), (old, row.key))
    )
    images, old_images = (3 * one.resolution**2 * one.batch_size for one in (key, row.key))
    arguments = int((base.argument_bytes - old_images) * held) + images
    costs = {}
    for name, cost in (base.costs or {}).items():
        factor = held if name in _SCALE_WITH_WEIGHTS else work
        costs[name] = Cost(int(cost.hbm_bytes * factor), int(cost.cycles * factor))
    return Compilation(
        argument_bytes=arguments,
        output_bytes=int(base.output_bytes * held),
        alias_bytes=int(base.alias_bytes * held),
        temp_bytes=temp,
        code_bytes=code,
        # Matrix products are counted from the records; only the rest is scaled.
        flops=matrix + max(0.0, base.flops - old_matrix) * work,
        bytes_accessed=base.bytes_accessed * work,
        costs=costs,
        needed_bytes=arguments + temp + code,
    )


def _num_passes(key: StepKey) -> float:
    """Returns the work of a step in forward passes: 3 in training, 4 with --rematerialize, else 1."""
    if key.plan_step != "train":
        return 1.0
    return 3.0 if key.rematerialize == "none" else 4.0


def model_errors(rows: Iterable[CompiledStep], optimizer: str = "rmsprop") -> dict[str, list[float]]:
    """Returns the model's relative errors on compiled training steps, each predicted from others of its kind of TPU.

    `memory` lists the errors of `needed_bytes` for steps that fit by the model, `traffic` those of HBM traffic. Both
    are empty where no kind of TPU has two rows.
    """
    known = [row for row in rows if row.compilation.fits and row.key.plan_step == "train"]
    errors: dict[str, list[float]] = {"memory": [], "traffic": []}
    for row in known:
        others = [other for other in known if other.key.kind == row.key.kind and other.key != row.key]
        guess = estimate_step(row.key, row.key.build_architecture(), optimizer, others)
        if guess is None:
            continue
        if guess.compilation.needed_bytes <= GENERATIONS[row.key.kind].hbm_limit:
            errors["memory"].append(guess.compilation.needed_bytes / row.compilation.needed_bytes - 1)
        if row.has_costs:
            errors["traffic"].append(guess.compilation.hbm_bytes / row.compilation.hbm_bytes - 1)
    return errors


def largest_errors(rows: Iterable[CompiledStep]) -> dict[str, float]:
    """Returns the largest of `model_errors` by size, or 1 where there are none."""
    return {name: max((abs(error) for error in errors), default=1.0) for name, errors in model_errors(rows).items()}
