"""The sections that one command is asked beside the run it works on. They are never stored."""

from dataclasses import dataclass

from efficientnet_tpu.config.option import option
from efficientnet_tpu.config.profile_steps import read_profile_steps
from efficientnet_tpu.config.shard_part import read_shard_part

TRACKERS = ("none", "wandb", "mlflow", "trackio")
OUTPUT_FORMATS = ("text", "csv", "json", "jsonl")
EXPORT_FORMATS = ("savedmodel", "keras", "tflite", "tflite-int8", "onnx")
TF1_WEIGHTS = ("auto", "average", "raw")
_LARGEST_BATCH = 1 << 20
ALL_RUNTIMES = "installed"
RUNTIME_NAMES = ("tensorflow", "litert", "onnxruntime")
_THAT_TRAIN = ("train_and_eval", "launch", "verify-resume", "grid-search", "scaling-study", "search")


def read_batch_sizes(text: str) -> list[int]:
    """Reads --batch_sizes; an empty text is none. Raises ValueError for anything but whole numbers above 0."""
    sizes = [int(part) if part.isascii() and part.isdigit() else 0 for part in text.split(",")] if text else []
    if not all(0 < size <= _LARGEST_BATCH for size in sizes):
        raise ValueError(f"whole numbers from 1 to {_LARGEST_BATCH:,}, with commas between")
    return sizes


@dataclass(frozen=True)
class VerifyConfig:
    """Proof of resuming"""

    verify_steps: int = option(60, "Steps to train, straight and killed.", minimum=2, commands=("verify-resume",))
    verify_kills: int = option(3, "Times that the second run is killed.", minimum=1, commands=("verify-resume",))


@dataclass(frozen=True)
class OutputConfig:
    """Output"""

    output_dir: str = option(
        "",
        "Where export writes the model, make-tfrecords its shards, import-weights a run, report its page (left out: "
        "RUN/report).",
        path=True,
        commands=(
            *("export", "make-tfrecords", "import-weights", "reproduce"),
            *("grid-search", "scaling-study", "search", "paper-miniature", "search-report", "compare", "report"),
        ),
    )
    quiet: bool = option(False, "Print evaluations and what needs attention, no steps.", commands=("train_and_eval",))
    verbose: bool = option(
        False,
        "plan: also print the tables of memory, operations and time. Training: print a line for each interval in place "
        "of the display at the bottom of a terminal, and TensorFlow's own messages.",
        commands=("plan", "train_and_eval"),
    )
    log_to: str = option(
        "none",
        "A service that also keeps the run's numbers and options; its package is an extra. Its environment variables "
        "say where and as whom.",
        choices=TRACKERS,
        commands=("train_and_eval",),
    )
    profile_steps: str = option(
        "",
        "Profile these steps, 100:110 for ten from step 100 on, for xprof and TensorBoard (extra profile).",
        parse=read_profile_steps,
        commands=("train_and_eval",),
    )
    export_format: str = option(
        "savedmodel",
        "What to write, with commas between. A SavedModel fills the directory itself; the others are files in "
        "it, model.keras, model.tflite, model-int8.tflite, model.onnx. An export of the same weights that is in "
        "--output_dir is added to.",
        parts=EXPORT_FORMATS,
        commands=("export",),
    )
    versioned: bool = option(
        False,
        "Write the next numbered folder in --output_dir: 1, 2, ..., as TensorFlow Serving reads versions of a model.",
        commands=("export",),
    )
    export_images: int = option(
        64, "Validation images on which each artefact is compared with the run.", minimum=1, commands=("export",)
    )
    max_accuracy_drop: float = option(
        5.0,
        "An artefact of 8-bit integers is refused if it loses more percentage points of top-1 accuracy on "
        "these images; without labels, if it disagrees with the run on more of those that the run is sure of.",
        minimum=0,
        maximum=100,
        commands=("export",),
    )
    saved_model: str = option(
        "",
        "What export wrote, in place of model_dir: the directory of a SavedModel, or of numbered versions of one, of "
        "which it takes the newest, or a .keras, .tflite or .onnx file.",
        path=True,
        commands=("predict", "benchmark"),
    )
    trust: bool = option(
        False,
        "Run whatever the model of --saved_model contains: operations on files, Python, code. For models by people "
        "whose programs you would run.",
        commands=("predict", "benchmark"),
    )
    top_k: int = option(5, "Classes printed for an image.", minimum=1, commands=("predict",))
    format: str = option(
        "text",
        "Form of what is printed; jsonl: a JSON object a line.",
        choices=OUTPUT_FORMATS,
        commands=("predict", "doctor", "models"),
    )
    layers: bool = option(False, "List the layers of --model: what each costs and sees.", commands=("models",))
    output: str = option(
        "",
        "A file for the predictions in place of stdout, by its ending .csv, .jsonl or .parquet; FILE.partial until it "
        "is whole.",
        path=True,
        commands=("predict",),
    )
    embeddings: str = option(
        "",
        "A .npy file for the features of the images, float32 [images, features], rows in the order of the output.",
        path=True,
        commands=("predict",),
    )
    picture: str = option(
        "",
        "predict: also draw the images with their predictions into this PNG file. preview, compare-maps: the file.",
        path=True,
        commands=("predict", "preview", "compare-maps"),
    )
    runs: str = option(
        "", "The model_dirs of the runs to compare, with commas between.", path="list", commands=("compare-maps",)
    )
    searches: str = option(
        "",
        "The --output_dirs of the searches to report, with commas between.",
        path="list",
        commands=("search-report",),
    )
    cam: str = option(
        "",
        "With --model_dir: a folder for class activation maps, which show where the predicted class was seen.",
        path=True,
        commands=("predict",),
    )
    report: str = option(
        "",
        "check-data, benchmark: write everything found into this JSON file. evaluate: a folder for the page of "
        "`report`, and files of what is on it.",
        path=True,
        commands=("evaluate", "check-data", "benchmark"),
    )
    train_shards: int | None = option(
        None,
        "Number of training shards. Left out: the largest power of two that leaves 1,000 images to each, 64 at least; "
        "1024 for ImageNet.",
        minimum=1,
        maximum=99999,
        commands=("make-tfrecords",),
    )
    validation_shards: int | None = option(
        None,
        "Number of validation shards. Left out: the largest power of two that leaves 256 images to each, 4 at least; "
        "128 for ImageNet.",
        minimum=1,
        maximum=99999,
        commands=("make-tfrecords",),
    )
    shards: str = option(
        "",
        "Which of the shards this machine writes: K/N, the K-th (from 1) of N parts, which together are the set that "
        "one machine would write; verify: read all parts, and complete the set, with --output_dir alone. Left out: "
        "all shards.",
        parse=read_shard_part,
        commands=("make-tfrecords",),
    )
    max_side: int | None = option(
        None,
        "Write reduced copies: of an image whose longer side has more pixels than this, a JPEG whose longer side has "
        "as many. Left out: files as they are.",
        minimum=1,
        commands=("make-tfrecords",),
    )
    quality: int | None = option(
        None,
        "--max_side: quality of the JPEGs. Left out: 90.",
        minimum=1,
        maximum=100,
        commands=("make-tfrecords",),
    )


@dataclass(frozen=True)
class WeightsConfig:
    """Weights import"""

    import_from: str = option(
        "",
        "Weights of keras.applications (.h5, .weights.h5, .keras, or the word imagenet: "
        "they are downloaded), a TensorFlow 1 reference checkpoint, timm's tf_efficientnet_* (.safetensors, .pth, or "
        "their directory), or EfficientNet-PyTorch's and its Lite relative's (.pth).",
        path=True,
        alias="from",
        commands=("import-weights",),
    )
    labels: str = option(
        "",
        "File with the names of the classes, one a line. Left out: ImageNet's for 1000 of them.",
        path=True,
        commands=("import-weights",),
    )
    tf1_weights: str = option(
        "auto",
        "TensorFlow 1 checkpoints: the average (EMA), which published accuracies belong to, or the raw weights; auto: "
        "the average where there is one.",
        choices=TF1_WEIGHTS,
        commands=(
            "import-weights",
            "train_and_eval",
            "launch",
            "verify-resume",
            "grid-search",
            "scaling-study",
            "search",
        ),
    )
    source_model: str = option(
        "",
        "timm's name of the model that a file of timm's is, as tf_efficientnet_b0 or tf_efficientnet_b0.ap_in1k, where "
        "neither a config.json beside it nor its path says so.",
        commands=(
            "import-weights",
            "train_and_eval",
            "launch",
            "verify-resume",
            "grid-search",
            "scaling-study",
            "search",
        ),
    )
    parity_python: str = option(
        "",
        "A Python interpreter that has PyTorch and the weights' own package, to compare logits with. "
        "Left out: this one, if it has them.",
        path=True,
        commands=("import-weights",),
    )


@dataclass(frozen=True)
class DoctorConfig:
    """Doctor"""

    deep: bool = option(
        False,
        "Also start TensorFlow, make a step on its devices, and write and delete a file in a --model_dir on gs://.",
        commands=("doctor",),
    )


@dataclass(frozen=True)
class BenchmarkConfig:
    """Benchmark of training steps and of inference"""

    batch_sizes: str = option(
        "",
        "Images in a call, one row each, with commas between. Left out: 1,8,32; of train 8,32.",
        parse=read_batch_sizes,
        commands=("benchmark",),
    )
    runtimes: str = option(
        ALL_RUNTIMES,
        "inference: the runtimes to measure, with commas between; installed: all that are, or the one that reads "
        "--saved_model.",
        parts=(ALL_RUNTIMES, *RUNTIME_NAMES),
        commands=("benchmark",),
    )
    seconds: float = option(
        3.0, "Time that each row is measured for, 10 calls at least.", above=0, maximum=3600, commands=("benchmark",)
    )
