"""Which pipelines are compared, and what each of them needs installed. Imports none of them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """What every pipeline is asked for: random resized crop (area 0.08..1), flip, augmentation, batches in memory."""

    data_dir: str  # root/<class>/*.jpg
    size: int
    batch_size: int
    augment: Literal["autoaugment", "randaugment", "none"]
    workers: int  # processes or threads, as the pipeline has them


@dataclass(frozen=True)
class Peer:
    """One row of the table."""

    module: str  # peers.<module> has build(Settings) -> (augmentation in words, endless batches)
    packages: tuple[str, ...]  # distributions it cannot do without; the versions of all are reported
    # project: what runs the benchmark; peer, simd: the interpreters of --peer_python and --simd_python.
    python: Literal["project", "peer", "simd"] = "peer"
    role: Literal["ours", "floor", "peer"] = "peer"
    min_batches: int = 4  # drained, and then measured, in a turn, however long they take


_TENSORFLOW = ("tensorflow", "keras")
_TORCH = ("torch", "torchvision")

PEERS: dict[str, Peer] = {
    "ours": Peer("ours", _TENSORFLOW, "project", "ours"),
    "floor": Peer("floor", _TENSORFLOW, "project", "floor"),
    "floor_same": Peer("floor_same", _TENSORFLOW, "project", "floor"),
    "dali": Peer("dali", ("nvidia-dali-cuda120",)),
    "torchvision_tensor": Peer("torchvision_tensor", _TORCH),
    "torchvision_pil": Peer("torchvision_pil", (*_TORCH, "pillow")),
    "timm": Peer("timm_pil", ("timm", *_TORCH, "pillow")),
    "timm_rand": Peer("timm_rand", ("timm", *_TORCH, "pillow")),
    "timm_simd": Peer("timm_pil", ("timm", *_TORCH, "pillow-simd"), "simd"),
    "timm_rand_simd": Peer("timm_rand", ("timm", *_TORCH, "pillow-simd"), "simd"),
    "keras": Peer("keras_layers", _TENSORFLOW, "project", min_batches=1),
}


def default_peers(augment: str) -> list[str]:
    """timm's second policy stands beside its AutoAugment only: elsewhere `timm` runs the same."""
    return [name for name in PEERS if augment == "autoaugment" or not name.startswith("timm_rand")]
