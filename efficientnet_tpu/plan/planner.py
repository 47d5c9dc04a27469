"""`main.py plan`: whether a training fits a TPU, how long its steps take at best, what the whole costs.

Answers at once, from the table of compiled steps or a model scaled from it; with --compile the step itself is compiled
by the TPU compiler first, which takes minutes and no TPU. TensorFlow starts for that only.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import Slice, parse_slice
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.compound_scaling import configured_architecture
from efficientnet_tpu.plan import estimate as plan_model
from efficientnet_tpu.plan import flops as operation_model
from efficientnet_tpu.plan import roofline, suggestions, table
from efficientnet_tpu.plan.estimate import Estimate
from efficientnet_tpu.plan.hlo_cost import Compilation, Cost
from efficientnet_tpu.plan.inference_report import inference_report
from efficientnet_tpu.plan.recipe_cost import recipe_cost
from efficientnet_tpu.plan.report import Plan, memory_label, report
from efficientnet_tpu.plan.table import CompiledStep, StepKey, describe_recipe, make_step_key
from efficientnet_tpu.training.learning_rate import make_schedule

_MOST_COMPILATIONS = 4  # of a search for the largest batch


def plan(config: Config) -> None:
    """Prints the plan for every type in --tpu_type. Raises UserError for what no TPU could be given."""
    slices = [parse_slice(name.strip()) for name in config.launch.tpu_type.split(",")]
    planner = Planner(config, configured_architecture(config.model, config.plan.num_classes), table.load_tables(config))
    if config.plan.largest_batch and config.plan.plan_step != "train":
        raise UserError(f"--largest_batch: is of training; leave out --plan_step={config.plan.plan_step}.")
    if config.plan.largest_batch:
        print("\n".join(_largest_batches(planner, slices)))
        return
    if config.plan.plan_step == "train":
        texts = [report(planner.plan(tpu, config.train.train_batch_size)) for tpu in slices]
    else:
        texts = [inference_report(planner, tpu) for tpu in slices]
    print(f"\n\n{'-' * 120}\n\n".join(texts))


@dataclass
class Planner:
    """Plans one training; `rows` grows with what is compiled."""

    config: Config
    architecture: Architecture
    rows: list[CompiledStep]

    def plan(self, tpu: Slice, batch_size: int) -> Plan:
        """Everything about `batch_size` images a step on a slice. Raises UserError where they do not divide."""
        require_even(tpu, batch_size)
        estimate = self.estimate(tpu, batch_size)
        found = self._plan(tpu, batch_size, estimate)
        if found.fits:
            return found
        return dataclasses.replace(found, changes=suggestions.changes(self, tpu, batch_size))

    def estimate(self, tpu: Slice, batch_size: int) -> Estimate:
        """The step's figures: compiled now with --compile, else from the tables, else modelled."""
        key = make_step_key(self.config, tpu, batch_size)
        if self.config.plan.compile:
            self._compile(key, tpu, batch_size)
        return self.modelled(key)

    def modelled(self, key: StepKey) -> Estimate:
        """From the tables: the row itself, or scaled from the nearest."""
        if any(row.key == key for row in self.rows):
            estimate = plan_model.estimate(key, self.architecture, self.config.train.optimizer, self.rows)
            if estimate:
                return estimate
        steps = self.config.train.gradient_accumulation_steps
        micro = dataclasses.replace(key, batch_size=max(1, key.batch_size // steps))
        estimate = plan_model.estimate(micro, self.architecture, self.config.train.optimizer, self.rows)
        if estimate is None:
            raise UserError(
                f"plan: the table has no compiled step of kind {self.config.plan.plan_step}; --compile makes the first."
            )
        return dataclasses.replace(
            estimate, compilation=_repeated(estimate.compilation, steps), is_compiled=False, is_memory_compiled=False
        )

    def largest_batch(self, tpu: Slice) -> tuple[int, Estimate]:
        """Images of a core, a multiple of 8 where that is possible, and their step. 0: not even one fits."""
        fitting = self.largest_modelled(tpu, 1.0 if self.config.plan.compile else plan_model.MARGIN)
        if not self.config.plan.compile:
            return fitting, self.modelled(make_step_key(self.config, tpu, max(1, fitting) * tpu.num_cores))
        fits, refused = 0, 0  # the most images that did, the fewest that did not
        for _ in range(_MOST_COMPILATIONS):
            if fitting in (0, fits, refused):
                break
            estimate = self.estimate(tpu, fitting * tpu.num_cores)
            if estimate.compilation.fits and estimate.compilation.needed_bytes <= tpu.generation.hbm_limit:
                fits = fitting
            else:
                refused = fitting
            fitting = self._next_to_try(tpu, fits, refused)
        return fits, self.modelled(make_step_key(self.config, tpu, max(1, fits) * tpu.num_cores))

    def _next_to_try(self, tpu: Slice, fits: int, refused: int) -> int:
        """Images of a core; one of those given where nothing is left to try."""
        if not fits:  # the model starts from what was refused, and is nearer now
            return self.largest_modelled(tpu, 1.0)
        if not refused:  # what it has no room for the compiler computes again, of which the model knows nothing
            return 2 * fits
        return fits if refused - fits <= max(8, fits // 8) else (fits + refused) // 16 * 8

    def largest_modelled(self, tpu: Slice, share: float = plan_model.MARGIN) -> int:
        """Images of a core whose step takes no more than this share of the limit, by the model."""
        limit = tpu.generation.hbm_limit * share
        ceiling = self._ceiling(tpu, limit)

        def fits(size: int) -> bool:
            key = make_step_key(self.config, tpu, size * tpu.num_cores)
            return size <= ceiling and self.modelled(key).compilation.needed_bytes <= limit

        sizes = [*range(1, 8), *range(8, 16384, 8)]
        # What is needed grows with the batch, so that the last that fits can be bisected.
        low, high = 0, len(sizes)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if fits(sizes[middle]) else (low, middle)
        compiled = [
            row.key.batch_size
            for row in self._same_steps(tpu)
            if row.compilation.fits and row.compilation.needed_bytes <= limit
        ]
        return max([sizes[low - 1] if low else 0, *compiled])

    def _ceiling(self, tpu: Slice, limit: float) -> float:
        """Images of a core that cannot be exceeded, by what the compiler has refused before."""
        refused = [
            row.key.batch_size * limit / row.compilation.needed_bytes
            for row in self._same_steps(tpu)
            if not row.compilation.fits
        ]
        return min(refused, default=float("inf"))

    def _same_steps(self, tpu: Slice) -> list[CompiledStep]:
        """Compiled ones that differ in the batch alone."""
        wanted = make_step_key(self.config, tpu, tpu.num_cores)
        return [row for row in self.rows if dataclasses.replace(row.key, batch_size=1) == wanted]

    def _plan(self, tpu: Slice, batch_size: int, estimate: Estimate) -> Plan:
        train, per_core = self.config.train, batch_size // tpu.num_cores
        compilation, state = estimate.compilation, operation_model.state_bytes(self.architecture, train.optimizer)
        flops = {name: per_core * one for name, one in operation_model.step_flops(self.architecture).items()}
        share = operation_model.mxu_share(self.architecture, tpu.generation.mxu_size)
        gradients = operation_model.gradient_bytes(self.architecture)
        time = roofline.step_time(
            tpu,
            roofline.Work(
                compilation.flops,
                sum(flops[name] for name in flops if name not in operation_model.ON_VECTOR_UNITS),
                share,
                compilation.hbm_bytes,
                gradients,
                compilation.cycles if estimate.row.key.kind == tpu.kind else 0,
            ),
        )
        recipe = with_options(self.config, {"train_batch_size": batch_size}).train
        num_steps = make_schedule(recipe, self.config.plan.num_images).total_steps
        price = self.config.plan.price_per_chip_hour
        errors = plan_model.largest_errors(self.rows)
        return Plan(
            tpu,
            self.architecture.name,
            self.architecture.resolution,
            batch_size,
            num_steps,
            estimate,
            state,
            tpu.generation.hbm_limit,
            flops,
            share,
            gradients,
            time,
            recipe_cost(tpu, time.at_best, batch_size, num_steps, price),
            recipe_cost(tpu, time.at_worst, batch_size, num_steps, price),
            price,
            errors["memory"],
            errors["traffic"],
            self.config.plan.host_images_per_second,
        )

    def _compile(self, key: StepKey, tpu: Slice, batch_size: int) -> None:
        from efficientnet_tpu.plan import compile_step

        config = with_options(self.config, {"train_batch_size": batch_size})
        row = compile_step.compiled_row(key, config, tpu, self.rows, table.user_table(config))
        self.rows.insert(0, row)


def _repeated(compilation: Compilation, times: int) -> Compilation:
    """A step of so many micro-batches, each of which costs what `compilation` does, its update aside."""
    if times == 1:
        return compilation
    once = {"optimizer and average", "all-reduce"}
    costs = {
        name: cost if name in once else Cost(cost.hbm_bytes * times, cost.cycles * times)
        for name, cost in (compilation.costs or {}).items()
    }
    return dataclasses.replace(
        compilation,
        flops=compilation.flops * times,
        bytes_accessed=compilation.bytes_accessed * times,
        costs=costs,
    )


def require_even(tpu: Slice, batch_size: int) -> None:
    """Raises UserError where a batch does not divide among the cores."""
    if batch_size % tpu.num_cores or batch_size < tpu.num_cores:
        lower = max(1, batch_size // tpu.num_cores) * tpu.num_cores
        raise UserError(
            f"--train_batch_size={batch_size}: does not divide over the {tpu.num_cores} cores of {tpu.name}. "
            f"Use {lower} or {lower + tpu.num_cores}."
        )


def _largest_batches(planner: Planner, slices: Iterable[Slice]) -> list[str]:
    """A line per TPU."""
    lines = [
        f"Largest batch of {planner.architecture.name} at {planner.architecture.resolution} x "
        f"{planner.architecture.resolution}, {describe_recipe(planner.config)}:",
        f"  {'TPU':<9}{'a core':>8}{'a step':>9}{'HBM of a core':>20}{'images/s, at worst, at best':>29}",
    ]
    for tpu in slices:
        per_core, estimate = planner.largest_batch(tpu)
        if not per_core:
            lines.append(f"  {tpu.name:<9}{0:>8}  not one image fits [modelled]")
            continue
        found = planner._plan(tpu, per_core * tpu.num_cores, estimate)
        worst = f"{found.cost_at_worst.images_per_second:,.0f}" if found.time.compiler else "unknown"
        memory = f"{estimate.compilation.needed_bytes / 2**30:.2f} of {found.limit_bytes / 2**30:.2f} GiB"
        lines.append(
            f"  {tpu.name:<9}{per_core:>8,}{found.batch_size:>9,}{memory:>20}"
            f"{worst:>18}{found.cost.images_per_second:>11,.0f}  [memory {memory_label(found)}]"
        )
    return [*lines, "Images/s: modelled, as `plan` without --largest_batch explains."]
