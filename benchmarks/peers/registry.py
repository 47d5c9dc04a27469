"""Which pipelines and which trainers are compared, and what each of them needs installed. Imports none of them."""

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
    folder: str  # for what a pipeline writes before its first batch; no two have the same

    @property
    def images_per_batch(self) -> int:
        return self.batch_size


@dataclass(frozen=True)
class TrainSettings:
    """What every trainer is asked for: the reference's recipe in float32, on one batch of uint8 images in memory.

    Label smoothing, L2, RMSProp with momentum, dropout, stochastic depth, running loss and accuracy.
    """

    model: str  # efficientnet-b0 .. efficientnet-b7; of this project any
    size: int
    batch_size: int
    ema: bool  # whether to keep an exponential moving average of the weights
    steps: int  # made in one go; a trainer hands over the mean loss of them
    workers: int  # threads
    folder: str  # for what a trainer writes; no two have the same

    @property
    def images_per_batch(self) -> int:
        return self.steps * self.batch_size


@dataclass(frozen=True)
class InferenceSettings:
    """What every runtime is asked for: class probabilities or logits of one batch of images in memory, float32."""

    model: str  # efficientnet-b0 .. efficientnet-b7
    size: int
    batch_size: int
    workers: int  # threads
    folder: str  # of the exported files: see inference.py

    @property
    def images_per_batch(self) -> int:
        return self.batch_size


@dataclass(frozen=True)
class PredictSettings:
    """What every program is asked for: the best classes of image files, over and over, batch by batch."""

    model: str  # efficientnet-b0 .. efficientnet-b7
    form: str  # of this project's model: run, or a format of `export`
    size: int
    batch_size: int
    workers: int  # threads of the network; processes of a DataLoader
    data_dir: str  # root/<class>/*.jpg
    folder: str  # for what a program writes

    @property
    def images_per_batch(self) -> int:
        return self.batch_size


AnySettings = Settings | TrainSettings | InferenceSettings | PredictSettings


@dataclass(frozen=True)
class Peer:
    """One row of the table."""

    module: str  # peers.<module> has build(settings) -> (words, endless batches or losses)
    packages: tuple[str, ...]  # distributions it cannot do without; the versions of all are reported
    # project: what runs the benchmark; the others: the interpreter of --peer_python, --simd_python or --ffcv_python.
    python: Literal["project", "peer", "simd", "ffcv"] = "peer"
    role: Literal["ours", "floor", "peer"] = "peer"
    min_batches: int = 4  # drained, and then measured, in a turn, however long they take
    settings: type[AnySettings] = Settings


_TENSORFLOW = ("tensorflow", "keras")
_TORCH = ("torch", "torchvision")
_FFCV = ("ffcv", *_TORCH)

PEERS: dict[str, Peer] = {
    "ours": Peer("ours", _TENSORFLOW, "project", "ours"),
    "ours_cached": Peer("ours_cached", _TENSORFLOW, "project", "ours"),
    "ours_copies": Peer("ours_copies", _TENSORFLOW, "project", "ours"),
    "floor": Peer("floor", _TENSORFLOW, "project", "floor"),
    "floor_same": Peer("floor_same", _TENSORFLOW, "project", "floor"),
    "dali": Peer("dali", ("nvidia-dali-cuda120",)),
    "ffcv": Peer("ffcv_loader", _FFCV, "ffcv"),
    "ffcv_400": Peer("ffcv_400", _FFCV, "ffcv"),
    "torchvision_tensor": Peer("torchvision_tensor", _TORCH),
    "torchvision_pil": Peer("torchvision_pil", (*_TORCH, "pillow")),
    "timm": Peer("timm_pil", ("timm", *_TORCH, "pillow")),
    "timm_rand": Peer("timm_rand", ("timm", *_TORCH, "pillow")),
    "timm_simd": Peer("timm_pil", ("timm", *_TORCH, "pillow-simd"), "simd"),
    "timm_rand_simd": Peer("timm_rand", ("timm", *_TORCH, "pillow-simd"), "simd"),
    "keras": Peer("keras_layers", _TENSORFLOW, "project", min_batches=1),
}


# On telephones' photographs: floors, and a second way of the same library, tell nothing more.
_NOT_OF_PHONES = ("floor", "ours_copies", "torchvision_pil", "timm_rand")


def default_peers(augment: str, phone: bool = False) -> list[str]:
    """timm's second policy stands beside its AutoAugment only: elsewhere `timm` runs the same. FFCV has no policy. A
    cache passes on small pictures as they are.
    """
    left_out = _NOT_OF_PHONES if phone else ("ours_cached", *["timm_rand"] * (augment != "autoaugment"))
    without_policy = ("ffcv",) * (augment != "none")
    return [name for name in PEERS if not name.startswith(left_out + without_policy)]


TRAINERS: dict[str, Peer] = {
    "project": Peer("project", _TENSORFLOW, "project", "ours", 1, TrainSettings),
    "keras_fit": Peer("keras_fit", _TENSORFLOW, "project", min_batches=1, settings=TrainSettings),
    "timm_eager": Peer("timm_eager", ("timm", "torch"), min_batches=1, settings=TrainSettings),
}

_INFERENCE = {"min_batches": 4, "settings": InferenceSettings}

RUNTIMES: dict[str, Peer] = {
    "savedmodel": Peer("infer_savedmodel", ("tensorflow",), "project", "ours", **_INFERENCE),
    "onnx": Peer("infer_onnx", ("onnxruntime",), "project", "ours", **_INFERENCE),
    "litert": Peer("infer_litert", ("ai-edge-litert",), "project", "ours", **_INFERENCE),
    "keras_function": Peer("infer_keras", _TENSORFLOW, "project", **_INFERENCE),
    "timm_inference": Peer("infer_timm", ("timm", "torch"), **_INFERENCE),
    "timm_compile": Peer("infer_timm_compile", ("timm", "torch"), **_INFERENCE),
    "timm_onnx": Peer("infer_timm_onnx", ("onnxruntime",), "project", **_INFERENCE),
    "openvino": Peer("infer_openvino", ("openvino",), "peer", **_INFERENCE),
}

_PREDICT = {"min_batches": 2, "settings": PredictSettings}

PREDICTORS: dict[str, Peer] = {
    "ours": Peer("predict_ours", _TENSORFLOW, "project", "ours", **_PREDICT),
    "decode": Peer("predict_decode", _TENSORFLOW, "project", "floor", **_PREDICT),
    "infer": Peer("predict_infer", _TENSORFLOW, "project", "floor", **_PREDICT),
    "timm": Peer("predict_timm", ("timm", "torch", "pillow"), **_PREDICT),
}

# By the name of the benchmark whose rows they are.
BY_BENCHMARK = {"input": PEERS, "train": TRAINERS, "inference": RUNTIMES, "predict": PREDICTORS}


def find_peer(name: str, settings: type[AnySettings]) -> Peer:
    """Returns the peer of a name among those that take such settings."""
    return next(peers[name] for peers in BY_BENCHMARK.values() if name in peers and peers[name].settings is settings)
