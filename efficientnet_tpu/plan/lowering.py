"""The HLO of the training step of one core of a TPU slice, with the slice's sums over cores, made on a CPU.

The traced functions are `train_step.make_train_step` and `make_state`. Only the strategy is a stand-in: its cores exist
in the trace alone. Variables are plain, and a core's number and the sums over cores are XLA operations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops  # no public name
from tensorflow.python.distribute import distribute_lib  # the default strategy's parts have no public name

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.evaluate import make_eval_step, make_metrics
from efficientnet_tpu.exporting.inference_model import frozen_function, inference_model
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.training.learning_rate import make_schedule
from efficientnet_tpu.training.train_step import make_state, make_train_step


@dataclass(frozen=True)
class LoweredStep:
    """The program of one core's training step.

    hlo: a serialized HloModuleProto.
    text: the same as text.
    weight_bytes, average_bytes, slot_bytes: sizes of the variables without the padding of a TPU's layouts.
    """

    hlo: bytes
    text: str
    weight_bytes: int
    average_bytes: int
    slot_bytes: int


class SliceStrategy(tf.distribute.TPUStrategy):
    """A strategy for tracing one core's program of a slice that is not there. The program cannot run here.

    It derives from TPUStrategy so that layers choose what they do on TPUs.
    """

    def __init__(self, num_cores: int):
        distribute_lib.Strategy.__init__(self, _SliceExtended(self, num_cores))

    def run(self, fn: Callable, args: Any = (), kwargs: Any = None, options: Any = None) -> Any:
        """Calls `fn` once, as the default strategy does; TPUStrategy's own method would replicate it."""
        return distribute_lib.Strategy.run(self, fn, args, kwargs)


class _SliceExtended(distribute_lib._DefaultDistributionExtended):
    def __init__(self, strategy: tf.distribute.Strategy, num_cores: int):
        super().__init__(strategy)
        self._num_cores = num_cores

    @property
    def _num_replicas_in_sync(self) -> int:
        return self._num_cores

    def _scope(self, strategy: tf.distribute.Strategy) -> Any:
        return distribute_lib.StrategyExtendedV2._scope(self, strategy)

    def _create_variable(self, next_creator: Callable, **kwargs: Any) -> tf.Variable:
        return next_creator(**{name: kwargs[name] for name in kwargs if name not in _DISTRIBUTED_VARIABLE_OPTIONS})

    def _call_for_each_replica(self, fn: Callable, args: Any, kwargs: Any) -> Any:
        with (
            _Core(self._container_strategy(), gen_xla_ops.xla_replica_id()),
            mock.patch.object(tf.raw_ops, "CrossReplicaSum", _sum_over_cores),
        ):
            return fn(*args, **kwargs)


_DISTRIBUTED_VARIABLE_OPTIONS = ("aggregation", "synchronization")


class _Core(distribute_lib.ReplicaContext):
    """A replica context whose `all_reduce` goes over all cores."""

    def all_reduce(self, reduce_op: tf.distribute.ReduceOp, value: Any, options: Any = None) -> Any:
        num_cores = self.num_replicas_in_sync
        mean = tf.distribute.ReduceOp(reduce_op) == tf.distribute.ReduceOp.MEAN

        def reduce(part: tf.Tensor) -> tf.Tensor:
            total = _sum_over_cores(part, [list(range(num_cores))])
            return total / num_cores if mean else total

        return tf.nest.map_structure(reduce, value)


def _sum_over_cores(input: tf.Tensor, group_assignment: Sequence[Sequence[int]]) -> tf.Tensor:
    """Replaces CrossReplicaSum, which only TPUs translate to HLO. The gradient of the sum is the same sum."""

    def all_reduce(part: tf.Tensor) -> tf.Tensor:
        return gen_xla_ops.xla_all_reduce(part, group_assignment, "Add", "CrossReplica")

    return tf.custom_gradient(lambda part: (all_reduce(part), all_reduce))(input)


def lower_train_step(architecture: Architecture, config: Config, num_cores: int, num_images: int) -> LoweredStep:
    """Lowers the training step of `config` for one of `num_cores` cores, in bfloat16 unless --precision=float32.

    num_images: the size of the training set, on which the learning rate depends.
    """
    config = _in_bfloat16(config)
    strategy = SliceStrategy(num_cores)
    state = make_state(strategy, architecture, config, make_schedule(config.train, num_images))
    # A plan knows no images: the step multiplies by weights of classes, whatever they are.
    class_weights = None if config.train.class_weights == "none" else np.ones(architecture.num_classes, "float32")
    train_step = make_train_step(state, config.train, config.run.seed, num_cores, class_weights)
    batch_size, size = config.train.batch_size // num_cores, architecture.resolution
    hlo, text = lower_to_hlo(
        lambda images, labels: strategy.run(train_step, args=(images, labels)),
        tf.TensorSpec((batch_size, size, size, 3), tf.uint8),
        tf.TensorSpec((batch_size,), tf.int32),
    )
    return LoweredStep(
        hlo,
        text,
        num_bytes(state.model.variables),
        num_bytes(state.average.variables),
        num_bytes(state.optimizer.variables),
    )


def _in_bfloat16(config: Config) -> Config:
    return with_options(config, {"precision": "bfloat16"}) if config.hardware.precision == "auto" else config


def lower_eval_step(architecture: Architecture, config: Config, num_cores: int) -> tuple[bytes, str]:
    """Lowers the evaluation step of one model for one of `num_cores` cores, with the precision of training.

    Returns a serialized HloModuleProto and its text.
    """
    config = _in_bfloat16(config)
    strategy = SliceStrategy(num_cores)
    with strategy.scope(), distribution.precision(distribution.precision_policy(config.hardware, strategy)):
        model = build_model(architecture)
    eval_step = make_eval_step({"": model}, {"": make_metrics(strategy, architecture.num_classes)})
    batch_size, size = config.eval.eval_batch_size // num_cores, architecture.resolution
    return lower_to_hlo(
        lambda *batch: strategy.run(eval_step, args=batch),
        tf.TensorSpec((batch_size, size, size, 3), tf.uint8),
        tf.TensorSpec((batch_size,), tf.int32),
        tf.TensorSpec((batch_size,), tf.float32),
    )


def lower_serving(architecture: Architecture, config: Config, num_cores: int) -> tuple[bytes, str]:
    """Lowers the function of prepared images that `export` writes, in float32 and with constant weights.

    Returns a serialized HloModuleProto and its text.
    """
    with distribution.precision("float32"):
        model = inference_model(build_model(architecture))
    size = architecture.resolution
    probabilities = frozen_function(model, tf.TensorSpec([None, size, size, 3], tf.uint8, name="images"))
    batch_size = config.eval.eval_batch_size // num_cores
    return lower_to_hlo(probabilities, tf.TensorSpec((batch_size, size, size, 3), tf.uint8))


def lower_to_hlo(function: Callable, *specs: tf.TensorSpec) -> tuple[bytes, str]:
    """Lowers a function that may read and change variables. Returns a serialized HloModuleProto and its text."""
    compiled = tf.function(function, jit_compile=True, autograph=False)
    # For the default device, because platform_name="TPU" refuses functions with variables.
    stages = compiled.experimental_get_compiler_ir(*specs)
    return stages(stage="hlo_serialized"), stages(stage="hlo")


def num_bytes(variables: Sequence) -> int:
    """Returns the size of Keras variables without padding."""
    return sum(variable.value.dtype.size * variable.value.shape.num_elements() for variable in variables)
