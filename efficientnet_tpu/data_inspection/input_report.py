"""The report of `main.py benchmark input`: the table of stages, the accelerators they feed, advice."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from efficientnet_tpu.data_inspection.accelerator_throughput import Speed
from efficientnet_tpu.display.terminal import duration
from efficientnet_tpu.installation import program
from efficientnet_tpu.models.architecture import Architecture

_WIDTH = 120
READ, DECODE, RESIZE, AUGMENT, BATCH = "read", "decode and crop", "resize and flip", "augment", "batch"


@dataclass(frozen=True)
class StageTime:
    """A stage, measured together with all before it. cpu_ms: CPU time of an image in all threads."""

    name: str
    images_per_second: float
    cpu_ms: float
    first_batch_seconds: float


@dataclass(frozen=True)
class Machine:
    """The machine of a measurement.

    num_cores: that this process may use; load_average: before it started; peak_memory, memory_before: bytes, at most
    and before the first image.
    """

    num_cores: int
    load_average: float
    peak_memory: int
    memory_before: int


def report(
    stages: Sequence[StageTime],
    machine: Machine,
    architecture: Architecture,
    speeds: Mapping[str, Speed],
    num_images: int,
    batch_size: int,
) -> str:
    """Returns the whole report, many lines. stages: in the order of the pipeline; the last is all of it. speeds: of the
    accelerators, by name.
    """
    lines = [*stage_table(stages), "", *_totals(stages, machine, num_images, batch_size)]
    lines += ["", *feeds_table(stages, architecture, speeds), "", *textwrap.wrap(advice(stages, architecture), _WIDTH)]
    if is_loaded(machine):
        lines.append(load_warning(machine))
    return "\n".join(lines)


def stage_costs(stages: Sequence[StageTime]) -> list[float]:
    """Returns the CPU ms that each stage adds to those before it. If noise made more work cheaper, it adds nothing."""
    so_far = list(accumulate((stage.cpu_ms for stage in stages), max))
    return [so_far[0], *(after - before for before, after in pairwise(so_far))]


def stage_table(stages: Sequence[StageTime]) -> list[str]:
    """Returns a row for each stage, and one for all."""
    costs = stage_costs(stages)
    total = sum(costs)
    lines = [f"{'stage':<18}{'CPU ms/image':>13}{'share':>8}{'images/s up to here':>22}"]
    for stage, cost in zip(stages, costs, strict=True):
        lines.append(f"{stage.name:<18}{cost:>13.3f}{cost / total:>8.0%}{stage.images_per_second:>22,.0f}")
    return [*lines, f"{'all':<18}{total:>13.3f}{1:>8.0%}{stages[-1].images_per_second:>22,.0f}"]


def feeds_table(stages: Sequence[StageTime], architecture: Architecture, speeds: Mapping[str, Speed]) -> list[str]:
    """Returns how many accelerators the pipeline keeps busy on this machine, and how many cores one needs."""
    available, cost = stages[-1].images_per_second, sum(stage_costs(stages))
    lines = [
        f"What this feeds when training {architecture.name} at {architecture.resolution} x {architecture.resolution}:",
        f"{'chip':<6}{'trains on images/s':>22}{'this machine feeds':>32}{'CPU cores to feed a chip':>27}",
    ]
    for name, speed in speeds.items():
        origin = "published" if speed.is_published else "estimate "
        chips = available / speed.images_per_second
        feeds = f"{_brief(chips)} chips" + (f" = {_brief(chips * speed.num_cores)} cores" if speed.num_cores else "")
        needed = _brief(speed.images_per_second * cost / 1000)
        lines.append(f"{name:<6}{f'{_brief(speed.images_per_second)} {origin}':>22}{feeds:>32}{needed:>27}")
    return [
        *lines,
        "estimate: of TPUs what `plan` expects, of the A100 scaled from a published figure; good to a factor of two.",
        "A v3-8, like a v2-8, v4-8 and v5p-8, is 4 chips of 2 cores; a v5e-8 and a v6e-8 is 8 chips of 1.",
    ]


def advice(stages: Sequence[StageTime], architecture: Architecture) -> str:
    """Returns which stage dominates and what helps."""
    by_name = {stage.name: stage for stage in stages}
    costs = dict(zip(by_name, stage_costs(stages), strict=True))
    slowest = max(costs, key=costs.__getitem__)
    if by_name[READ].images_per_second < 1.5 * stages[-1].images_per_second:
        slowest = READ  # it may wait, for a disk or a network, without costing CPU time
    size = architecture.resolution
    return {
        READ: f"Reading is the limit. Single files are read faster as shards, which `{program()} make-tfrecords` "
        "writes; a local disk is faster than a network.",
        DECODE: "Decoding takes most. It grows with the size of the files: copies of the images with a shorter side of "
        f"about {2 * size} pixels, twice the model's, decode faster than larger ones.",
        RESIZE: f"Resizing takes most. It grows with the area of --resolution, {size} x {size} here.",
        AUGMENT: "Augmentation takes most. Without it (--augment=none) this machine would prepare about "
        f"{_brief(by_name[RESIZE].images_per_second)} images/s; randaugment also grows with --randaug_num_layers.",
        BATCH: "Copying into batches takes most, as it should not: perhaps other programs take the memory's bandwidth.",
    }[slowest] + " More hosts help in any case: each prepares its share of the images."


def is_loaded(machine: Machine) -> bool:
    """Returns whether other programs leave less than half of the machine."""
    return machine.load_average > machine.num_cores / 2


def load_warning(machine: Machine) -> str:
    """Returns the consequences of the load for the figures."""
    return (
        f"warning: the load average was {machine.load_average:.1f} on {machine.num_cores} cores before this started: "
        "other programs run here.\nWithout them images/s would be more; CPU ms, and the cores that a chip needs, would "
        "change less."
    )


def _totals(stages: Sequence[StageTime], machine: Machine, num_images: int, batch_size: int) -> list[str]:
    last, of_a_core = stages[-1], 1000 / sum(stage_costs(stages))
    num_busy = last.images_per_second * last.cpu_ms / 1000
    return [
        f"{last.images_per_second:,.0f} images/s, measured here with {num_busy:.1f} of {machine.num_cores} cores at "
        f"work; by its CPU time a core does {of_a_core:,.0f}, all of them {machine.num_cores * of_a_core:,.0f}",
        f"an epoch of {num_images:,} images takes {duration(num_images / last.images_per_second)} at the speed "
        f"measured; the first batch, of {batch_size:,}, came after {last.first_batch_seconds:.1f} s",
        f"memory: {machine.peak_memory / 1e9:.1f} GB at most, {machine.memory_before / 1e9:.1f} GB of it before the "
        f"first image; load average before the start: {machine.load_average:.1f}",
    ]


def _brief(number: float) -> str:
    """Formats to two digits: '3,800', '12', '0.26'."""
    places = 1 - math.floor(math.log10(number))
    return f"{round(number, places):,.{max(places, 0)}f}"
