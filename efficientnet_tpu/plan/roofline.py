"""How long a step takes at best: what bounds it, arithmetic, memory or the links between chips. No TensorFlow."""

from dataclasses import dataclass

from efficientnet_tpu.hardware.tpu_specs import Slice


@dataclass(frozen=True)
class StepTime:
    """Seconds on one core. compute: all arithmetic at the peak; padded_compute: matrix products alone, with the idle
    part of matrix units, if that is more; memory: HBM traffic at peak bandwidth; links: the sum of gradients over the
    slice; compiler: the compiler's cycles, 0 if unknown.
    """

    compute: float
    padded_compute: float
    memory: float
    links: float
    compiler: float = 0.0

    @property
    def bound_by(self) -> str:
        return "memory" if self.memory >= self.padded_compute else "matrix units"

    @property
    def at_best(self) -> float:
        """Arithmetic and memory at their peaks, each hidden behind the other; then the sum over cores."""
        return max(self.padded_compute, self.memory) + self.links

    @property
    def at_worst(self) -> float:
        """Operations one after the other, by the compiler's cycles; public records lie below. Without, `at_best`."""
        return max(self.at_best, self.compiler + self.links)


@dataclass(frozen=True)
class Work:
    """What one core does in a step. matrix_flops: on matrix units; mxu_share: 0..1, of these that is not padding;
    gradient_bytes: what is summed over cores; cycles: the compiler's, 0 if unknown.
    """

    flops: float
    matrix_flops: float
    mxu_share: float
    hbm_bytes: float
    gradient_bytes: float
    cycles: float = 0.0


def step_time(tpu: Slice, work: Work) -> StepTime:
    """Of a step on every core of a slice."""
    generation = tpu.generation
    compute = work.flops / generation.flops_per_core
    return StepTime(
        compute,
        max(compute, work.matrix_flops / work.mxu_share / generation.flops_per_core),
        work.hbm_bytes / generation.hbm_bandwidth_per_core,
        all_reduce_seconds(tpu, work.gradient_bytes),
        work.cycles / (generation.clock_mhz * 1e6),
    )


def all_reduce_seconds(tpu: Slice, num_bytes: float) -> float:
    """Of a sum of `num_bytes` over all chips of a slice, in a ring through them all that uses one link each way.

    A bound from above where the chips form a torus, whose other links could carry a part; latencies are left out.
    """
    chips = tpu.num_chips
    if chips == 1:
        return 0.0
    both_ways = 2 * tpu.generation.link_gbps * 1e9
    return 2 * (chips - 1) / chips * num_bytes / both_ways
