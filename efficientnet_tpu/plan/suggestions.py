"""What would make a training fit that does not: changes, each tried before it is named. No TensorFlow."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS, Slice, parse_slice
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.plan.estimate import MARGIN, Estimate
from efficientnet_tpu.plan.table import CompiledStep, make_step_key

NUM_CHANGES = 3
_MOST_CORES = 64


class Planner(Protocol):
    """What is needed of `tpu_plan.Planner`."""

    config: Config
    architecture: Architecture
    rows: list[CompiledStep]

    def estimate(self, tpu: Slice, batch_size: int) -> Estimate: ...
    def modelled(self, key: Any) -> Estimate: ...
    def largest_modelled(self, tpu: Slice) -> int: ...


@dataclass(frozen=True)
class Change:
    """Flags, what they mean, and the training with them."""

    flags: str
    meaning: str
    planner: Any
    tpu: Slice
    batch_size: int


def changes(planner: Planner, tpu: Slice, batch_size: int) -> list[str]:
    """Three changes by which it would fit, or as many as there are, each with what it needs then.

    With --compile each is compiled, with the effort that memory needs; what turns out not to fit is said, too.
    """
    lines, fitting = [], 0
    for change in _candidates(planner, tpu, batch_size):
        limit = change.tpu.generation.hbm_limit
        estimate = change.planner.estimate(change.tpu, change.batch_size)
        fits = estimate.compilation.fits and estimate.compilation.needed_bytes <= limit
        sizes = f"{estimate.compilation.needed_bytes / 2**30:.2f} of {limit / 2**30:.2f} GiB"
        how = "compiled" if estimate.is_memory_compiled else "modelled"
        verdict = "" if fits else "does NOT fit either: "
        lines.append(f"{change.flags}: {change.meaning}  [{verdict}{sizes}, {how}]")
        fitting += fits
        if fitting == NUM_CHANGES:
            break
    return lines


def _candidates(planner: Planner, tpu: Slice, batch_size: int) -> Iterator[Change]:
    """Those that fit by the model, the ones that change the training least first."""
    if planner.config.train.rematerialize == "none":
        thrifty = _with(planner, {"rematerialize": "blocks"})
        if _fits(thrifty, tpu, batch_size):
            yield Change("--rematerialize=blocks", "the same step, a third more arithmetic", thrifty, tpu, batch_size)
    per_core = planner.largest_modelled(tpu)
    wanted = batch_size // tpu.num_cores
    parts = next((n for n in range(2, wanted + 1) if wanted % n == 0 and wanted // n <= per_core), 0)
    if parts and planner.config.train.gradient_accumulation_steps == 1:
        yield Change(
            f"--gradient_accumulation_steps={parts}",
            f"the same batch, {wanted // parts} images of it at a time",
            _with(planner, {"gradient_accumulation_steps": parts}),
            tpu,
            batch_size,
        )
    if per_core:
        smaller = min(per_core, wanted) * tpu.num_cores
        yield Change(f"--train_batch_size={smaller}", f"{smaller // tpu.num_cores} images a core",
                     _with(planner, {}), tpu, smaller)  # fmt: skip
    yield from _larger(planner, tpu, batch_size)
    yield from _smaller_images(planner, tpu, batch_size)


def _with(planner: Any, options: dict[str, Any]) -> Any:
    """The planner of a training with other options; what it compiles is the memory alone. Rows are shared."""
    return dataclasses.replace(planner, config=with_options(planner.config, {"plan_effort": "memory"} | options))


def _fits(planner: Planner, tpu: Slice, batch_size: int) -> bool:
    needed = planner.modelled(make_step_key(planner.config, tpu, batch_size)).compilation.needed_bytes
    return needed <= tpu.generation.hbm_limit * MARGIN


def _larger(planner: Planner, tpu: Slice, batch_size: int) -> Iterator[Change]:
    """The smallest TPU on which the same batch fits: of the same kind, else of any."""
    same = (kind for kind in GENERATIONS if kind == tpu.kind)
    others = (kind for kind in GENERATIONS if kind != tpu.kind)
    for kind in (*same, *others):
        for size in GENERATIONS[kind].sizes:
            candidate = parse_slice(f"{kind}-{size}")
            even = batch_size % candidate.num_cores == 0 and candidate.num_cores <= _MOST_CORES
            if even and _fits(planner, candidate, batch_size):
                share = batch_size // candidate.num_cores
                yield Change(
                    f"--tpu_type={candidate.name}", f"{share} images a core", _with(planner, {}), candidate, batch_size
                )
                return


def _smaller_images(planner: Planner, tpu: Slice, batch_size: int) -> Iterator[Change]:
    for resolution in range(planner.architecture.resolution // 32 * 32, 31, -32):
        smaller: Any = dataclasses.replace(
            _with(planner, {"resolution": resolution}),
            architecture=dataclasses.replace(planner.architecture, resolution=resolution),
        )
        if _fits(smaller, tpu, batch_size):
            yield Change(f"--resolution={resolution}", "fewer pixels, and a lower accuracy", smaller, tpu, batch_size)
            return
