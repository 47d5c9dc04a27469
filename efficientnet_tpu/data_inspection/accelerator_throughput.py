"""Training throughput of accelerators in images a second: published figures, and estimates scaled from them.

Training is bound by memory, not by arithmetic: for B0 at batch 128 the TPU compiler counts 350 GFLOP, 2 ms at a v5e's
peak, and 10.6 GB to and from HBM, 13 ms (docs/plan.md). A figure is therefore scaled by what convolutions write (the
activations of `models.complexity`) and by the memory's peak bandwidth. NVIDIA's figures for B0 and B4 differ by a
factor of 6.4; activations give 7.3, multiply-adds 11.4.

The figures are speeds of steps in well-tuned programs. Whole runs have been slower: 23 hours for 350 epochs of B0 on a
v2-8 (arXiv:2011.00071, abstract) are 1,350 images/s a chip, half of the estimate.
"""

import math
from dataclasses import dataclass

from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import build_architecture


@dataclass(frozen=True)
class Chip:
    """An accelerator: peak bandwidth of its memory in GB/s, its TensorCores, and the chip whose figures are scaled."""

    bandwidth: float
    num_cores: int = 1
    scaled_from: str = "v3"


# Bandwidths: v3, v4, v5e, v5p, v6e from the pages of docs.cloud.google.com/tpu/docs; v2 from Jouppi et al. 2020, "A
# domain-specific supercomputer for training deep neural networks"; A100 (40 GB) from NVIDIA's data sheet. In ascending
# order of speed.
CHIPS = {
    "v2": Chip(700, 2),
    "v5e": Chip(819),
    "v3": Chip(900, 2),
    "v4": Chip(1200, 2),
    "v6e": Chip(1638),
    "v5p": Chip(2765, 2),
    "A100": Chip(1555, scaled_from="A100"),
}
# Images a second of one chip. v3: EfficientNetV2 (Tan & Le 2021, arXiv:2104.00298), table 3, 262 images/s a core. A100:
# NVIDIA's DeepLearningExamples, TensorFlow 2, mixed precision: B0 20,647 on 8 of them, B4 12,908 on 32.
PUBLISHED = {
    ("v3", "efficientnet-b4"): 2 * 262,
    ("A100", "efficientnet-b0"): 20_647 / 8,
    ("A100", "efficientnet-b4"): 12_908 / 32,
}
_SCALED_MODEL = "efficientnet-b4"


@dataclass(frozen=True)
class Speed:
    """Images a second on one chip, rounded to two digits, and the origin of the figure."""

    images_per_second: float
    is_published: bool


def training_speed(chip: str, architecture: Architecture) -> Speed:
    """Returns the throughput of any network on one chip. KeyError for a chip that is not in CHIPS."""
    published = PUBLISHED.get((chip, architecture.name))
    if published and _activations(architecture) == _activations(build_architecture(architecture.name)):
        return Speed(_rounded(published), True)
    base = CHIPS[chip].scaled_from
    size = _activations(architecture) / _activations(build_architecture(_SCALED_MODEL))
    bandwidth = CHIPS[chip].bandwidth / CHIPS[base].bandwidth
    return Speed(_rounded(PUBLISHED[base, _SCALED_MODEL] / size * bandwidth), False)


def _activations(architecture: Architecture) -> int:
    """Counts an image's activations without the classifier's, whose number depends on the data set."""
    return count(architecture).activations - architecture.num_classes


def _rounded(number: float) -> float:
    """Rounds to two digits: no figure here is more exact."""
    return round(float(number), 1 - math.floor(math.log10(number)))
