"""The batch of a run: not more images than there are, and not more than memory holds.

What a training takes is estimated before the network is built, and compared with what there is: a process that takes
more is killed by the system without a word.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.train import DEFAULT_BATCH_SIZE
from efficientnet_tpu.data.split import ImageData
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import distribution, local_tpu
from efficientnet_tpu.hardware.gpu_memory import gpu_memory
from efficientnet_tpu.hardware.host_memory import HostMemory, host_memory
from efficientnet_tpu.hardware.placement import is_tpu
from efficientnet_tpu.hardware.tpu_specs import Slice
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan.answers.fitting_step import require_fitting_step, slice_of
from efficientnet_tpu.run import run_record
from efficientnet_tpu.training import fine_tuning
from efficientnet_tpu.training.memory import MemoryModel, TrainingMemory


def with_even_batch(strategy: tf.distribute.Strategy, config: Config) -> Config:
    """Returns the config with a number for --train_batch_size where it was left out: the largest power of two, times
    what devices and micro-batches must divide it by, that is not above DEFAULT_BATCH_SIZE.
    """
    if config.train.train_batch_size is not None:
        return config
    return with_options(config, {"train_batch_size": _even(_unit(strategy, config), DEFAULT_BATCH_SIZE)})


def with_filled_batch(strategy: tf.distribute.Strategy, config: Config, num_images: int) -> tuple[Config, str]:
    """Returns the config with a batch that `num_images` training images fill, and a line that says so.

    A larger one would take every image several times in a step, and call one step several epochs. Taken instead is the
    largest power of two, times what the devices and micro-batches must divide it by, that is not above `num_images`.
    A run that began with the larger batch keeps it. Raises UserError where there are too few images for any.
    """
    stored, typed = stored_batch_size(config), config.train.train_batch_size
    if stored and typed in (None, stored):
        return with_options(config, {"train_batch_size": stored}), ""
    config = with_even_batch(strategy, config)
    size = config.train.batch_size
    if size <= num_images:
        return config, ""
    unit = _unit(strategy, config)
    found = f"--train_batch_size={size}: is more than the {num_images:,} training images of {config.data.source}"
    if num_images < unit:
        raise UserError(
            f"{found}, which are too few for {unit} parts of a batch (devices times --gradient_accumulation_steps). "
            "Add images, or take fewer devices."
        )
    fitting = _even(unit, num_images)
    return (
        with_options(config, {"train_batch_size": fitting}),
        f"{found}: batches of {fitting} are taken, at their learning rate",
    )


def stored_batch_size(config: Config) -> int | None:
    """Returns the batch size of the run in model_dir; None where there is none."""
    model_dir = config.run.model_dir
    return run_record.load(model_dir).config.train.train_batch_size if run_record.has_run(model_dir) else None


def _unit(strategy: tf.distribute.Strategy, config: Config) -> int:
    """Returns the parts of a batch: devices times micro-batches."""
    return strategy.num_replicas_in_sync * config.train.gradient_accumulation_steps


def _even(unit: int, most: int) -> int:
    """Returns the largest power of two times `unit` that is at most `most`, or `unit`."""
    return unit << max(0, (most // unit).bit_length() - 1)


# How much more than estimated a training may take: estimates were up to 9% too low (docs/plan.md).
_AT_MOST = 1.1
_UNKNOWN_CACHE = 2**30  # bytes of a cache where the system does not say what memory there is


@dataclass(frozen=True)
class Limits:
    """The memory that there is: of the host, and bytes of the GPU that has the least. None: not known."""

    host: HostMemory | None
    device: int | None = None

    def hold(self, memory: TrainingMemory) -> bool:
        """Returns whether a training fits, as far as the limits are known."""
        return not self.exceeded_by(memory)

    def exceeded_by(self, memory: TrainingMemory) -> str:
        """Returns what a training would need and what there is, "" where it fits."""
        device, host = _AT_MOST * memory.device, _AT_MOST * memory.host
        if self.device is not None and device > self.device:
            return f"up to {_gb(device)} on a GPU, which has {_gb(self.device)}"
        if self.host is not None and host > self.host.num_bytes:
            return f"up to {_gb(host)}, and {_gb(self.host.num_bytes)} {self.host.limited_by}"
        return ""


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB"


def memory_model(strategy: tf.distribute.Strategy, config: Config, data: ImageData) -> MemoryModel:
    """Returns what the memory of a run depends on. Several hosts have as many devices each."""
    architecture = configured_architecture(config.model, len(data.label_names))
    evaluated = max(split.num_images for split in (data.validation, data.minival) if split)
    policy = distribution.precision_policy(config.hardware, strategy)
    return MemoryModel(
        architecture,
        distribution.fitting_batch_size(config.eval.eval_batch_size, evaluated, strategy),
        strategy.num_replicas_in_sync,
        strategy.num_replicas_in_sync // distribution.num_hosts(strategy),
        frozenset(fine_tuning.frozen_parts(config.train.freeze, architecture)),
        activation_bytes=2 if policy == "mixed_bfloat16" else 4,
        buffered_bytes=data.train.buffered_bytes(),
        on_gpu=bool(tf.config.list_physical_devices("GPU")),
    )


def limits() -> Limits:
    """Returns the memory that there is now."""
    return Limits(host_memory(), gpu_memory() if tf.config.list_physical_devices("GPU") else None)


def memory_for_cache(strategy: tf.distribute.Strategy, config: Config, data: ImageData) -> int:
    """Returns the bytes that --cache=memory may take: half of what a training leaves of the host's memory."""
    host = host_memory()
    if host is None:
        return _UNKNOWN_CACHE
    training = 0.0 if is_tpu(strategy) else _AT_MOST * memory_model(strategy, config, data).estimate(config.train).host
    return max(0, int(host.num_bytes - training) // 2)


def with_batch_that_memory_holds(
    strategy: tf.distribute.Strategy, config: Config, data: ImageData, asked: Config
) -> tuple[Config, list[str]]:
    """Returns the config with batches that fit into the memory there is, and lines on what was changed.

    config: with a number for --train_batch_size; asked: as the user gave it. On TPUs the planner's table says what
    fits, and nothing is changed. Several hosts take the chief's batches. Raises UserError as `fitted` does.
    """
    if not config.hardware.memory_check:
        return config, []
    may_change = asked.train.train_batch_size is None
    has_begun = stored_batch_size(config) is not None
    if is_tpu(strategy):
        here = local_tpu.find()
        tpu = slice_of(here.kind, strategy.num_replicas_in_sync) if here else None
        return config, on_tpu(config, tpu, len(data.label_names), has_begun) if tpu else []
    config, notes = fitted(config, memory_model(strategy, config, data), limits(), may_change, has_begun)
    sizes = {
        "train_batch_size": distribution.from_chief(strategy, config.train.batch_size),
        "eval_batch_size": distribution.from_chief(strategy, config.eval.eval_batch_size),
    }
    return with_options(config, sizes), notes


def on_tpu(config: Config, tpu: Slice, num_classes: int, has_begun: bool) -> list[str]:
    """Returns lines on a training that may not fit a TPU. Raises UserError as `require_fitting_step` does, but
    for a run that `has_begun`, and so has fitted: the planner was wrong about it.
    """
    if has_begun:
        return []
    return [*filter(None, [require_fitting_step(config, tpu, num_classes)])]


def fitted(
    config: Config, model: MemoryModel, there_is: Limits, may_change: bool, has_begun: bool
) -> tuple[Config, list[str]]:
    """Returns the config with batches that fit, and lines on what was changed.

    A smaller batch of evaluation changes no result and is taken. One of training is taken where `may_change`; else
    UserError is raised, which says what would fit. A run that `has_begun` keeps its batch, and a line says what it
    needs.
    """
    unit = model.num_replicas * config.train.gradient_accumulation_steps
    size = config.train.batch_size
    config, model, notes = _with_fitting_evaluation(config, model, there_is, unit)

    def holds(batch_size: int, **options: Any) -> bool:
        changed = dataclasses.replace(config.train, train_batch_size=batch_size, **options)
        return there_is.hold(model.estimate(changed))

    exceeded = there_is.exceeded_by(model.estimate(config.train))
    if not exceeded:
        return config, notes
    if has_begun:
        return config, [*notes, f"warning: --train_batch_size={size}, the run's own: training needs {exceeded}"]
    fitting = next(filter(holds, _smaller(size, unit)), 0)
    if fitting and may_change:
        note = (
            f"--train_batch_size=auto: a step of {size} images would need {exceeded}; batches of {fitting} are taken, "
            "at their learning rate"
        )
        return with_options(config, {"train_batch_size": fitting}), [*notes, note]
    advice = [f"--train_batch_size={fitting}"] if fitting else []
    advice += _with_the_same_batch(config, model.num_replicas, holds)
    words = f"Give {', or '.join(advice)}" if advice else "Give a smaller --model or --resolution"
    raise UserError(
        f"--train_batch_size={size}: training needs {exceeded}. {words}, which fits by this estimate; "
        "--nomemory_check trains all the same."
    )


def _with_the_same_batch(config: Config, num_replicas: int, holds: Callable[..., bool]) -> list[str]:
    """Returns the flags by which a batch of the same size fits. holds: says it of a batch size and further options."""
    size = config.train.batch_size
    share = size // num_replicas
    steps = (number for number in range(config.train.gradient_accumulation_steps + 1, share + 1) if share % number == 0)
    parts = next((number for number in steps if holds(size, gradient_accumulation_steps=number)), 0)
    advice = [f"--gradient_accumulation_steps={parts} with the same batch"] if parts else []
    if config.train.rematerialize == "none" and holds(size, rematerialize="blocks"):
        advice.append("--rematerialize=blocks with the same batch")
    return advice


# Of what a training was estimated to take that has run out of memory: a change is to take clearly less.
_CLEARLY_LESS = 0.8


def changes_for_memory(strategy: tf.distribute.Strategy, config: Config, data: ImageData) -> str:
    """Returns the flags by which a training that has run out of memory would fit, "" where none is known.

    What it was estimated to take was too little, or not all was free: a change is named that takes clearly less by the
    same estimate. A run keeps its batch, so that a smaller one is for a new --model_dir.
    """
    return memory_changes(config, memory_model(strategy, config, data), limits())


def memory_changes(config: Config, model: MemoryModel, there_is: Limits) -> str:
    """Returns what `changes_for_memory` does. model: of the training that has failed."""
    failed = model.estimate(config.train)

    def is_less(memory: TrainingMemory) -> bool:
        taken, before = (memory.device, failed.device) if failed.device else (memory.host, failed.host)
        return taken <= _CLEARLY_LESS * before and there_is.hold(memory)

    def holds(batch_size: int, **options: Any) -> bool:
        return is_less(model.estimate(dataclasses.replace(config.train, train_batch_size=batch_size, **options)))

    advice = _with_the_same_batch(config, model.num_replicas, holds)
    narrow = dataclasses.replace(model, activation_bytes=2)
    if model.on_gpu and model.activation_bytes > 2 and is_less(narrow.estimate(config.train)):
        advice.append("--precision=bfloat16 with the same batch")
    unit = model.num_replicas * config.train.gradient_accumulation_steps
    if fitting := next(filter(holds, _smaller(config.train.batch_size, unit)), 0):
        advice.append(f"--train_batch_size={fitting} and a new --model_dir")
    return ", or ".join(advice)


def _with_fitting_evaluation(
    config: Config, model: MemoryModel, there_is: Limits, unit: int
) -> tuple[Config, MemoryModel, list[str]]:
    """Returns config and model with a batch of evaluation that fits beside training with the smallest batch, `unit`,
    and a line where that is another one. Both are as given where none does: the evaluation is not the reason then.
    """
    smallest = dataclasses.replace(config.train, train_batch_size=unit)
    exceeded = there_is.exceeded_by(model.estimate(smallest))
    sizes = _smaller(model.eval_batch_size, model.num_replicas) if exceeded else iter(())
    smaller = (dataclasses.replace(model, eval_batch_size=size) for size in sizes)
    found = next((one for one in smaller if there_is.hold(one.estimate(smallest))), None)
    if found is None:
        return config, model, []
    note = (
        f"--eval_batch_size={model.eval_batch_size}: evaluation would need {exceeded}; batches of "
        f"{found.eval_batch_size} are evaluated, with the same result"
    )
    return with_options(config, {"eval_batch_size": found.eval_batch_size}), found, [note]


def _smaller(size: int, unit: int) -> Iterator[int]:
    """Yields the powers of two times `unit` below `size`, the largest first."""
    smaller = _even(unit, size)
    while smaller >= unit:
        if smaller < size:
            yield smaller
        smaller //= 2  # ends below the unit
