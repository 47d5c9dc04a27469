"""What a command is asked beside the run it works on: sections that are never stored."""

from dataclasses import dataclass

from efficientnet_tpu.config.option import option

OUTPUT_FORMATS = ("text", "csv", "json")
EXPORT_FORMATS = ("savedmodel", "keras", "tflite", "tflite-int8", "onnx")
TF1_WEIGHTS = ("auto", "average", "raw")
PLAN_EFFORTS = ("full", "memory")
PLAN_STEPS = ("train", "evaluation", "serving")


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
