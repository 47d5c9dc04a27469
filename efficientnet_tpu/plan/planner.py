"""Plans for one training: the figures of its step on any TPU, and the largest batch that fits."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from efficientnet_tpu.config.config import OPTIONS, Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import Slice
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.plan.answers.calibration import expected_time
from efficientnet_tpu.plan.answers.prices import price_of
from efficientnet_tpu.plan.estimate import MEMORY_MARGIN, Estimate, estimate_step, largest_errors
from efficientnet_tpu.plan.flops import ON_VECTOR_UNITS, mxu_share, step_flops
from efficientnet_tpu.plan.hlo_cost import Compilation, Cost
from efficientnet_tpu.plan.report import Plan
from efficientnet_tpu.plan.roofline import Work, step_time, training_cost
from efficientnet_tpu.plan.table import CompiledStep, StepKey, make_step_key, user_table, without_accumulation
from efficientnet_tpu.training.learning_rate import make_schedule
from efficientnet_tpu.training.memory import gradient_bytes, state_bytes

_MAX_COMPILATIONS = 4  # in a search for the largest batch; one takes minutes
_IMAGENET_SHARDS = 1024  # of its training images, as the reference has them
_ONCE_A_STEP = {"optimizer and average", "all-reduce"}  # however many micro-batches a step has


@dataclass
class Planner:
    """A planner for one training. `rows` grows with every step that it compiles.

    errors: the model's errors by the number of rows that they are of; planners that share their rows share them, as
    they take longer than all else.
    """

    config: Config
    architecture: Architecture
    rows: list[CompiledStep]
    errors: dict[int, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def plan(self, tpu: Slice, batch_size: int) -> Plan:
        """Returns the plan for `batch_size` images a step on a slice. Raises UserError if they do not divide evenly."""
        require_even(tpu, batch_size)
        return self.plan_from(self.estimate(tpu, batch_size), tpu, batch_size)

    def estimate(self, tpu: Slice, batch_size: int) -> Estimate:
        """Returns the step's figures: compiled now with --compile, else from the tables, else modeled."""
        key = make_step_key(self.config, tpu, batch_size)
        if self.config.plan.compile:
            from efficientnet_tpu.plan import compile_step

            config = with_options(self.config, {"train_batch_size": batch_size})
            self.rows.insert(0, compile_step.compiled_row(key, config, tpu, self.rows, user_table(config)))
        return self.estimate_from_tables(key)

    def estimate_from_tables(self, key: StepKey) -> Estimate:
        """Returns the figures of the row with this key, or figures scaled from the nearest row.

        A step of several micro-batches that is in no table is modeled by one micro-batch, repeated; its memory counts
        as compiled where that of the micro-batch is.
        """
        optimizer = self.config.train.optimizer
        if any(row.key == key for row in self.rows):
            estimate = estimate_step(key, self.architecture, optimizer, self.rows)
            if estimate:
                return estimate
        num_parts = self.config.train.gradient_accumulation_steps
        micro_batch = dataclasses.replace(
            key, batch_size=max(1, key.batch_size // num_parts), recipe=without_accumulation(key.recipe)
        )
        estimate = estimate_step(micro_batch, self.architecture, optimizer, self.rows)
        if estimate is None:
            raise UserError(
                f"plan: the table has no compiled step of kind {self.config.plan.plan_step}; --compile makes the first."
            )
        if num_parts == 1:
            return estimate
        return dataclasses.replace(
            estimate,
            compilation=_repeat(
                estimate.compilation,
                num_parts,
                waiting_bytes=3 * key.resolution**2 * (key.batch_size - micro_batch.batch_size),
                summed_bytes=gradient_bytes(self.architecture),
            ),
            is_compiled=False,
        )

    def plan_from(self, estimate: Estimate, tpu: Slice, batch_size: int) -> Plan:
        """Returns the plan for `batch_size` images a step on a slice, given the step's figures."""
        compilation, optimizer = estimate.compilation, self.config.train.optimizer
        per_core = batch_size // tpu.num_cores
        flops_by_class = {name: per_core * flops for name, flops in step_flops(self.architecture).items()}
        work = Work(
            flops=compilation.flops,
            matrix_flops=sum(flops for name, flops in flops_by_class.items() if name not in ON_VECTOR_UNITS),
            mxu_share=mxu_share(self.architecture, tpu.generation.mxu_size),
            hbm_bytes=compilation.hbm_bytes,
            gradient_bytes=gradient_bytes(self.architecture),
            # Cycles of another kind of TPU say nothing about this one.
            cycles=compilation.cycles if estimate.cost_row.key.kind == tpu.kind else 0,
        )
        time = step_time(tpu, work)
        train_config = with_options(self.config, {"train_batch_size": batch_size}).train
        num_steps = make_schedule(train_config, training_images(self.config)).total_steps
        price = price_of(self.config.plan.price_per_chip_hour, tpu.kind, self.config.hardware.tpu_zone)
        expected = expected_time(time)
        seconds = (expected.likely, expected.shortest, expected.longest) if expected else ()
        expected_costs = tuple(training_cost(tpu, one, batch_size, num_steps, price.per_chip_hour) for one in seconds)
        return Plan(
            tpu=tpu,
            architecture=self.architecture,
            batch_size=batch_size,
            num_steps=num_steps,
            estimate=estimate,
            state=state_bytes(self.architecture, optimizer),
            flops_by_class=flops_by_class,
            work=work,
            time=time,
            lowest_cost=training_cost(tpu, time.lower_bound, batch_size, num_steps, price.per_chip_hour),
            highest_cost=training_cost(tpu, time.upper_bound, batch_size, num_steps, price.per_chip_hour),
            expected_costs=expected_costs,
            model_errors=self.model_errors(),
            price=price,
            host_images_per_second=self.config.plan.host_images_per_second,
            host_cpu_ms=self.config.plan.host_cpu_ms,
        )

    def model_errors(self) -> Mapping[str, float]:
        """Returns the largest errors of the model on the rows that there are now."""
        if len(self.rows) not in self.errors:
            self.errors[len(self.rows)] = largest_errors(self.rows)
        return self.errors[len(self.rows)]

    def largest_batch(self, tpu: Slice) -> tuple[int, Estimate]:
        """Returns the most images of a core that fit, and their step's figures.

        The number is a multiple of 8 where that is possible, and 0 where not even one image fits. With --compile the
        search compiles a few batches, starting where the model points.
        """
        if not self.config.plan.compile:
            most = self.largest_modeled_batch(tpu, MEMORY_MARGIN)
            return most, self.estimate_from_tables(make_step_key(self.config, tpu, max(1, most) * tpu.num_cores))
        candidate = self.largest_modeled_batch(tpu, 1.0)
        largest_fitting, smallest_refused = 0, 0
        for _ in range(_MAX_COMPILATIONS):
            if candidate in (0, largest_fitting, smallest_refused):
                break
            compilation = self.estimate(tpu, candidate * tpu.num_cores).compilation
            if compilation.fits and compilation.needed_bytes <= tpu.generation.hbm_limit:
                largest_fitting = candidate
            else:
                smallest_refused = candidate
            candidate = self._next_candidate(tpu, largest_fitting, smallest_refused)
        key = make_step_key(self.config, tpu, max(1, largest_fitting) * tpu.num_cores)
        return largest_fitting, self.estimate_from_tables(key)

    def _next_candidate(self, tpu: Slice, largest_fitting: int, smallest_refused: int) -> int:
        """Returns the images of a core to compile next, or `largest_fitting` where the search has ended."""
        if not largest_fitting:  # the model now scales from the refused step, which is nearer
            return self.largest_modeled_batch(tpu, 1.0)
        if not smallest_refused:  # the compiler recomputes what does not fit, which the model does not know
            return 2 * largest_fitting
        if smallest_refused - largest_fitting <= max(8, largest_fitting // 8):
            return largest_fitting
        return (largest_fitting + smallest_refused) // 16 * 8

    def largest_modeled_batch(self, tpu: Slice, share: float = MEMORY_MARGIN) -> int:
        """Returns the most images of a core whose step needs at most `share` (0..1) of the memory, by the model."""
        limit = tpu.generation.hbm_limit * share
        wanted = make_step_key(self.config, tpu, tpu.num_cores)
        same_steps = [row for row in self.rows if dataclasses.replace(row.key, batch_size=1) == wanted]
        # What the compiler has refused bounds the batch from above.
        ceiling = min(
            (
                row.key.batch_size * limit / row.compilation.needed_bytes
                for row in same_steps
                if not row.compilation.fits
            ),
            default=float("inf"),
        )

        def fits(size: int) -> bool:
            key = make_step_key(self.config, tpu, size * tpu.num_cores)
            return size <= ceiling and self.estimate_from_tables(key).compilation.needed_bytes <= limit

        sizes = [*range(1, 8), *range(8, 16384, 8)]
        # Memory grows with the batch, so bisection finds the last size that fits.
        low, high = 0, len(sizes)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if fits(sizes[middle]) else (low, middle)
        compiled = [
            row.key.batch_size for row in same_steps if row.compilation.fits and row.compilation.needed_bytes <= limit
        ]
        return max([sizes[low - 1] if low else 0, *compiled])


def _repeat(compilation: Compilation, times: int, waiting_bytes: int, summed_bytes: int) -> Compilation:
    """Returns the figures of a step of `times` micro-batches, given those of a step of one.

    Such a step holds besides the images that wait, `waiting_bytes`, and the sums of gradients, `summed_bytes`.
    """
    costs = {
        name: cost if name in _ONCE_A_STEP else Cost(cost.hbm_bytes * times, cost.cycles * times)
        for name, cost in (compilation.costs or {}).items()
    }
    return dataclasses.replace(
        compilation,
        flops=compilation.flops * times,
        bytes_accessed=compilation.bytes_accessed * times,
        costs=costs,
        argument_bytes=compilation.argument_bytes + waiting_bytes,
        temp_bytes=compilation.temp_bytes + summed_bytes,
        needed_bytes=compilation.needed_bytes + waiting_bytes + summed_bytes,
    )


def training_images(config: Config) -> int:
    """Returns the images that a training sees: --num_images, or ImageNet's without the shards of a minival."""
    num_images = config.plan.num_images
    if num_images != OPTIONS["num_images"].default or not config.data.minival_percent:
        return num_images
    held_out = max(1, int(config.data.minival_percent / 100 * _IMAGENET_SHARDS))
    return round(num_images * (1 - held_out / _IMAGENET_SHARDS))


def require_even(tpu: Slice, batch_size: int) -> None:
    """Raises UserError if a batch does not divide evenly among the cores of a slice."""
    if batch_size % tpu.num_cores or batch_size < tpu.num_cores:
        lower = max(1, batch_size // tpu.num_cores) * tpu.num_cores
        raise UserError(
            f"--train_batch_size={batch_size}: does not divide over the {tpu.num_cores} cores of {tpu.name}. "
            f"Use {lower} or {lower + tpu.num_cores}."
        )
