"""Changes that make a training fit which does not; each is planned before it is named. No TensorFlow."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.config.config import with_options
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS, Slice, parse_slice
from efficientnet_tpu.plan.planner import Planner
from efficientnet_tpu.plan.report import Plan

NUM_CHANGES = 3
_MAX_CORES = 64  # of a slice that is suggested


@dataclass(frozen=True)
class Change:
    """A change of flags by which a training fits: the flags, their meaning, and the changed training's plan."""

    flags: str
    meaning: str
    plan: Plan


@dataclass(frozen=True)
class _Candidate:
    """A change that may fit: a planner with other options, for a slice and a batch."""

    flags: str
    meaning: str
    planner: Planner
    tpu: Slice
    batch_size: int

    def modelled(self) -> Plan:
        """Returns the plan by the tables and the model alone."""
        tables_only = dataclasses.replace(
            self.planner, config=with_options(self.planner.config, {"compile": False}), rows=self.planner.rows
        )
        return tables_only.plan(self.tpu, self.batch_size)


def suggest_changes(planner: Planner, tpu: Slice, batch_size: int, same_machine: bool = False) -> list[Change]:
    """Returns changes by which the training fits, the cheapest first.

    Where a price is not known, those of the same kind of TPU come first, and chip-hours decide.
    With --compile, three changes at most, and each is compiled with the effort that memory needs. Nothing is returned
    that does not fit by its own figures. same_machine: only changes that keep the TPU.
    """
    changes = []
    for candidate in _candidates(planner, tpu, batch_size, same_machine):
        found = candidate.planner.plan(candidate.tpu, candidate.batch_size)
        if found.fits:
            changes.append(Change(candidate.flags, candidate.meaning, found))
        if planner.config.plan.compile and len(changes) == NUM_CHANGES:
            break
    if all(change.plan.price.per_chip_hour for change in changes):
        return sorted(changes, key=lambda change: change.plan.likely_cost.price)
    return sorted(changes, key=lambda change: (change.plan.tpu.kind != tpu.kind, change.plan.likely_cost.chip_hours))


def _candidates(planner: Planner, tpu: Slice, batch_size: int, same_machine: bool) -> Iterator[_Candidate]:
    """Yields the changes that fit by the model, the ones that change the training least first.

    Smaller images, which cost accuracy, are named where nothing else fits.
    """
    found_any = False
    for candidate in _changes_of_the_step(planner, tpu, batch_size, same_machine):
        if candidate.modelled().fits:
            found_any = True
            yield candidate
    if not found_any:
        yield from _smaller_images(planner, tpu, batch_size)


def _changes_of_the_step(planner: Planner, tpu: Slice, batch_size: int, same_machine: bool) -> Iterator[_Candidate]:
    wanted = batch_size // tpu.num_cores
    thrifty = _with(planner, {"rematerialize": "blocks"})
    if planner.config.train.rematerialize == "none":
        yield _Candidate("--rematerialize=blocks", "the same step, a third more arithmetic", thrifty, tpu, batch_size)
    if planner.config.train.gradient_accumulation_steps == 1:
        in_parts = _cheapest_parts(planner, tpu, batch_size)
        yield from in_parts
        if not in_parts and planner.config.train.rematerialize == "none":
            yield from (
                dataclasses.replace(one, flags=f"{one.flags} --rematerialize=blocks")
                for one in _cheapest_parts(thrifty, tpu, batch_size)
            )
    most = planner.largest_modeled_batch(tpu)
    if 0 < most < wanted:
        smaller = most * tpu.num_cores
        meaning = f"another training: {most:,} images a core, at their learning rate"
        yield _Candidate(f"--train_batch_size={smaller}", meaning, _with(planner, {}), tpu, smaller)
    if not same_machine:
        yield from _larger_slices(planner, tpu, batch_size)


def _cheapest_parts(planner: Planner, tpu: Slice, batch_size: int) -> list[_Candidate]:
    """Returns the fewest parts of a batch that fit for sure, in a list; else the fewest that fit by the model; else
    nothing.

    Where those are compiled, and more parts that are compiled take less time, it is these. What is modeled is too
    coarse to compare sizes of micro-batches by: it would choose small ones, which TPUs and batch norm do not like.
    """
    wanted = batch_size // tpu.num_cores
    fitting = []
    for parts in (number for number in range(2, wanted + 1) if wanted % number == 0):
        candidate = _Candidate(
            f"--gradient_accumulation_steps={parts}",
            f"the same batch; batch norm sees {wanted // parts:,} images of a core at a time",
            _with(planner, {"gradient_accumulation_steps": parts}),
            tpu,
            batch_size,
        )
        if (found := candidate.modelled()).fits:
            fitting.append((candidate, found))
    sure = [(candidate, found) for candidate, found in fitting if not found.is_near_limit] or fitting
    if sure and sure[0][1].estimate.is_memory_compiled:
        sure = [(candidate, found) for candidate, found in sure if found.estimate.is_memory_compiled]
        return [min(sure, key=lambda one: one[1].likely_cost.hours)[0]]
    return [candidate for candidate, _ in sure[:1]]


def _with(planner: Planner, options: dict[str, Any]) -> Planner:
    """Returns a planner for other options that compiles for memory alone. Both planners share their rows."""
    return dataclasses.replace(planner, config=with_options(planner.config, {"plan_effort": "memory"} | options))


def _larger_slices(planner: Planner, tpu: Slice, batch_size: int) -> Iterator[_Candidate]:
    """Yields the smallest type of one host that the same batch fits, and the smallest slice of the same kind."""
    one_host = (parse_slice(f"{kind}-{size}") for kind, row in GENERATIONS.items() for size in row.host_sizes)
    slices = (parse_slice(f"{tpu.kind}-{size}") for size in GENERATIONS[tpu.kind].sizes)
    for types, note in (
        (one_host, ""),
        ((one for one in slices if one.num_hosts > 1), "; several hosts, which are untested"),
    ):
        for candidate in types:
            is_even = batch_size % candidate.num_cores == 0 and candidate.num_cores <= _MAX_CORES
            if candidate == tpu or not is_even:
                continue
            meaning = f"{batch_size // candidate.num_cores:,} images a core{note}"
            larger = _Candidate(f"--tpu_type={candidate.name}", meaning, _with(planner, {}), candidate, batch_size)
            if larger.modelled().fits:
                yield larger
                break


def _smaller_images(planner: Planner, tpu: Slice, batch_size: int) -> Iterator[_Candidate]:
    """Yields the largest resolution, a multiple of 32 pixels, at which the training fits, if it is at least half."""
    whole = planner.architecture.resolution
    for resolution in range(whole // 32 * 32, max(32, whole // 2) - 1, -32):
        changed = dataclasses.replace(
            _with(planner, {"resolution": resolution}),
            architecture=dataclasses.replace(planner.architecture, resolution=resolution),
        )
        meaning = "another training: fewer pixels, and a lower accuracy"
        candidate = _Candidate(f"--resolution={resolution}", meaning, changed, tpu, batch_size)
        if candidate.modelled().fits:
            yield candidate
            return
