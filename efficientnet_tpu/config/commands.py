"""The sections that one command is asked beside the run it works on. They are never stored."""

from dataclasses import dataclass

from efficientnet_tpu.config.option import option
from efficientnet_tpu.config.profile_steps import read_profile_steps
from efficientnet_tpu.config.shard_part import read_shard_part

TRACKERS = ("none", "wandb", "mlflow", "trackio")
OUTPUT_FORMATS = ("text", "csv", "json", "jsonl")
EXPORT_FORMATS = ("savedmodel", "keras", "tflite", "tflite-int8", "onnx")
TF1_WEIGHTS = ("auto", "average", "raw")
PLAN_EFFORTS = ("full", "memory")
PLAN_STEPS = ("train", "evaluation", "serving")
ENGINES = ("tpu-vm", "gke", "skypilot", "slurm", "vertex")
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
class LaunchConfig:
    """Launch"""

    print: bool = option(False, "Print the script; the only thing it does so far.", commands=("launch",))
    on: str = option(
        "tpu-vm",
        "Where it runs. tpu-vm: a script of gcloud commands; gke: a JobSet for kubectl; skypilot: a task with spot "
        "recovery; slurm: an sbatch script; vertex: a custom job.",
        choices=ENGINES,
        commands=("launch",),
    )
    image: str = option(
        "", "gke, vertex: the container image, made from the Dockerfile of this project.", commands=("launch",)
    )
    gpus: str = option(
        "",
        "gke, skypilot, slurm, vertex: GPUs of each machine in place of a TPU, as A100:4.",
        commands=("launch",),
    )
    num_hosts: int = option(
        1, "slurm, vertex: machines with GPUs that train one network.", minimum=1, maximum=1000, commands=("launch",)
    )
    partition: str = option("", "slurm: the partition; left out, the cluster's default.", commands=("launch",))
    tpu_type: str = option(
        "",
        "v2-8, v3-8, v4-8, v5e-8, v5p-8, v6e-8, or a slice of several hosts as v4-32; plan takes several, with commas.",
        commands=("launch", "plan", "scale", "search"),
    )
    tpu_name: str = option("efficientnet", "What the TPU VM, or the job, is called.", commands=("launch",))
    spot: bool = option(
        False, "A spot TPU: cheaper, and taken away at any time. The script gets another.", commands=("launch",)
    )
    queued: bool = option(
        True,
        "Ask for a queued resource, and wait until there is one; --noqueued creates the TPU VM at once, or fails.",
        commands=("launch",),
    )
    reservation: str = option(
        "", "A reservation by name (gcloud alpha), or any: what is reserved for the project.", commands=("launch",)
    )
    flex_start: bool = option(
        False, "A TPU lent for --max_hours when there is one (gcloud alpha).", commands=("launch",)
    )
    max_hours: float = option(
        0.0,
        "End the machine after so many hours from when it is there, with everything saved; 0: when training has ended.",
        minimum=0,
        maximum=10_000,
        commands=("launch",),
    )
    max_cost: float = option(
        0.0,
        "End the machine when it has cost so much, by --price_per_chip_hour; 0: no limit.",
        minimum=0,
        commands=("launch",),
    )
    vm_network: str = option("", "Network of the TPU VM; left out, the project's default.", commands=("launch",))
    vm_subnetwork: str = option("", "Subnetwork of the TPU VM.", commands=("launch",))
    internal_ips: bool = option(
        False,
        "No external address: commands go through Identity-Aware Proxy, and the network needs a Cloud NAT for the "
        "installation.",
        commands=("launch",),
    )
    service_account: str = option(
        "",
        "The account that the TPU VM reads and writes buckets as; left out, the project's default.",
        commands=("launch",),
    )
    vm_labels: str = option("", "Labels of the machine, as team=vision,cost=research.", commands=("launch",))
    data_disk: str = option(
        "",
        "A persistent disk, as projects/PROJECT/zones/ZONE/disks/NAME, that is mounted read-only as /mnt/data, where "
        "--data_dir may then be.",
        commands=("launch",),
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


@dataclass(frozen=True)
class PlanConfig:
    """Plan"""

    compile: bool = option(
        False,
        "Compile the training step by the TPU compiler, for certainty; minutes, and the extra `plan`.",
        commands=("plan",),
    )
    plan_step: str = option(
        "train",
        "What is planned: train; evaluation, a step of --eval_batch_size images; serving, the exported function "
        "of prepared images on so many.",
        choices=PLAN_STEPS,
        commands=("plan",),
    )
    plan_effort: str = option(
        "full",
        "--compile: full; memory, what the program needs, within 2%, in a sixth of the time; then the rest is "
        "modelled.",
        choices=PLAN_EFFORTS,
        commands=("plan",),
    )
    largest_batch: bool = option(False, "The largest batch that fits, of every type.", commands=("plan",))
    price_per_chip_hour: str = option(
        "",
        "What an hour of one chip costs you, in any currency: 1.2, or for several kinds of TPU v5e=1.2,v6e=2.7. Left "
        "out: a list price, of a date that is said.",
        commands=("plan", "launch"),
    )
    host_images_per_second: float = option(
        0.0,
        "Images that one host prepares in a second, as `main.py benchmark input` measures on it.",
        minimum=0,
        commands=("plan",),
    )
    host_cpu_ms: float = option(
        0.0,
        "CPU milliseconds that preparing an image takes, as `main.py benchmark input` measures; left out, as they were "
        "measured for ImageNet's photographs on another machine.",
        minimum=0,
        commands=("plan",),
    )
    num_images: int = option(
        1_281_167,
        "Training images; left out, those of --data_dir, or ImageNet's.",
        minimum=1,
        commands=("plan",),
    )
    num_classes: int = option(1000, "Classes; left out, ImageNet's.", minimum=2, commands=("plan", "scale"))
    plan_table: str = option(
        "",
        "File that --compile adds its results to and every plan reads. Left out: one in ~/.cache.",
        path=True,
        commands=("plan", "scale", "search"),
    )
