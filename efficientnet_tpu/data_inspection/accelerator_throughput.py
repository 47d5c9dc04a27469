"""Training throughput of accelerators in images a second: of TPUs as `plan` expects it, of GPUs from published figures.

Training is bound by memory, not by arithmetic, so that a GPU's figure is scaled by what convolutions write (the
activations of `models.complexity`). NVIDIA's figures for B0 and B4 differ by a factor of 6.4; activations give 7.3,
multiply-adds 11.4.
"""

import math
from dataclasses import dataclass

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.plan.answers.chip_speed import chip_speeds

# Images a second of one A100 of 40 GB: NVIDIA's DeepLearningExamples, TensorFlow 2, mixed precision: B0 20,647 on 8 of
# them, B4 12,908 on 32.
A100 = {"efficientnet-b0": 20_647 / 8, "efficientnet-b4": 12_908 / 32}
_SCALED_MODEL = "efficientnet-b4"


@dataclass(frozen=True)
class Speed:
    """Images a second on one chip, rounded to two digits, and the chip's TensorCores, 0 for a GPU."""

    images_per_second: float
    num_cores: int = 0
    is_published: bool = False


def training_speeds(config: Config, architecture: Architecture) -> dict[str, Speed]:
    """Returns the throughput of a network by chip, in ascending order of speed."""
    speeds = {
        kind: Speed(_rounded(speed), GENERATIONS[kind].counted_per_chip)
        for kind, speed in chip_speeds(config, architecture).items()
    }
    speeds["A100"] = a100_speed(architecture)
    return dict(sorted(speeds.items(), key=lambda one: one[1].images_per_second))


def a100_speed(architecture: Architecture) -> Speed:
    """Returns the throughput of a network on one A100."""
    published = A100.get(architecture.name)
    if published and _activations(architecture) == _activations(build_architecture(architecture.name)):
        return Speed(_rounded(published), is_published=True)
    size = _activations(architecture) / _activations(build_architecture(_SCALED_MODEL))
    return Speed(_rounded(A100[_SCALED_MODEL] / size))


def _activations(architecture: Architecture) -> int:
    """Counts an image's activations without the classifier's, whose number depends on the data set."""
    return count(architecture).activations - architecture.num_classes


def _rounded(number: float) -> float:
    """Rounds to two digits: no figure here is more exact."""
    return round(float(number), 1 - math.floor(math.log10(number)))
