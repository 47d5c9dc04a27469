"""The GPUs of a launch, by the names that each engine has for them. No TensorFlow."""

import re
from dataclasses import dataclass

from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.texts.printable import shown


@dataclass(frozen=True)
class GpuNames:
    """The names of a kind of GPU.

    gke: the node label cloud.google.com/gke-accelerator. vertex: the acceleratorType. machines: Vertex' machineType by
    the number of GPUs.
    """

    gke: str
    vertex: str
    machines: dict[int, str]


# Names and machines: cloud.google.com's pages "GPU platforms", "Run GPUs in GKE" and "Configure compute resources for
# training"; SkyPilot has the names of the keys (`sky show-gpus`).
GPUS = {
    "T4": GpuNames("nvidia-tesla-t4", "NVIDIA_TESLA_T4", dict.fromkeys((1, 2, 4), "n1-standard-16")),
    "V100": GpuNames("nvidia-tesla-v100", "NVIDIA_TESLA_V100", dict.fromkeys((1, 2, 4, 8), "n1-standard-16")),
    "L4": GpuNames(
        "nvidia-l4",
        "NVIDIA_L4",
        {1: "g2-standard-12", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"},
    ),
    "A100": GpuNames(
        "nvidia-tesla-a100", "NVIDIA_TESLA_A100", {count: f"a2-highgpu-{count}g" for count in (1, 2, 4, 8)}
    ),
    "A100-80GB": GpuNames(
        "nvidia-a100-80gb", "NVIDIA_A100_80GB", {count: f"a2-ultragpu-{count}g" for count in (1, 2, 4, 8)}
    ),
    "H100": GpuNames("nvidia-h100-80gb", "NVIDIA_H100_80GB", {8: "a3-highgpu-8g"}),
}


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a machine: a key of GPUS, and how many."""

    kind: str
    count: int

    @property
    def names(self) -> GpuNames:
        return GPUS[self.kind]


def parse_gpus(text: str) -> Gpus:
    """Parses A100:4, or A100 for one. Raises UserError for a kind that is not known and for no number."""
    kind, _, count = text.partition(":")
    found = {name.lower(): name for name in GPUS}.get(kind.lower())
    if found is None:
        raise UserError(f"--gpus={shown(text)}: no such GPU. There are {', '.join(GPUS)}.{nearest(kind, GPUS)}")
    if not re.fullmatch("[1-9][0-9]?", count or "1"):
        raise UserError(f"--gpus={shown(text)}: must be a kind and a number, as {found}:4.")
    return Gpus(found, int(count or 1))
