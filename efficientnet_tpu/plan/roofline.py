"""The time of a step and the cost of a training, from arithmetic, memory traffic and the links between chips.

Nothing here needs TensorFlow.
"""

from dataclasses import dataclass

from efficientnet_tpu.hardware.tpu_specs import Slice


@dataclass(frozen=True)
class Work:
    """The work of one core in a step.

    flops: all of its arithmetic.
    matrix_flops: the part on matrix units.
    mxu_share: the part of the matrix units' work that is not padding, 0..1.
    hbm_bytes: bytes read from HBM and written to it.
    gradient_bytes: bytes that are summed over the cores.
    cycles: the compiler's estimate, 0 if unknown.
    """

    flops: float
    matrix_flops: float
    mxu_share: float
    hbm_bytes: float
    gradient_bytes: float
    cycles: float = 0.0


@dataclass(frozen=True)
class StepTime:
    """The seconds that each part of a step takes on one core.

    compute: all arithmetic at the peak rate.
    padded_compute: matrix products at the peak rate with the idle part of matrix units, where that takes longer.
    memory: HBM traffic at peak bandwidth.
    links: the sum of gradients over the slice.
    compiler: the compiler's cycles, 0 if unknown.
    """

    compute: float
    padded_compute: float
    memory: float
    links: float
    compiler: float = 0.0

    @property
    def bound_by(self) -> str:
        """Returns the part that limits the lower bound."""
        return "memory" if self.memory >= self.padded_compute else "matrix units"

    @property
    def lower_bound(self) -> float:
        """Returns the seconds with arithmetic and memory at their peaks, overlapped, followed by the sum over cores."""
        return max(self.padded_compute, self.memory) + self.links

    @property
    def upper_bound(self) -> float:
        """Returns the seconds with operations one after the other, by the compiler's cycles.

        Published records lie below it. Where the cycles are unknown, it is `lower_bound`.
        """
        return max(self.lower_bound, self.compiler + self.links)


def step_time(tpu: Slice, work: Work) -> StepTime:
    """Returns the time of a step that does `work` on every core of a slice."""
    generation = tpu.generation
    compute = work.flops / generation.flops_per_core
    return StepTime(
        compute=compute,
        padded_compute=max(compute, work.matrix_flops / work.mxu_share / generation.flops_per_core),
        memory=work.hbm_bytes / generation.hbm_bandwidth_per_core,
        links=all_reduce_seconds(tpu, work.gradient_bytes),
        compiler=work.cycles / (generation.clock_mhz * 1e6),
    )


def all_reduce_seconds(tpu: Slice, num_bytes: float) -> float:
    """Returns the seconds of a sum of `num_bytes` over all chips, in a ring through them that uses one link each way.

    This is an upper bound where the chips form a torus, whose other links could carry a part. It leaves out latency.
    """
    chips = tpu.num_chips
    if chips == 1:
        return 0.0
    both_ways = 2 * tpu.generation.link_gbps * 1e9
    # Every chip sends and receives (chips - 1) / chips of the data twice: to reduce, then to gather.
    return 2 * (chips - 1) / chips * num_bytes / both_ways


@dataclass(frozen=True)
class TrainingCost:
    """The cost of a training's steps, without evaluations, checkpoints, compilation and waiting for data.

    price: in the currency of the price per chip-hour; 0 where that was not given.
    """

    images_per_second: float
    images_per_second_per_host: float
    hours: float
    chip_hours: float
    price: float


def training_cost(
    tpu: Slice, step_seconds: float, batch_size: int, num_steps: int, price_per_chip_hour: float
) -> TrainingCost:
    """Returns the cost of `num_steps` steps of `batch_size` images on the whole slice."""
    images_per_second = batch_size / step_seconds
    hours = num_steps * step_seconds / 3600
    chip_hours = hours * tpu.num_chips
    return TrainingCost(
        images_per_second=images_per_second,
        images_per_second_per_host=images_per_second / tpu.num_hosts,
        hours=hours,
        chip_hours=chip_hours,
        price=chip_hours * price_per_chip_hour,
    )
