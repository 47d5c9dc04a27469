"""What a run is: frozen sections of options, each field one command-line flag, checked before anything slow starts.

Imports nothing of ours and no TensorFlow. A section's fields carry their help and limits; `cli` derives the flags from
them, `run_record` stores them in model_dir, and everything below takes a section or plain values.
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PRECISIONS = ("auto", "float32", "bfloat16")
OPTIMIZERS = ("rmsprop", "momentum", "sgd", "lars", "adamw")
LEARNING_RATE_SCHEDULES = ("exponential", "cosine", "constant", "poly")
OUTPUT_FORMATS = ("text", "csv", "json")
EXPORT_FORMATS = ("savedmodel", "keras", "tflite", "tflite-int8", "onnx")
CHECKPOINTS = ("last", "best")
SPLITS = ("validation", "minival")
AUGMENTATIONS = ("none", "autoaugment", "autoaugment-cifar10", "autoaugment-svhn", "randaugment")
AUGMENT_SEMANTICS = ("reference", "pil")
TF1_WEIGHTS = ("auto", "average", "raw")
REMATERIALIZATIONS = ("none", "blocks")
PLAN_EFFORTS = ("full", "memory")
PLAN_STEPS = ("train", "evaluation", "serving")
NORMALIZATIONS = ("model", "imagenet", "lite", "advprop")
BN_MODES = ("auto", "train", "frozen", "recalibrate")


class UserError(ValueError):
    """Something the user typed, or a file of theirs, is wrong; the message says what, and what to do instead."""


def nearest(name: str, names: Iterable[str]) -> str:
    """' Did you mean X?' for the closest of `names`, or nothing when none is close."""
    names = list(names)
    part = [other for other in names if len(name) > 1 and (other.startswith(name) or other.endswith(f"-{name}"))]
    matches = part or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f" Did you mean {matches[0]}?" if matches else ""


def option(default: Any, help: str, **limits: Any) -> Any:
    """A field of a section. Limits: minimum, above, maximum (numbers), choices (names), parts (names in a list)."""
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class RunConfig:
    """Run"""

    model_dir: str = option("", "Directory of the run: configuration, checkpoints, logs. Local or gs://.")
    seed: int = option(0, "Seed of weights, order of images and every random draw.", minimum=0, maximum=2**31 - 1)
    minutes_per_save: float = option(
        30.0, "Save after this many minutes too, not only with every evaluation; SIGTERM and Ctrl-C save as well.",
        above=0,
    )  # fmt: skip
    stop_at_step: int = option(
        0, "Save and stop at this step; the same command goes on from there. 0: train to the end.", minimum=0
    )


@dataclass(frozen=True)
class ModelConfig:
    """Model"""

    model: str = option("efficientnet-b0", "Model name; `main.py models` lists them. Also efficientnet-phi<number>.")
    baseline: str = option(
        "", "In place of --model: a network of your own, a table of stages in FILE.csv or FILE.json (docs/paper.md)."
    )
    width_coefficient: float | None = option(None, "Override the model's width coefficient.", above=0, maximum=20)
    depth_coefficient: float | None = option(None, "Override the model's depth coefficient.", above=0, maximum=20)
    resolution: int | None = option(None, "Override the model's image side, in pixels.", minimum=1, maximum=4096)
    dropout_rate: float | None = option(None, "Override the dropout before the classifier.", minimum=0, below=1)
    survival_prob: float | None = option(
        None,
        "Override the model's stochastic depth: probability that the last block survives; 1 disables. EfficientNets "
        "have 0.8, other models 1.",
        above=0,
        maximum=1,
    )
    normalization: str = option(
        "model",
        "How pixels are normalised. model: as the model is; imagenet: by ImageNet's mean and deviation; lite: "
        "(x - 127) / 128; advprop: x / 127.5 - 1, as AdvProp's weights want it. Left at model, import-weights and "
        "--init_from take over what the weights state.",
        choices=NORMALIZATIONS,
    )
    batch_norm_momentum: float = option(0.99, "Decay of batch norm's moving statistics.", minimum=0, below=1)
    batch_norm_epsilon: float = option(1e-3, "Added to batch norm's variance.", above=0)


@dataclass(frozen=True)
class DataConfig:
    """Data"""

    data_dir: str = option(
        "",
        "Images: a folder root/<class>/*.jpg or root/{train,validation}/<class>/*.jpg; a manifest, FILE.csv or "
        "FILE.jsonl, with the columns path, label and perhaps split; a directory of TFRecord shards (train-*, "
        "validation-*); or the TFDS data directory. Local or gs://.",
    )
    dataset: str = option(
        "auto",
        "auto: look at data_dir. sample: the embedded Fashion-MNIST. tfds:NAME: TensorFlow Datasets. fake or "
        "fake:CLASSES:TRAIN:VALIDATION: made-up images for dry runs, as many as ImageNet has or as said.",
    )
    validation_percent: int = option(
        10, "Folder, manifest or TFDS set without a validation split: hold out this share.", minimum=1, maximum=50
    )
    minival_percent: float = option(
        0.0,
        "Hold out this share of the training images, to choose by, so that the validation images stay unseen: whole "
        "shards of TFRecords, one at least. The paper used 20 of ImageNet's 1024 shards, which is 2.",
        minimum=0,
        maximum=50,
    )
    crop_min_area: float = option(0.08, "Training crop: smallest share of the image's area.", above=0, maximum=1)
    horizontal_flip: bool = option(True, "Mirror half of the training images; --nohorizontal_flip does not.")
    augment: str = option("none", "Augmentation policy; autoaugment is ImageNet's.", choices=AUGMENTATIONS)
    augment_semantics: str = option(
        "reference",
        "How the policies' operations compute: as in the program that trained the published weights, its three slips "
        "included (docs/augmentation.md), or pil: as Pillow does.",
        choices=AUGMENT_SEMANTICS,
    )
    randaug_num_layers: int = option(2, "randaugment: operations applied to an image.", minimum=1, maximum=16)
    randaug_magnitude: float = option(10.0, "randaugment: strength; 10 is the nominal highest.", minimum=0, maximum=100)
    max_unreadable_percent: float = option(
        1.0,
        "Training goes on without images that cannot be read, and lists them in model_dir; it stops when there are "
        "more than this share (and more than 5). 0: stops at the first.",
        minimum=0,
        maximum=100,
    )
    eval_crop_padding: int | None = option(
        None,
        "Evaluation crop: the centre square of side size / (size + padding) of the shorter side. Left out: 32, as the "
        "published figures were measured, and less for images under 224 pixels, so that 7/8 remain.",
        minimum=0,
    )
    shuffle_buffer: int = option(
        4096, "Encoded images shuffled among each other (TFRecord, TFDS); memory holds two such blocks.", minimum=1
    )

    @property
    def source(self) -> str:
        """The flag that named the images, as it was given."""
        return f"--data_dir={self.data_dir}" if self.dataset == "auto" else f"--dataset={self.dataset}"


@dataclass(frozen=True)
class HardwareConfig:
    """Hardware"""

    tpu: str = option(
        "",
        "local (a TPU VM's own), a TPU's name, grpc://host:8470[,host:8470...], or none. Left out: on a TPU VM with "
        "tensorflow-tpu local, else all GPUs, else the CPU; or what TF_CONFIG says of several hosts.",
    )
    tpu_zone: str = option("", "Zone of the named TPU. Left out: this machine's.")
    gcp_project: str = option("", "Project of the named TPU. Left out: this machine's.")
    precision: str = option("auto", "auto: bfloat16 on TPU, float32 elsewhere.", choices=PRECISIONS)
    steps_per_loop: int = option(
        1000, "Most training steps inside one compiled call; it is given about ten seconds' worth.", minimum=1
    )
    intra_op_threads: int = option(
        0,
        "CPU threads inside one operation. 0: all cores when training on the CPU, 1 beside a GPU or TPU, where the CPU "
        "prepares images, each on a thread of its own. Very small networks are faster with 1.",
        minimum=0,
    )
    virtual_replicas: int = option(
        0, "Split the CPU into this many devices: rehearses a multi-device run without one.", minimum=0
    )


@dataclass(frozen=True)
class TrainConfig:
    """Training"""

    train_batch_size: int = option(256, "Images in a step, over all devices.", minimum=1)
    gradient_accumulation_steps: int = option(
        1,
        "Take each device's part of the batch in so many micro-batches, one after the other, and add up their "
        "gradients for the one update of the step: for batches that do not fit into memory. Batch norm sees "
        "micro-batches, and its moving statistics move with each.",
        minimum=1,
    )
    rematerialize: str = option(
        "none",
        "What the backward pass computes again instead of remembering it: none; blocks, everything within a block of "
        "the network. Larger batches fit, steps take longer, and are otherwise the same.",
        choices=REMATERIALIZATIONS,
    )
    train_epochs: float = option(350.0, "Passes over the training images.", above=0)
    optimizer: str = option("rmsprop", "Optimizer.", choices=OPTIMIZERS)
    base_learning_rate: float = option(0.016, "Learning rate per 256 images of the batch.", above=0)
    learning_rate_schedule: str = option("exponential", "Shape of the decay.", choices=LEARNING_RATE_SCHEDULES)
    lr_decay_factor: float = option(0.97, "Exponential: factor of each step down.", above=0, maximum=1)
    lr_decay_epochs: float = option(2.4, "Exponential: epochs between two steps down.", above=0)
    lr_warmup_epochs: float = option(5.0, "Epochs of linear warm-up from zero.", minimum=0)
    lr_end: float = option(
        0.1, "Poly: the learning rate at the end; absolute, as in the reference, not per 256 images.", minimum=0
    )
    momentum: float = option(0.9, "Momentum of rmsprop, momentum and lars.", minimum=0, below=1)
    rmsprop_decay: float = option(0.9, "Decay of rmsprop's mean square.", minimum=0, below=1)
    rmsprop_epsilon: float = option(1e-3, "Added to rmsprop's mean square, inside the root.", above=0)
    moving_average_decay: float = option(
        0.9999, "Decay of the average of the weights (EMA) that is evaluated and exported; 0: the weights themselves.",
        minimum=0, below=1,
    )  # fmt: skip
    weight_decay: float = option(
        1e-5,
        "L2 on everything but batch norm: weight_decay * sum(w^2) / 2 in the loss. With adamw it is apart from the "
        "loss: weights but batch norm's and biases lose their rate * weight_decay part in a step; 0.05 is usual there.",
        minimum=0,
    )
    lars_weight_decay: float = option(
        1e-5, "lars: decay within the layer's rate; not of batch norm and biases. Added to --weight_decay.", minimum=0
    )
    lars_epsilon: float = option(0.0, "lars: added to what divides the layer's rate.", minimum=0)
    gradient_clip_norm: float = option(
        0.0, "Scale the gradient, all of it, summed over the devices, down to this norm; 0: never.", minimum=0
    )
    label_smoothing: float = option(0.1, "Share of the target spread over all classes.", minimum=0, below=1)
    mixup_alpha: float = option(
        0.0,
        "Mixup: every training image is the weighted mean of two, by a weight of Beta(alpha, alpha); 0.2 is usual on "
        "ImageNet, 0: off.",
        minimum=0,
        maximum=100,
    )
    cutmix_alpha: float = option(
        0.0,
        "Cutmix: a box of another image is pasted in, of a share of the area of Beta(alpha, alpha); 1 is usual, 0: "
        "off. With --mixup_alpha: that for one half of each device's batch, this for the other.",
        minimum=0,
        maximum=100,
    )
    random_erasing: float = option(
        0.0,
        "Probability that a box of 2 to 33 per cent of a training image is filled with noise; 0.25 is usual.",
        minimum=0,
        maximum=1,
    )
    init_from: str = option(
        "",
        "Weights to start from in a model_dir without a checkpoint: the directory of a run or of an import, or a file "
        "that import-weights reads. Where its classes are others, the classifier is new.",
    )
    freeze: str = option(
        "none",
        "What is not trained, and computes as in evaluation: none; backbone, all but the classifier; stages:K, the "
        "stem and the first K stages; blocks:N, the stem and the first N blocks.",
    )
    layer_lr_decay: float = option(
        1.0,
        "Fine-tuning: the learning rate falls by this factor from the classifier to the head, and with every block "
        "below it; 0.9 is usual. 1: the same rate everywhere.",
        above=0,
        maximum=1,
    )
    bn_mode: str = option(
        "auto",
        "Batch norm. train: by the batch's statistics. frozen: by its moving statistics, which stay as they are, "
        "scale and offset too, as with trainable=False in Keras; for weights that have been trained before. "
        "recalibrate: as train, and the statistics that are evaluated are measured anew on training images before "
        "every evaluation. auto: train, and with --init_from by the number of images, which is said with the reason.",
        choices=BN_MODES,
    )
    class_weights: str = option(
        "none",
        "Weight of each class in the loss. none: all alike. balanced: by the inverse of its number of training images, "
        "1 on average over them; for sets of files. Or FILE.json, an object of names and weights, or FILE.csv, with "
        "the columns label and weight: taken as they are.",
    )
    keep_checkpoints: int = option(5, "Newest checkpoints kept besides the best.", minimum=1)


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation"""

    eval_batch_size: int = option(256, "Images in an evaluation or prediction step, over all devices.", minimum=1)
    epochs_per_eval: float = option(1.0, "Epochs between two evaluations and checkpoints.", above=0)
    early_stopping_patience: int = option(
        0, "Stop when so many evaluations in a row have brought no higher top-1 accuracy; 0: never.", minimum=0
    )
    eval_split: str = option("validation", "evaluate: which images; minival: see --minival_percent.", choices=SPLITS)
    checkpoint: str = option("last", "Checkpoint that evaluate, export and predict use.", choices=CHECKPOINTS)


@dataclass(frozen=True)
class VerifyConfig:
    """Proof of resuming"""

    verify_steps: int = option(60, "verify-resume: steps to train, straight and killed.", minimum=2)
    verify_kills: int = option(3, "verify-resume: times that the second run is killed.", minimum=1)


@dataclass(frozen=True)
class OutputConfig:
    """Output"""

    output_dir: str = option("", "Where export writes the model, make-tfrecords its shards, import-weights a run.")
    export_format: str = option(
        "savedmodel",
        "export: what to write, with commas between. A SavedModel fills the directory itself; the others are files in "
        "it, model.keras, model.tflite, model-int8.tflite, model.onnx.",
        parts=EXPORT_FORMATS,
    )
    export_images: int = option(
        64, "export: validation images on which each artefact is compared with the run.", minimum=1
    )
    max_accuracy_drop: float = option(
        5.0,
        "export: an artefact of 8-bit integers is refused if it loses more percentage points of top-1 accuracy on "
        "these images; without labels, if it disagrees with the run on more of those that the run is sure of.",
        minimum=0,
        maximum=100,
    )
    saved_model: str = option(
        "",
        "predict: what export wrote, in place of model_dir: the directory of a SavedModel, or a .keras, .tflite or "
        ".onnx file.",
    )
    top_k: int = option(5, "predict: classes printed for an image.", minimum=1)
    format: str = option("text", "predict: form of the output.", choices=OUTPUT_FORMATS)
    picture: str = option(
        "",
        "predict: also draw the images with their predictions into this PNG file. preview, compare-maps: the file.",
    )
    runs: str = option("", "compare-maps: the model_dirs of the runs to compare, with commas between.")
    cam: str = option(
        "", "predict --model_dir: a folder for class activation maps, which show where the predicted class was seen."
    )
    report: str = option(
        "",
        "check-data: write everything found into this JSON file. evaluate: a folder for a report: a page with tables "
        "and pictures, and files of what is on it.",
    )
    train_shards: int = option(16, "make-tfrecords: number of training shards.", minimum=1, maximum=99999)
    validation_shards: int = option(4, "make-tfrecords: number of validation shards.", minimum=1, maximum=99999)


@dataclass(frozen=True)
class WeightsConfig:
    """Weights import"""

    import_from: str = option(
        "",
        "import-weights: short --from. Weights of keras.applications (.h5, .weights.h5, .keras, or the word imagenet: "
        "they are downloaded), a TensorFlow 1 reference checkpoint, timm's tf_efficientnet_* (.safetensors, .pth, or "
        "their directory), or EfficientNet-PyTorch's and its Lite relative's (.pth).",
    )
    labels: str = option(
        "", "import-weights: file with the names of the classes, one a line. Left out: ImageNet's for 1000 of them."
    )
    tf1_weights: str = option(
        "auto",
        "TensorFlow 1 checkpoints: the average (EMA), which published accuracies belong to, or the raw weights; auto: "
        "the average where there is one.",
        choices=TF1_WEIGHTS,
    )
    parity_python: str = option(
        "",
        "import-weights: a Python interpreter that has PyTorch and the weights' own package, to compare logits with. "
        "Left out: this one, if it has them.",
    )


@dataclass(frozen=True)
class LaunchConfig:
    """Launch"""

    print: bool = option(False, "launch: print the script; the only thing it does so far.")
    tpu_type: str = option(
        "",
        "launch, plan: v2-8, v3-8, v4-8, v5e-8, v5p-8, v6e-8, or a slice of several hosts as v4-32; plan takes "
        "several, with commas.",
    )
    tpu_name: str = option("efficientnet", "launch: what the TPU VM is called.")
    spot: bool = option(False, "launch: a spot TPU: cheaper, and taken away at any time. The script gets another.")
    queued: bool = option(False, "launch: queue for the TPU until there is one.")


@dataclass(frozen=True)
class PlanConfig:
    """Plan"""

    compile: bool = option(
        False, "plan: compile the training step by the TPU compiler, for certainty; minutes, and the extra `plan`."
    )
    plan_step: str = option(
        "train",
        "plan: what is planned: train; evaluation, a step of --eval_batch_size images; serving, the exported function "
        "of prepared images on so many.",
        choices=PLAN_STEPS,
    )
    plan_effort: str = option(
        "full",
        "plan --compile: full; memory, what the program needs, within 2%, in a sixth of the time; then the rest is "
        "modelled.",
        choices=PLAN_EFFORTS,
    )
    largest_batch: bool = option(False, "plan: the largest batch that fits, of every type.")
    price_per_chip_hour: float = option(0.0, "plan: what an hour of one chip costs you, in any currency.", minimum=0)
    host_images_per_second: float = option(
        0.0, "plan: images that one host prepares in a second, as `main.py benchmark input` measures on it.", minimum=0
    )
    num_images: int = option(1_281_167, "plan: training images; left out, ImageNet's.", minimum=1)
    num_classes: int = option(1000, "plan: classes; left out, ImageNet's.", minimum=2)
    plan_table: str = option(
        "", "plan: file that --compile adds its results to and every plan reads. Left out: one in ~/.cache."
    )


@dataclass(frozen=True)
class StudyConfig:
    """Studies of the paper"""

    table: int | None = option(None, "reproduce: the paper's table, 1 to 8.", minimum=1, maximum=8)
    figure: int | None = option(None, "reproduce: the paper's figure: 1, 3, 4, 5 or 8.", minimum=1)
    budget_flops: float | None = option(None, "scale: multiply-adds of an image that may be spent; 1.5e9.", above=0)
    budget_params: float | None = option(None, "scale: parameters that may be spent; 10e6.", above=0)
    budget_latency_ms: float | None = option(
        None, "scale: milliseconds that one image may take, measured on this machine.", above=0
    )
    alpha: float = option(1.2, "scale: factor of the depth for each phi.", minimum=1, maximum=10)
    beta: float = option(1.1, "scale: factor of the width for each phi.", minimum=1, maximum=10)
    gamma: float = option(1.15, "scale: factor of the resolution for each phi.", minimum=1, maximum=10)
    study_flops_factor: float = option(
        4.0, "scaling-study: multiply-adds of the scaled networks, as a multiple of the base's.", above=1, maximum=100
    )
    study_seeds: int = option(3, "scaling-study: trainings of each network, with seeds 0, 1, ...", minimum=1)
    study_workers: int = option(1, "scaling-study, grid-search: trainings at a time, on this machine.", minimum=1)
    grid_step: float = option(0.05, "grid-search: distance of two values of alpha, beta or gamma.", above=0, maximum=1)
    grid_tolerance: float = option(
        0.1, "grid-search: how far alpha * beta^2 * gamma^2 may be from 2.", minimum=0, below=1
    )
    study_storage: str = option(
        "",
        "grid-search: database that workers on many hosts share, as Optuna takes it; left out, a file in --output_dir.",
    )
    study_name: str = option("grid-search", "grid-search: name of the study in its storage.")


@dataclass(frozen=True)
class Config:
    """A whole run. Sections are grouped as `--help` prints them; their docstring is the heading."""

    run: RunConfig = RunConfig()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    hardware: HardwareConfig = HardwareConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    output: OutputConfig = OutputConfig()
    verify: VerifyConfig = VerifyConfig()
    weights: WeightsConfig = WeightsConfig()
    launch: LaunchConfig = LaunchConfig()
    plan: PlanConfig = PlanConfig()
    study: StudyConfig = StudyConfig()


def sections() -> dict[str, type]:
    """Name and class of every section, in the order of `--help`."""
    return {field.name: type(field.default) for field in dataclasses.fields(Config)}


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """`config` with the named options (flag names, in whatever section) replaced and checked.

    Raises UserError for an unknown name or a value outside its limits.
    """
    changes = {}
    known: set[str] = set()
    for section_name, section in sections().items():
        fields = {field.name: field for field in dataclasses.fields(section)}
        kinds = typing.get_type_hints(section)
        known |= fields.keys()
        values = {name: value for name, value in options.items() if name in fields}
        for name, value in values.items():
            _check_type(name, value, kinds[name])
            _check_limits(name, value, fields[name].metadata)
        changes[section_name] = dataclasses.replace(getattr(config, section_name), **values)
    unknown = sorted(options.keys() - known)
    if unknown:
        raise UserError(f"--{unknown[0]}: no such flag.{nearest(unknown[0], known)}")
    return dataclasses.replace(config, **changes)


def options_of(config: Config) -> dict[str, Any]:
    """Every option of a config by flag name: the inverse of `with_options`, ready for JSON."""
    return {name: value for section in sections() for name, value in vars(getattr(config, section)).items()}


_LIMITS = {
    "minimum": (lambda value, limit: value >= limit, "at least"),
    "above": (lambda value, limit: value > limit, "greater than"),
    "maximum": (lambda value, limit: value <= limit, "at most"),
    "below": (lambda value, limit: value < limit, "less than"),
}


def _check_type(name: str, value: Any, kind: Any) -> None:
    """Flags come typed; a run record may have been edited by hand. Integers pass as floats, nothing else."""
    allowed = typing.get_args(kind) or (kind,)
    whole_for_real = isinstance(value, int) and not isinstance(value, bool) and float in allowed
    if not (type(value) in allowed or whole_for_real):
        raise UserError(f"--{name}={value}: must be {' or '.join(one.__name__ for one in allowed)}.")
    if isinstance(value, float) and math.isinf(value):
        raise UserError(f"--{name}={value}: must be a finite number.")


def _check_limits(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    if value is None:
        return
    choices = limits.get("choices")
    if choices and value not in choices:
        raise UserError(f"--{name}={value}: must be one of {', '.join(choices)}.{nearest(str(value), choices)}")
    parts = limits.get("parts", ())
    for part in value.split(",") if parts else ():
        if part not in parts:
            raise UserError(
                f"--{name}={value}: must be of {', '.join(parts)}, with commas between.{nearest(part, parts)}"
            )
    for kind, (holds, words) in _LIMITS.items():
        # `not holds`, so that nan is refused too.
        if kind in limits and not holds(value, limits[kind]):
            raise UserError(f"--{name}={value}: must be {words} {limits[kind]}.")
