"""The memory that a training takes on a CPU or a GPU, estimated before anything of it is built. No TensorFlow.

Counted are the tensors that TensorFlow keeps for the backward pass, from the list of convolutions; what the program
itself takes was measured (docs/plan.md). On TPUs, whose compiler decides what is kept, see `plan`.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.models.architecture import Architecture, PlacedConvolution
from efficientnet_tpu.models.complexity import count

BYTES_PER_PARAMETER = 4
# Slots of a size with the weights, by optimizer; adamw, without amsgrad, has two.
SLOTS = {"rmsprop": 2, "momentum": 1, "sgd": 0, "lars": 1, "adamw": 2}

# Bytes of the interpreter with TensorFlow, before anything is built; and of a convolution with what belongs to it, in
# two models, in the graphs of training and evaluation, and compiled.
_PROGRAM, _PROGRAM_PER_CONVOLUTION = 650e6, 6e6
# TensorFlow gives a tensor the smallest free piece of memory that holds it, which may be up to twice as large.
_WASTE = 1.2
# Maps of the largest size at a time that are not kept: in a backward pass, and in an evaluation of two models.
_PASSING, _PASSING_IN_EVALUATION = 1.5, 5.5
# Batches between the pipeline and the device: one that fills, two that wait, one that is trained on.
_BATCHES_IN_FLIGHT = 4
# A photograph of 12 megapixels, decoded; each core has one in hand.
_DECODED_IMAGE = 36e6
# CUDA with its libraries, which were not measured: on the host, and on the device.
_GPU_LIBRARIES, _GPU_CONTEXT = 2.5e9, 0.6e9


@dataclass(frozen=True)
class StateBytes:
    """Bytes that a device holds for the whole run, unpadded."""

    weights: int
    average: int
    slots: int

    @property
    def total(self) -> int:
        return self.weights + self.average + self.slots


def state_bytes(architecture: Architecture, optimizer: str) -> StateBytes:
    """Returns the float32 bytes of weights, batch norm's statistics included, of their average and of the slots."""
    cost = count(architecture)
    weights = cost.total_params * BYTES_PER_PARAMETER
    return StateBytes(weights, weights, SLOTS[optimizer] * cost.trainable_params * BYTES_PER_PARAMETER)


def gradient_bytes(architecture: Architecture) -> int:
    """Returns the bytes of the gradients, float32, of which every device has all."""
    return count(architecture).trainable_params * BYTES_PER_PARAMETER


@dataclass(frozen=True)
class TrainingMemory:
    """Estimated bytes that a training holds at most. device: of a GPU, 0 where the host computes."""

    host: float
    device: float = 0.0


@dataclass(frozen=True)
class MemoryModel:
    """The facts that the memory of a training depends on, besides its options.

    eval_batch_size: images of an evaluation's batch, over all devices. num_replicas: the devices, of which this host
    has `replicas_here`. frozen: the parts of the network that are not trained, as `fine_tuning.frozen_parts` names
    them. activation_bytes: of a number between layers, 4 or 2. buffered_bytes: of encoded images that are shuffled.
    """

    architecture: Architecture
    eval_batch_size: int
    num_replicas: int = 1
    replicas_here: int = 1
    frozen: frozenset[str] = frozenset()
    activation_bytes: int = 4
    buffered_bytes: int = 0
    on_gpu: bool = False
    num_cores: int = os.cpu_count() or 1

    def estimate(self, train_config: TrainConfig) -> TrainingMemory:
        """Returns what a training takes by its options."""
        share = -(-train_config.batch_size // self.num_replicas)
        state = state_bytes(self.architecture, train_config.optimizer).total + gradient_bytes(self.architecture)
        micro_batch = -(-share // train_config.gradient_accumulation_steps)
        if train_config.gradient_accumulation_steps > 1:
            state += gradient_bytes(self.architecture)  # the sums
        computing = _WASTE * max(
            micro_batch * self.step_bytes(train_config),
            -(-self.eval_batch_size // self.num_replicas) * self.evaluation_bytes(),
        )
        images = share * 3 * self.architecture.resolution**2
        program = _PROGRAM + _PROGRAM_PER_CONVOLUTION * len(self.architecture.convolutions())
        decoded = self.num_cores * _DECODED_IMAGE + self.replicas_here * _BATCHES_IN_FLIGHT * images
        host = program + decoded + self.buffered_bytes
        if self.on_gpu:
            return TrainingMemory(host + _GPU_LIBRARIES, _GPU_CONTEXT + state + computing)
        return TrainingMemory(host + self.replicas_here * (state + computing))

    def step_bytes(self, train_config: TrainConfig) -> float:
        """Returns the bytes that an image takes in a step: what is kept for the backward pass, and what passes."""
        parts = [_Part(self, train_config, list(rows)) for rows in _parts(self.architecture)]
        kept = sum(part.kept for part in parts)
        if train_config.rematerialize == "blocks":
            *body, head = parts if self.architecture.head_filters else [*parts, None]
            kept = sum(part.output for part in body) + max(part.kept for part in body) + (head.kept if head else 0)
        image = 3 * self.architecture.resolution**2 * BYTES_PER_PARAMETER  # normalized, the input of the stem
        return image + kept + _PASSING * self._largest_map()

    def evaluation_bytes(self) -> float:
        """Returns the bytes that an image takes in an evaluation of the model and its average."""
        image = 3 * self.architecture.resolution**2 * BYTES_PER_PARAMETER
        return image + _PASSING_IN_EVALUATION * self._largest_map()

    def _largest_map(self) -> float:
        return max(_size(row) for row in self.architecture.convolutions()) * BYTES_PER_PARAMETER


def _parts(architecture: Architecture) -> Iterator[Iterator[PlacedConvolution]]:
    """Yields the convolutions of the stem, of every block and of the head."""
    rows = (row for row in architecture.convolutions() if row.convolution.kind != "classifier")
    for _, part in itertools.groupby(rows, key=lambda row: (row.block, row.convolution.kind == "stem")):
        yield part


def _size(row: PlacedConvolution) -> int:
    """Returns the numbers that a convolution writes for an image."""
    return row.output_size**2 * row.convolution.filters


class _Part:
    """The stem, a block or the head. kept: bytes of an image for its backward pass. output: of what it hands on."""

    def __init__(self, model: MemoryModel, train_config: TrainConfig, rows: list[PlacedConvolution]) -> None:
        narrow = model.activation_bytes
        maps = [row for row in rows if row.convolution.writes != "pooled"]
        first = rows[0]
        name = f"block_{first.block}" if first.block is not None else first.convolution.name.partition("_")[0]
        self.output = narrow * _size(maps[-1])
        self.kept = 0.0
        if name in model.frozen:
            return
        for row in maps:
            # A convolution's output, for the gradient of batch norm by its statistics: in float32, as it computes.
            by_number = 0 if train_config.bn_mode == "frozen" else BYTES_PER_PARAMETER
            if model.architecture.activation == "silu" and not row.convolution.linear:
                by_number += narrow  # batch norm's output; ReLU's gradient needs its own output only
            if row is maps[-1] or not row.convolution.linear:
                by_number += narrow  # the next layer's input; a shortcut is added to one
            self.kept += by_number * _size(row)
        for before, row in itertools.pairwise(rows):
            if row.convolution.name == "se_reduce":
                self.kept += narrow * _size(before)  # times the gate, the input of the projection
