"""Changes that make a training fit which does not; each is tried before it is named. Nothing here needs TensorFlow."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.config.config import with_options
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS, Slice, parse_slice
from efficientnet_tpu.plan.estimate import MEMORY_MARGIN
from efficientnet_tpu.plan.planner import Planner
from efficientnet_tpu.plan.table import make_step_key

NUM_CHANGES = 3
_MAX_CORES = 64  # of a slice that is suggested


@dataclass(frozen=True)
class Change:
    """A change of flags: the flags, their meaning, and the changed training."""

    flags: str
    meaning: str
    planner: Planner
    tpu: Slice
    batch_size: int


def suggest_changes(planner: Planner, tpu: Slice, batch_size: int) -> list[str]:
    """Returns lines on up to three changes by which the training fits, each with the memory it then needs.

    With --compile each change is compiled with the effort that memory needs. Changes that turn out not to fit are
    listed too.
    """
    lines, num_fitting = [], 0
    for change in _candidates(planner, tpu, batch_size):
        limit = change.tpu.generation.hbm_limit
        estimate = change.planner.estimate(change.tpu, change.batch_size)
        fits = estimate.compilation.fits and estimate.compilation.needed_bytes <= limit
        sizes = f"{estimate.compilation.needed_bytes / 2**30:.2f} of {limit / 2**30:.2f} GiB"
        origin = "compiled" if estimate.is_memory_compiled else "modelled"
        verdict = "" if fits else "does NOT fit either: "
        lines.append(f"{change.flags}: {change.meaning}  [{verdict}{sizes}, {origin}]")
        num_fitting += fits
        if num_fitting == NUM_CHANGES:
            break
    return lines


def _candidates(planner: Planner, tpu: Slice, batch_size: int) -> Iterator[Change]:
    """Yields the changes that fit by the model, the ones that change the training least first."""
    if planner.config.train.rematerialize == "none":
        changed = _with(planner, {"rematerialize": "blocks"})
        if _fits(changed, tpu, batch_size):
            yield Change("--rematerialize=blocks", "the same step, a third more arithmetic", changed, tpu, batch_size)
    most = planner.largest_modeled_batch(tpu)
    wanted = batch_size // tpu.num_cores
    parts = next((n for n in range(2, wanted + 1) if wanted % n == 0 and wanted // n <= most), 0)
    if parts and planner.config.train.gradient_accumulation_steps == 1:
        yield Change(
            f"--gradient_accumulation_steps={parts}",
            f"the same batch, {wanted // parts} images of it at a time",
            _with(planner, {"gradient_accumulation_steps": parts}),
            tpu,
            batch_size,
        )
    if most:
        smaller = min(most, wanted) * tpu.num_cores
        meaning = f"{smaller // tpu.num_cores} images a core"
        yield Change(f"--train_batch_size={smaller}", meaning, _with(planner, {}), tpu, smaller)
    yield from _larger_slice(planner, tpu, batch_size)
    yield from _smaller_images(planner, tpu, batch_size)


def _with(planner: Planner, options: dict[str, Any]) -> Planner:
    """Returns a planner for other options that compiles for memory alone. Both planners share their rows."""
    return dataclasses.replace(planner, config=with_options(planner.config, {"plan_effort": "memory"} | options))


def _fits(planner: Planner, tpu: Slice, batch_size: int) -> bool:
    key = make_step_key(planner.config, tpu, batch_size)
    needed = planner.estimate_from_tables(key).compilation.needed_bytes
    return needed <= tpu.generation.hbm_limit * MEMORY_MARGIN


def _larger_slice(planner: Planner, tpu: Slice, batch_size: int) -> Iterator[Change]:
    """Yields the smallest slice that the same batch fits: one of the same kind if there is any, else of another."""
    others = (kind for kind in GENERATIONS if kind != tpu.kind)
    for kind in (tpu.kind, *others):
        for size in GENERATIONS[kind].sizes:
            candidate = parse_slice(f"{kind}-{size}")
            is_even = batch_size % candidate.num_cores == 0 and candidate.num_cores <= _MAX_CORES
            if is_even and _fits(planner, candidate, batch_size):
                meaning = f"{batch_size // candidate.num_cores} images a core"
                yield Change(f"--tpu_type={candidate.name}", meaning, _with(planner, {}), candidate, batch_size)
                return


def _smaller_images(planner: Planner, tpu: Slice, batch_size: int) -> Iterator[Change]:
    """Yields the largest resolution, a multiple of 32 pixels, at which the training fits."""
    for resolution in range(planner.architecture.resolution // 32 * 32, 31, -32):
        changed = dataclasses.replace(
            _with(planner, {"resolution": resolution}),
            architecture=dataclasses.replace(planner.architecture, resolution=resolution),
        )
        if _fits(changed, tpu, batch_size):
            yield Change(f"--resolution={resolution}", "fewer pixels, and a lower accuracy", changed, tpu, batch_size)
            return
