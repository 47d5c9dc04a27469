"""The evaluation of a model on the images of a split, each of them exactly once."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data import class_matching
from efficientnet_tpu.data.cache import cache_place
from efficientnet_tpu.data.cache.cache_place import IN_MEMORY
from efficientnet_tpu.data.cache.open_cache import CacheRequest, with_caches
from efficientnet_tpu.data.input_clock import InputClock
from efficientnet_tpu.data.input_pipeline import EvalImage, eval_batches, explained_errors, first_unreadable
from efficientnet_tpu.data.preprocessing import eval_image, make_preparation
from efficientnet_tpu.data.relabelled_split import with_classes
from efficientnet_tpu.data.split import HostShard, ImageData, Split
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run import checkpoint, run_record
from efficientnet_tpu.run.chosen_checkpoint import choose_checkpoint
from efficientnet_tpu.run.confidence_interval import with_interval
from efficientnet_tpu.run.measured_images import open_measured_images
from efficientnet_tpu.run.reports.log_entries import TOP_5_CLASSES
from efficientnet_tpu.run.reports.measurement import describe_measurement
from efficientnet_tpu.texts.known_errors import explained_out_of_memory
from efficientnet_tpu.training import ema
from efficientnet_tpu.training.confusion_matrix import ConfusionMatrix, make_confusion


@dataclass(frozen=True)
class EvaluatedRun:
    """A model, the images it was measured on and the results of `Evaluator`.

    images: what they are, as "validation images". label_names: of the run. checkpoint: "best" or "last". data: all
    images of the set, under the classes of the run; is_own: the run was trained on that set. measured: what was
    measured, in words.
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    architecture: Architecture
    split: Split
    images: str
    label_names: tuple[str, ...]
    checkpoint: str
    step: int
    results: dict[str, float]
    data: ImageData
    is_own: bool
    measured: str


# (strategy, model, architecture, images, configuration) -> the results of `Evaluator`
Measure = Callable[[tf.distribute.Strategy, keras.Model, Architecture, Split, Config], dict[str, float]]


def evaluate_run(config: Config) -> dict[str, float]:
    """Evaluates the averaged weights of a run's checkpoint on the images of --eval_split: `main.py evaluate`.

    Returns the results of `Evaluator`.
    """
    strategy = distribution.connect(config.hardware)
    with distribution.explained_loss_of_host(strategy):
        return measure_run(strategy, config).results


def measure_run(strategy: tf.distribute.Strategy, config: Config, measure: Measure | None = None) -> EvaluatedRun:
    """Restores the run in model_dir, measures it and prints the results. measure: by another function."""
    distribution.per_replica_batch_size(config.eval.eval_batch_size, strategy, "eval_batch_size")
    distribution.require_same_run(strategy, config)
    record = run_record.load(config.run.model_dir)
    run_record.require_same_weights(record.config, config)
    images = open_measured_images(record, config)
    labels = class_matching.require_all(
        config.data.source, images.data.label_names, f"--model_dir={config.run.model_dir}", record.label_names
    )
    data = with_classes(images.data, record.label_names, labels)
    split = images.with_classes(record.label_names, labels).split
    architecture = configured_architecture(config.model, len(record.label_names))
    images.data.require_pixels(architecture.resolution, config.data.source)
    split, cache_notes = _with_cache(split, architecture, config, record.config.hardware.cache)
    with strategy.scope(), distribution.precision(distribution.precision_policy(config.hardware, strategy)):
        model = build_model(architecture)
    chosen = choose_checkpoint(record.config, config.eval.checkpoint)
    step = checkpoint.restore_average(model, config.run.model_dir, chosen.which)
    if config.eval.eval_classes == "present":
        leave_out_classes(model, labels)
    if distribution.is_chief(strategy):
        run_record.note_other_images(record, images.data.fingerprint)
        head = f"{architecture.name} at step {step} ({chosen.which} checkpoint), {distribution.describe(strategy)}"
        classes_note = describe_classes(config, len(labels), len(record.label_names))
        notes = (images.note, *cache_notes, classes_note, chosen.note_on(images.own_splits), head)
        print("\n".join(filter(None, notes)), flush=True)
    started = time.monotonic()
    if measure:
        results = measure(strategy, model, architecture, split, config)
    else:
        results = Evaluator(strategy, {"": model}, architecture, split, config)()
    policy = distribution.precision_policy(config.hardware, strategy)
    measurement = describe_measurement(config, architecture, images.name, images.data.fingerprint, policy)
    measured = measurement.describe(results["num_images"])
    if distribution.is_chief(strategy):
        print(f"measured on {measured}")
        summary = f"{summary_with_intervals(results, architecture.num_classes)} of {images.total:,} images"
        print(f"{images.name}: {summary}  ({time.monotonic() - started:.0f} s)")
    return EvaluatedRun(
        strategy,
        model,
        architecture,
        split,
        images.words,
        record.label_names,
        chosen.which,
        step,
        results,
        data,
        bool(images.own_splits),
        measured,
    )


def _with_cache(split: Split, architecture: Architecture, config: Config, of_run: str) -> tuple[Split, list[str]]:
    """Returns the images with what a directory of --cache keeps of them, and lines about it.

    A single pass takes nothing from a cache in memory. of_run: the value of the run, which counts where its directory
    is still there.
    """
    place = config.hardware.cache
    if place in ("", IN_MEMORY) or (place == of_run and not cache_place.is_ours(place)):
        return split, []
    preparation = make_preparation(config.data, architecture.resolution, architecture.interpolation)
    request = CacheRequest(place, preparation, None, config.data.source)
    cached, notes = with_caches({config.eval.eval_split: split}, request)
    return cached[config.eval.eval_split], notes


def leave_out_classes(model: keras.Model, labels: Sequence[int]) -> None:
    """Makes a model never predict classes other than `labels`: their probability is zero, whatever it sees."""
    bias = model.get_layer("classifier").bias
    others = np.ones(bias.shape, bool)
    others[list(labels)] = False
    # Not minus infinity, of which TensorFlow cannot tell whether a class is among the top 5.
    bias.assign(np.where(others, np.float32(-1e30), bias.numpy()))


def describe_classes(config: Config, num_present: int, num_classes: int) -> str:
    """Returns a line where the images have only some of the run's classes, "" where they have all."""
    if num_present == num_classes:
        return ""
    found = f"the images have {num_present:,} of the {num_classes:,} classes of the run: measured over"
    if config.eval.eval_classes == "present":
        return f"{found} those {num_present:,}, the others are left out"
    return f"{found} all {num_classes:,}; --eval_classes=present leaves the others out"


def summary_with_intervals(results: Mapping[str, float], num_classes: int) -> str:
    """Returns 'top-1 88.78% (88.15 to 89.38)  top-5 99.63% (99.49 to 99.73)  loss 0.3786  10,000', of few classes
    without top-5.
    """
    num_images = results["num_images"]
    which = (1, 5) if num_classes >= TOP_5_CLASSES else (1,)
    accuracies = [f"top-{k} {with_interval(results[f'top_{k}_accuracy'], num_images)}" for k in which]
    return "  ".join([*accuracies, f"loss {results['loss']:.4f}", f"{num_images:,.0f}"])


def evaluation_image(config: DataConfig, architecture: Architecture, reduced: bool = False) -> EvalImage:
    """Returns the function that prepares an image of an evaluation: encoded, scalar string -> uint8 [size, size, 3].

    reduced: see `Preparation`.
    """
    preparation = make_preparation(config, architecture.resolution, architecture.interpolation, reduced)
    return functools.partial(eval_image, preparation=preparation)


class Evaluator:
    """A function that measures models, with the weights they have when it is called, on all images of a split."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        models: Mapping[str, keras.Model],
        architecture: Architecture,
        split: Split,
        config: Config,
    ) -> None:
        """models: prefix of the names of its results -> model, all measured in one pass over the images."""
        self._strategy = strategy
        self._models = models
        self._image_size = architecture.resolution
        self._split = split
        self._source = config.data.source
        self._prepare = evaluation_image(config.data, architecture, split.is_reduced)
        self._batch_size = distribution.fitting_batch_size(config.eval.eval_batch_size, split.num_images, strategy)
        # The shares of the hosts differ by at most one image; the largest share sets the number of steps for all.
        self._num_steps = -(-split.num_images // self._batch_size)
        self._metrics = {prefix: make_metrics(strategy, architecture.num_classes) for prefix in models}
        # Counts [label, prediction] of the first model, where a picture of them can be read.
        self._confusion = make_confusion(strategy, architecture.num_classes)
        self._clock, self._timeout = InputClock(), config.data.input_timeout
        self._eval_loop = make_eval_loop(strategy, make_eval_step(models, self._metrics, self._confusion), self._clock)

    def __call__(self, on_progress: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Returns loss (cross-entropy, nats), top_1_accuracy and top_5_accuracy (0..1) of each model, and num_images.

        on_progress: is called every few seconds; it may end the evaluation by raising.
        """
        for metric in itertools.chain.from_iterable(metrics.values() for metrics in self._metrics.values()):
            metric.reset_state()
        if self._confusion:
            self._confusion.reset_state()
        for model in self._models.values():
            ema.synchronize(model)
        half = max(1, self._batch_size // 2)
        with (
            explained_out_of_memory(lambda: f"--eval_batch_size={half}, with the same results"),
            explained_errors(self._source, lambda: first_unreadable(self._split, self._prepare)),
            self._clock.limited(self._source, self._timeout),
        ):
            batches = iter(self._strategy.distribute_datasets_from_function(self._make_dataset))
            for num_steps in portions(self._num_steps, self._strategy):
                self._eval_loop(batches, tf.constant(num_steps))
                on_progress()
        return {
            f"{prefix}{name}": float(metric.result())
            for prefix, metrics in self._metrics.items()
            for name, metric in metrics.items()
            if not (prefix and name == "num_images")
        }

    @property
    def confusion(self) -> np.ndarray | None:
        """Counts of the last evaluation, float32 [label, prediction]; None for many classes."""
        return self._confusion.result().numpy() if self._confusion else None

    def _make_dataset(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        shard = HostShard(context.input_pipeline_id, context.num_input_pipelines)
        batch_size = context.get_per_replica_batch_size(self._batch_size)
        num_batches = self._num_steps * (context.num_replicas_in_sync // context.num_input_pipelines)
        return eval_batches(self._split, self._prepare, self._image_size, batch_size, num_batches, shard)


def make_eval_step(
    models: Mapping[str, keras.Model],
    metrics: Mapping[str, Mapping[str, keras.metrics.Metric]],
    confusion: ConfusionMatrix | None = None,
) -> Callable[..., None]:
    """Returns the function that adds a batch to the metrics of every model, in one replica; to `confusion` the first
    model's.

    Its arguments: images uint8 [batch, size, size, 3]; labels int32 [batch]; weights float32 [batch], 0 for an image
    that only fills the batch, else 1.
    """

    @tf.autograph.experimental.do_not_convert
    def eval_step(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> None:
        for prefix, model in models.items():
            logits = model(images, training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            metrics[prefix]["loss"].update_state(losses, weights)
            metrics[prefix]["top_1_accuracy"].update_state(labels, logits, weights)
            metrics[prefix]["top_5_accuracy"].update_state(labels, logits, weights)
            metrics[prefix]["num_images"].update_state(weights)
            if confusion and prefix == next(iter(models)):
                confusion.update_state(labels, logits, weights)

    return eval_step


def make_eval_loop(
    strategy: tf.distribute.Strategy, eval_step: Callable[..., None], clock: InputClock
) -> Callable[..., None]:
    """Returns the compiled function of (iterator, number of steps, scalar int32) that runs the steps.

    clock: measures its waits for batches.
    """

    @tf.function
    def eval_loop(iterator: tf.data.Iterator, num_steps: tf.Tensor) -> None:
        for _ in tf.range(num_steps):
            strategy.run(eval_step, args=clock.next(iterator)[0])

    return eval_loop


def portions(num_steps: int, strategy: tf.distribute.Strategy, seconds: float = 5.0) -> Iterator[int]:
    """Yields parts of `num_steps`, doubled in size until one takes about `seconds`; they are the same on all hosts."""
    portion = 1
    while num_steps:
        started = time.monotonic()
        steps = distribution.from_chief(strategy, min(portion, num_steps))
        yield steps
        num_steps -= steps
        if time.monotonic() - started < seconds / 2:
            portion *= 2


def make_metrics(strategy: tf.distribute.Strategy, num_classes: int) -> dict[str, keras.metrics.Metric]:
    """Returns the metrics of one model, by the names of its results."""
    with strategy.scope():
        return {
            "loss": keras.metrics.Mean(),
            "top_1_accuracy": keras.metrics.SparseCategoricalAccuracy(),
            "top_5_accuracy": keras.metrics.SparseTopKCategoricalAccuracy(k=min(5, num_classes)),
            "num_images": keras.metrics.Sum(),
        }
