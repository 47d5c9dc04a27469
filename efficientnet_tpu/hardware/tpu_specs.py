"""The specifications of Google's TPUs: names for gcloud, speed, memory, links between chips.

A "core" is a device to the compiler, and trains one replica: a TensorCore of v2 to v4, which have two per chip, and a
chip of later generations. No TensorFlow.
"""

import re
from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts.printable import shown


@dataclass(frozen=True)
class Generation:
    """A generation of TPUs.

    gcloud: `prefix` of its --accelerator-type; `image`, its --version; `sizes` as they are counted in the type's name
    (TensorCores, for v5e and v6e chips); `host_sizes`: those that are one host; `per_host`: what a host of a larger
    slice has.

    Hardware, of a chip: `peak_tflops` in bfloat16; `hbm_gib`; `hbm_gbps`, GB/s; `num_links` to other chips, of
    `link_gbps` GB/s in each direction; `cores_per_chip` as counted for replicas; `counted_per_chip` as in the type's
    name; `mxu_size`, the side of its matrix units. Of a core: `clock_mhz`; `usable_gib`, of its HBM, for a program.
    """

    prefix: str
    image: str
    sizes: tuple[int, ...]
    host_sizes: tuple[int, ...]
    per_host: int
    peak_tflops: float
    hbm_gbps: float
    num_links: int
    link_gbps: float
    hbm_gib: float
    usable_gib: float
    cores_per_chip: int = 1
    counted_per_chip: int = 1
    clock_mhz: float = 0.0
    mxu_size: int = 128

    @property
    def flops_per_core(self) -> float:
        """Peak operations per second; a multiply-add counts as two."""
        return self.peak_tflops * 1e12 / self.cores_per_chip

    @property
    def hbm_limit(self) -> int:
        """Bytes of HBM that the program of a core may use."""
        return int(self.usable_gib * 2**30)

    @property
    def hbm_bandwidth_per_core(self) -> float:
        """Peak bytes per second."""
        return self.hbm_gbps * 1e9 / self.cores_per_chip


_FROM_8_TO_4096 = tuple(2**power for power in range(3, 13))
_BASE = "tpu-ubuntu2204-base"
# Images, sizes, peaks, memory, links: docs.cloud.google.com/tpu/docs, pages "TPU software versions", "TPU versions" and
# those of the versions. Links and clocks of v2 and v3: Jouppi et al. 2020, "A domain-specific supercomputer for
# training deep neural networks" (496 and 656 Gbit/s); of v4: Jouppi et al. 2023, arXiv:2304.01433 (6 of 50 GB/s).
# Clocks of v5e and v5p: peak / (2 * matrix units * 128 * 128), as those of v2 to v4 come out too; v6e's
# is assumed to be v5p's. What is usable: libtpu 0.0.52, refusing a program that is too large.
GENERATIONS = {
    "v2": Generation(
        "v2", _BASE, (8, 32, 128, 256, 512), (8,), 8,
        45.9, 700, 4, 62, 16, 7.48, cores_per_chip=2, counted_per_chip=2, clock_mhz=700,
    ),
    "v3": Generation(
        "v3", _BASE, (8, 32, 64, 128, 256, 512, 1024, 2048), (8,), 8,
        123, 900, 4, 82, 32, 15.48, cores_per_chip=2, counted_per_chip=2, clock_mhz=940,
    ),
    "v4": Generation(
        "v4", _BASE, _FROM_8_TO_4096, (8,), 8,
        275, 1228, 6, 50, 32, 15.25, cores_per_chip=2, counted_per_chip=2, clock_mhz=1050,
    ),
    "v5e": Generation(
        "v5litepod", "v2-alpha-tpuv5-lite", (1, 4, 8, 16, 32, 64, 128, 256), (1, 4, 8), 4,
        197, 819, 4, 50, 16, 15.75, clock_mhz=1500,
    ),
    "v5p": Generation(
        "v5p", "v2-alpha-tpuv5", _FROM_8_TO_4096, (8,), 8,
        459, 2765, 6, 100, 95, 95.73, counted_per_chip=2, clock_mhz=1750,
    ),
    "v6e": Generation(
        "v6e", "v2-alpha-tpuv6e", (1, 4, 8, 16, 32, 64, 128, 256), (1, 4, 8), 4,
        918, 1638, 4, 112, 32, 31.24, clock_mhz=1750, mxu_size=256,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Tpu:
    """A TPU to create: gcloud's names of its type and image, and the number of its hosts."""

    accelerator_type: str
    image: str
    num_hosts: int


@dataclass(frozen=True)
class Slice:
    """A TPU to train on. topology: of its chips, as the compiler names it."""

    name: str  # v5e-8
    kind: str  # a key of GENERATIONS
    num_chips: int
    num_cores: int
    num_hosts: int
    topology: str  # v5e:2x4

    @property
    def generation(self) -> Generation:
        return GENERATIONS[self.kind]


def parse_tpu_type(tpu_type: str) -> Tpu:
    """Parses a type such as v5e-8, v5litepod-8 or v4-32. Raises UserError for a type that does not exist."""
    kind, size = _kind_and_size(tpu_type)
    generation = GENERATIONS[kind]
    num_hosts = 1 if size in generation.host_sizes else size // generation.per_host
    return Tpu(f"{generation.prefix}-{size}", generation.image, num_hosts)


def parse_slice(tpu_type: str) -> Slice:
    """Parses a type such as v5e-8 as a slice. Raises UserError for a type that does not exist."""
    kind, size = _kind_and_size(tpu_type)
    generation = GENERATIONS[kind]
    num_chips = size // generation.counted_per_chip
    return Slice(
        f"{kind}-{size}",
        kind,
        num_chips,
        num_chips * generation.cores_per_chip,
        parse_tpu_type(tpu_type).num_hosts,
        f"{kind}:{'x'.join(map(str, _sides(kind, num_chips)))}",
    )


def _sides(kind: str, num_chips: int) -> list[int]:
    """Returns the chips along each side of a slice: as even as powers of two allow, the longer sides last.

    v2 and v3 are flat like v5e, but the compiler writes a third side of 1.
    """
    num_sides = 3 if kind in ("v4", "v5p") else 2
    power = num_chips.bit_length() - 1
    sides = [2 ** ((power + axis) // num_sides) for axis in range(num_sides)]
    if kind in ("v2", "v3"):
        return [*sides, 1]
    # The 4 chips of one host of v4 or v5p stand 2 x 2 x 1, not 1 x 2 x 2.
    return [2, 2, 1] if sides == [1, 2, 2] else sides


def _kind_and_size(tpu_type: str) -> tuple[str, int]:
    kind, _, size = tpu_type.lower().partition("-")
    kind = {generation.prefix: name for name, generation in GENERATIONS.items()}.get(kind, kind)
    if kind in ("tpu7x", "tpu7", "7x", "v7x", "ironwood"):
        raise UserError(
            f"--tpu_type={shown(tpu_type)}: TensorFlow cannot drive a TPU7x: Google supports JAX and PyTorch alone "
            f"on it. Take one of {', '.join(GENERATIONS)}."
        )
    if kind not in GENERATIONS:
        raise UserError(
            f"--tpu_type={shown(tpu_type)}: no such TPU. There are "
            f"{', '.join(GENERATIONS)}, with a size: v5e-8 is one machine, v4-32 a slice of four."
        )
    if not re.fullmatch(r"[0-9]{1,6}", size) or int(size) not in GENERATIONS[kind].sizes:
        sizes = ", ".join(f"{kind}-{size}" for size in GENERATIONS[kind].sizes)
        raise UserError(f"--tpu_type={shown(tpu_type)}: no such size. There are {sizes}.")
    return kind, int(size)
