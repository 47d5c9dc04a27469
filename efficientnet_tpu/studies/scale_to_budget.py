"""`main.py scale`: finds the largest network within a budget by compound scaling of a base (equation 3).

Multiply-adds and parameters are arithmetic and need no TensorFlow, and neither does a TPU's memory, which `plan`
models. Latency is measured on this machine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from efficientnet_tpu.config.config import OPTIONS, Config, with_options
from efficientnet_tpu.config.studies import StudyConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.installation import program
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Variant
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.complexity import Complexity, count
from efficientnet_tpu.models.compound_scaling import MAX_PHI, Coefficients, compound_variant
from efficientnet_tpu.models.configured import configured_architecture, configured_variant, scaled_options
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.plan.estimate import MEMORY_MARGIN
from efficientnet_tpu.plan.planner import Planner, require_even
from efficientnet_tpu.plan.table import load_tables, make_step_key

STEPS_PER_PHI = 100  # phi is found to a hundredth
MAX_MEASUREMENTS = 8  # of latency
CLOSE_ENOUGH = 0.97  # a latency of this part of the budget ends the search


@dataclass(frozen=True)
class ScaledNetwork:
    """The base scaled by a phi."""

    phi: float
    variant: Variant
    cost: Complexity


@dataclass(frozen=True)
class Base:
    """A network to scale, and the coefficients of its scaling."""

    name: str
    variant: Variant
    coefficients: Coefficients

    def scale(self, phi: float) -> ScaledNetwork:
        """Returns the base scaled by phi, with coefficients of four digits: those that are printed are counted."""
        variant = compound_variant(phi, self.variant, self.coefficients)
        variant = replace(
            variant,
            width_coefficient=round(variant.width_coefficient, 4),
            depth_coefficient=round(variant.depth_coefficient, 4),
        )
        return ScaledNetwork(phi, variant, count(scale(self.name, variant, NUM_IMAGENET_CLASSES)))

    def allows(self, phi: float) -> bool:
        """Returns whether the flags of section Model accept the network."""
        options = scaled_options(compound_variant(phi, self.variant, self.coefficients))
        return all(value <= (OPTIONS[name].maximum or math.inf) for name, value in options.items())


def scale_to_budget(config: Config) -> None:
    """Prints the network, its cost, the nearest published network, and the flags that train it."""
    study = config.study
    budgets = {
        flag: getattr(study, flag)
        for flag in ("budget_flops", "budget_params", "budget_latency_ms")
        if getattr(study, flag) is not None
    }
    if config.launch.tpu_type:
        budgets["tpu_type"] = config.launch.tpu_type
    if len(budgets) != 1:
        raise UserError(
            "scale: give one of --budget_flops=1.5e9, --budget_params=10e6, --budget_latency_ms=50 or --tpu_type=v5e-8."
        )
    (flag, budget) = budgets.popitem()
    base = _read_base(config)
    if flag == "tpu_type":
        found, spent = _fit_tpu(base, config)
    elif flag == "budget_latency_ms":
        found, seconds = _measure_latencies(base, budget, config)
        spent = f"{1e3 * seconds:.1f} ms"
    else:
        found = largest_within(base, budget, COUNTED_COSTS[flag], flag)
        spent = f"{COUNTED_COSTS[flag](found) / budget:.1%}"
    value = budget if isinstance(budget, str) else f"{budget:g}"
    print(_report(base, found, f"{spent} of --{flag}={value}"))


COUNTED_COSTS: dict[str, Callable[[ScaledNetwork], float]] = {
    "budget_flops": lambda scaled: scaled.cost.multiply_adds,
    "budget_params": lambda scaled: scaled.cost.trainable_params,
}


def largest_within(
    base: Base, budget: float, measure_cost: Callable[[ScaledNetwork], float], flag: str
) -> ScaledNetwork:
    """Returns the network of the largest phi, in hundredths from -20 to 20, that costs at most `budget`.

    Raises UserError if even the smallest costs more, or the budget exceeds the cost of the largest.
    """

    def fits(step: int) -> bool:
        phi = step / STEPS_PER_PHI
        return base.allows(phi) and measure_cost(base.scale(phi)) <= budget

    # No coefficient falls as phi grows, so no cost does, and bisection finds the limit.
    low, high = round(-MAX_PHI * STEPS_PER_PHI), round(MAX_PHI * STEPS_PER_PHI) + 1
    if not fits(low):
        least = measure_cost(base.scale(-MAX_PHI))
        raise UserError(
            f"--{flag}={budget:g}: the smallest {base.name} that scaling gives costs {least:,}. Raise the budget, or "
            "start from a smaller --model."
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if high > MAX_PHI * STEPS_PER_PHI or not base.allows(high / STEPS_PER_PHI):
        raise UserError(
            f"--{flag}={budget:g}: more than {base.name} can be scaled to: at phi = {low / STEPS_PER_PHI:g} it costs "
            f"{measure_cost(base.scale(low / STEPS_PER_PHI)):,}. Lower the budget, or start from a larger --model."
        )
    return base.scale(low / STEPS_PER_PHI)


def fit_latency(
    base: Base, budget: float, measure: Callable[[ScaledNetwork], float]
) -> tuple[ScaledNetwork, float] | None:
    """Returns the largest of a few networks that take at most `budget` seconds, and its seconds, or None.

    measure: returns the seconds of a network. Each guess takes latency to grow like multiply-adds from the last
        measurement.
    """
    best: tuple[ScaledNetwork, float] | None = None
    tried: dict[float, float] = {}
    guess = base.scale(0.0)
    for _ in range(MAX_MEASUREMENTS):
        seconds = tried[guess.phi] = measure(guess)
        if seconds <= budget and (best is None or guess.phi > best[0].phi):
            best = guess, seconds
        if CLOSE_ENOUGH * budget <= seconds <= budget:
            break
        target = guess.cost.multiply_adds * budget / seconds
        # Only a network within the budget counts, so a guess from above aims a little below it.
        target *= 1.0 if seconds <= budget else CLOSE_ENOUGH
        try:
            guess = largest_within(base, target, COUNTED_COSTS["budget_flops"], "budget_latency_ms")
        except UserError:
            break
        if guess.phi in tried:
            break
    return best


def _measure_latencies(base: Base, budget_ms: float, config: Config) -> tuple[ScaledNetwork, float]:
    from efficientnet_tpu.hardware import tensorflow_startup

    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.hardware import distribution
    from efficientnet_tpu.paper import latency

    devices = distribution.describe(distribution.connect(config.hardware))

    def measure(scaled: ScaledNetwork) -> float:
        architecture = scale(base.name, scaled.variant, NUM_IMAGENET_CLASSES)
        found = latency.measure_architecture(architecture, latency.RUNS)
        print(
            f"phi {scaled.phi:g}: {1e3 * found.median:.1f} ms, the median of {found.runs} runs; "
            f"{scaled.cost.multiply_adds / 1e9:.3g} G multiply-adds",
            flush=True,
        )
        return found.median

    print(f"one image at a time on {devices}, {latency.processor()}", flush=True)
    found = fit_latency(base, budget_ms / 1e3, measure)
    if found is None:
        raise UserError(
            f"--budget_latency_ms={budget_ms:g}: no network tried is that fast on this machine. Raise the budget, or "
            "start from a smaller --model."
        )
    return found


def _fit_tpu(base: Base, config: Config) -> tuple[ScaledNetwork, str]:
    """Returns the largest network whose training step fits the TPU's memory, and a text on its memory.

    The memory is that of --train_batch_size images, as `plan` models or compiles it.
    """
    tpu, batch_size = parse_slice(config.launch.tpu_type), config.train.batch_size
    require_even(tpu, batch_size)
    rows = load_tables(config)

    def needed(scaled: ScaledNetwork) -> float:
        network = with_options(config, scaled_options(scaled.variant))
        architecture = scale(base.name, scaled.variant, config.plan.num_classes)
        key = make_step_key(network, tpu, batch_size)
        return Planner(network, architecture, rows).estimate_from_tables(key).compilation.needed_bytes

    limit = MEMORY_MARGIN * tpu.generation.hbm_limit
    found = largest_within(base, limit, needed, "tpu_type")
    # The margin keeps some of the memory free for the model's error.
    return found, f"{needed(found) / 2**30:.2f} GiB a core, modelled, {limit / 2**30:.2f} being 97%"


def _read_base(config: Config) -> Base:
    study: StudyConfig = config.study
    coefficients = Coefficients(study.alpha, study.beta, study.gamma, study.resolution_step)
    if coefficients.growth < 1.01:
        raise UserError(
            f"--alpha={study.alpha:g} --beta={study.beta:g} --gamma={study.gamma:g}: nothing grows with phi. Give one "
            "of them a value above 1."
        )
    name = configured_architecture(config.model, NUM_IMAGENET_CLASSES).name
    return Base(name, configured_variant(config.model), coefficients)


def nearest_published(variant: Variant, cost: Complexity) -> str:
    """Returns the published model with the nearest multiply-adds, of the same kind if there is one."""
    published = {name: model for name, model in MODELS.items() if name != "efficientnet-nano"}

    def kind(model: Variant) -> tuple[object, ...]:
        return {stage.block for stage in model.baseline.stages}, model.activation, model.se_ratio

    alike = {name: model for name, model in published.items() if kind(model) == kind(variant)} or published

    def distance(name: str) -> float:
        return abs(math.log(_cost(published[name]).multiply_adds / cost.multiply_adds))

    return min(alike, key=distance)


def _cost(variant: Variant) -> Complexity:
    return count(scale("", variant, NUM_IMAGENET_CLASSES))


def _report(base: Base, found: ScaledNetwork, spent: str) -> str:
    variant, coefficients = found.variant, base.coefficients
    neighbor = nearest_published(variant, found.cost)
    published = MODELS[neighbor]
    factors = (
        f"depth x {coefficients.alpha**found.phi:.3f}, width x {coefficients.beta**found.phi:.3f}, "
        f"resolution x {coefficients.gamma**found.phi:.3f}"
    )
    lines = [
        f"{base.name} at phi = {found.phi:g}: {factors}",
        f"  alpha {coefficients.alpha:g}, beta {coefficients.beta:g}, gamma {coefficients.gamma:g}: "
        f"alpha x beta^2 x gamma^2 = {coefficients.growth:.3f}",
        f"  {_costs(found.cost)}: {spent}",
        f"  nearest published: {neighbor}, {_costs(_cost(published))} at {published.resolution} pixels",
        "",
        *_stages(variant),
        "",
    ]
    is_named = base.name in MODELS or base.name.startswith("efficientnet-phi")
    lines.append(
        f"train it: {program()} {f'--model={base.name}' if is_named else '--stage_table=FILE'} "
        f"--depth_coefficient={variant.depth_coefficient} --width_coefficient={variant.width_coefficient} "
        f"--resolution={variant.resolution} --dropout_rate={variant.dropout_rate} --data_dir=... --model_dir=..."
    )
    return "\n".join(lines)


def _costs(cost: Complexity) -> str:
    return f"{cost.multiply_adds / 1e9:.3f} G multiply-adds, {cost.trainable_params / 1e6:.2f} M parameters"


def _stages(variant: Variant) -> list[str]:
    """Returns the rounded network, a line for each stage."""
    architecture = scale("", variant, NUM_IMAGENET_CLASSES)
    lines = [f"  {'stage':<6}{'block':<12}{'kernel':>6}{'strides':>8}{'filters':>8}{'layers':>7}"]
    lines.append(
        f"  {'stem':<6}{'conv':<12}{architecture.stem_kernel_size:>6}{2:>8}{architecture.stem_filters:>8}{1:>7}"
    )
    for number in range(1, architecture.blocks[-1].stage + 1):
        blocks = [block for block in architecture.blocks if block.stage == number]
        first = blocks[0]
        lines.append(
            f"  {number:<6}{first.kind:<12}{first.kernel_size:>6}{first.strides:>8}{first.filters:>8}{len(blocks):>7}"
        )
    if architecture.head_filters:
        lines.append(f"  {'head':<6}{'conv':<12}{1:>6}{1:>8}{architecture.head_filters:>8}{1:>7}")
    return [f"  images of {architecture.resolution} x {architecture.resolution} pixels", *lines]
