"""The text of a training's plan. Every figure says what it rests on: compiled, modelled or published.

Nothing here needs TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from efficientnet_tpu.hardware.tpu_specs import Slice
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.plan.answers.prices import Price
from efficientnet_tpu.plan.estimate import Estimate
from efficientnet_tpu.plan.hlo_cost import Cost
from efficientnet_tpu.plan.roofline import StepTime, TrainingCost, Work
from efficientnet_tpu.plan.table import CompiledStep
from efficientnet_tpu.training.memory import StateBytes

_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True)
class Plan:
    """The plan for one training on one slice.

    flops_by_class: FLOP of the convolutions and the classifier, of one core in a step, by class of operation.
    lowest_cost, highest_cost: of the whole training, with steps at the lower and the upper bound of their time.
    expected_costs: likely, at least and at most, by the public records; empty where no step is compiled for this TPU.
    model_errors: the largest relative errors seen of the model's `memory` and `traffic`.
    host_images_per_second: the measured rate at which a host prepares images; 0 if not given.
    host_cpu_ms: the measured CPU time of one image; 0 if not given.
    """

    tpu: Slice
    architecture: Architecture
    batch_size: int
    num_steps: int
    estimate: Estimate
    state: StateBytes
    flops_by_class: Mapping[str, float]
    work: Work
    time: StepTime
    lowest_cost: TrainingCost
    highest_cost: TrainingCost
    expected_costs: tuple[TrainingCost, ...]
    model_errors: Mapping[str, float]
    price: Price
    host_images_per_second: float = 0.0
    host_cpu_ms: float = 0.0

    @property
    def limit_bytes(self) -> int:
        """Returns the HBM of a core that a program may use, in bytes."""
        return self.tpu.generation.hbm_limit

    @property
    def fits(self) -> bool:
        """Returns whether the step fits, as compiled or as modeled."""
        return self.estimate.compilation.fits and self.estimate.compilation.needed_bytes <= self.limit_bytes

    @property
    def likely_cost(self) -> TrainingCost:
        """Returns the cost that is expected, or the lowest where nothing is known to expect more."""
        return self.expected_costs[0] if self.expected_costs else self.lowest_cost

    @property
    def is_near_limit(self) -> bool:
        """Returns whether a modeled figure is so near the limit that the model's error could change the answer."""
        distance = abs(self.estimate.compilation.needed_bytes / self.limit_bytes - 1)
        return not self.estimate.is_memory_compiled and distance < self.model_errors["memory"]


def report(plan: Plan) -> str:
    """Returns the tables on one slice. A step that does not fit has no time."""
    blocks = [_head(plan), _memory(plan)]
    if plan.estimate.compilation.fits:
        blocks += [_arithmetic(plan), _classes(plan)]
    if plan.fits:
        blocks += [_time(plan), _whole_training(plan)]
    return "\n\n".join("\n".join(block) for block in blocks)


_RECOMPUTING = (
    "That is with all kept that the backward pass needs. The compiler may compute some of it again, which takes "
    "longer, and fit it: --compile tells."
)


def _head(plan: Plan) -> list[str]:
    tpu, row, architecture = plan.tpu, plan.estimate.cost_row, plan.architecture
    if plan.estimate.is_compiled:
        source = f"The training step is compiled by {row.compiler}."
    else:
        source = f"The training step is modelled: scaled from {_describe_step(row)}, compiled by {row.compiler}; "
        source += "--compile makes sure."
        if plan.estimate.is_memory_compiled:
            source = f"Its memory is compiled by {row.compiler}; the rest of {source[0].lower()}{source[1:]}"
        elif plan.estimate.memory_row is not row:
            source += f" Memory: from {_describe_step(plan.estimate.memory_row)}."
    verdict = "fits" if plan.fits else "does NOT fit"
    if plan.is_near_limit:
        verdict = f"{'may fit' if plan.fits else 'may not fit'} (too near the limit for a model; --compile makes sure)"
    return [
        f"{architecture.name} at {architecture.resolution} x {architecture.resolution} on {tpu.name}: {tpu.num_chips} "
        f"chips, {tpu.num_cores} cores, {tpu.num_hosts} host{'s' if tpu.num_hosts > 1 else ''}; "
        f"{plan.batch_size:,} images a step, {plan.batch_size // tpu.num_cores:,} a core: {verdict}.",
        *([] if plan.fits or plan.estimate.is_memory_compiled else [_RECOMPUTING]),
        source,
    ]


def _describe_step(row: CompiledStep) -> str:
    key = row.key
    return f"{key.model} at {key.resolution} pixels, {key.batch_size} images on a core of {key.kind}"


def _label(is_compiled: bool, error: float) -> str:
    return "compiled" if is_compiled else f"modelled, +-{error:.0%}"


def describe_memory_origin(plan: Plan) -> str:
    """Returns what the figure of memory rests on: 'compiled', or 'modelled' with the model's error."""
    if plan.estimate.is_memory_compiled and plan.estimate.memory_row.compiler_effort == "memory":
        return "compiled with little effort, +-2%"
    return _label(plan.estimate.is_memory_compiled, plan.model_errors["memory"])


def _memory(plan: Plan) -> list[str]:
    compilation, state = plan.estimate.compilation, plan.state
    label = describe_memory_origin(plan)
    needed, limit = compilation.needed_bytes / _GIB, plan.limit_bytes / _GIB
    lines = [f"HBM of a core: {needed:,.2f} GiB of the {limit:,.2f} GiB that a program may have [{label}]"]
    if not compilation.fits:
        return lines
    other = max(0, compilation.argument_bytes - state.total)
    return [
        *lines,
        f"  weights        {_mib(state.weights)}  exact",
        f"  their average  {_mib(state.average)}  exact",
        f"  slots          {_mib(state.slots)}  exact",
        f"  images, padding {_mib(other)[1:]}  {label}",
        f"  activations    {_mib(compilation.temp_bytes)}  {label}",
        f"  program        {_mib(compilation.code_bytes)}  {label}",
    ]


def _arithmetic(plan: Plan) -> list[str]:
    compilation = plan.estimate.compilation
    convolutions = sum(plan.flops_by_class.values())
    label = "compiled" if plan.estimate.is_compiled else "modelled"
    return [
        f"A core's step: {compilation.flops / 1e9:,.1f} GFLOP [{label}], {convolutions / 1e9:,.1f} of them in "
        "convolutions [counted from the network's records]",
        f"  {compilation.hbm_bytes / 1e9:,.2f} GB to and from HBM, {compilation.bytes_accessed / 1e9:,.2f} GB with "
        f"on-chip copies [{_label(plan.estimate.is_compiled, plan.model_errors['traffic'])}]",
        f"  matrix units of {plan.tpu.generation.mxu_size} x {plan.tpu.generation.mxu_size}: "
        f"{1 - plan.work.mxu_share:.0%} of their work is padding [modelled from the numbers of channels]",
    ]


def _classes(plan: Plan) -> list[str]:
    costs = plan.estimate.compilation.costs or {}
    total_bytes = max(1, plan.estimate.compilation.hbm_bytes)
    total_cycles = max(1, plan.estimate.compilation.cycles)
    label = "compiled" if plan.estimate.is_compiled else "modelled"
    lines = [
        f"  {'class of operation':<24}{'GFLOP':>9}{'HBM MB':>10}{'of traffic':>12}{'of cycles':>11}",
        f"  {'':<24}{'counted':>9}{label:>10}{label:>12}{label:>11}",
    ]
    for name, cost in sorted(costs.items(), key=lambda item: -item[1].hbm_bytes):
        if cost == Cost() and name not in plan.flops_by_class:
            continue
        flops = plan.flops_by_class.get(name)
        lines.append(
            f"  {name:<24}{f'{flops / 1e9:,.1f}' if flops else '':>9}{cost.hbm_bytes / 1e6:>10,.0f}"
            f"{cost.hbm_bytes / total_bytes:>12.0%}{cost.cycles / total_cycles:>11.0%}"
        )
    return [*lines, "  A fused operation counts where its last part belongs: swish is in batch norm's, mostly."]


def _time(plan: Plan) -> list[str]:
    time, generation = plan.time, plan.tpu.generation
    label = "compiled" if plan.estimate.is_compiled else "modelled"
    lines = [
        f"Time of a step: {between(time.lower_bound * 1e3, time.upper_bound * 1e3)} ms [modelled; no TPU has timed it]",
        f"  at best: arithmetic and memory at their peaks, the larger hides the other; bound by {time.bound_by}",
        f"    arithmetic     {_ms(time.compute):>10}  {generation.peak_tflops:g} TFLOP/s a chip; "
        f"{_ms(time.padded_compute)} with the padding of matrix units",
        f"    memory         {_ms(time.memory):>10}  {generation.hbm_gbps:g} GB/s a chip",
        f"    sum over cores {_ms(time.links):>10}  of {plan.work.gradient_bytes / 1e6:,.1f} MB of gradients, in a "
        f"ring of {plan.tpu.num_chips} chips",
    ]
    if time.compiler:
        lines += [
            "  at worst: every operation for itself, one after the other, as long as the compiler reckons with",
            f"    operations     {_ms(time.compiler):>10}  its cycles [{label}] at {generation.clock_mhz:,.0f} MHz"
            + (", assumed to be v5p's" if plan.tpu.kind == "v6e" else ""),
        ]
    else:
        lines.append("  at worst: unknown, for lack of a compiled step on this kind of TPU")
    return lines


def _whole_training(plan: Plan) -> list[str]:
    lowest, highest = plan.lowest_cost, plan.highest_cost
    rate = between(highest.images_per_second_per_host, lowest.images_per_second_per_host)
    return [
        f"The whole recipe, {plan.num_steps:,} steps, evaluations not counted [modelled, from the time of a step]:",
        f"  {between(highest.images_per_second, lowest.images_per_second)} images/s, "
        f"{between(lowest.hours, highest.hours)} hours, {between(lowest.chip_hours, highest.chip_hours)} chip-hours",
        f"  every host must prepare {rate} images/s",
    ]


def between(low: float, high: float) -> str:
    """Formats a range, with a decimal below 20."""
    digits = 0 if low >= 20 else 1
    return f"{low:,.{digits}f}" if low == high else f"{low:,.{digits}f} to {high:,.{digits}f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / _MIB:>10,.1f} MiB"
