"""The sections that define a run, but for those of images and training. run.json stores them."""

from dataclasses import dataclass

from efficientnet_tpu.config.option import option

PRECISIONS = ("auto", "float32", "bfloat16")
CHECKPOINTS = ("auto", "best", "last")
SPLITS = ("validation", "minival", "test", "train", "all")
EVALUATED_CLASSES = ("all", "present")
NORMALIZATIONS = ("model", "imagenet", "lite", "advprop", "unit", "imagenet-sqrt-std")
INTERPOLATIONS = ("model", "bicubic", "bilinear")


@dataclass(frozen=True)
class RunConfig:
    """Run"""

    model_dir: str = option(
        "",
        "Directory of the run: configuration, checkpoints, logs. Local or gs://.",
        path=True,
        per_host=True,
        commands=("evaluate", "export", "predict", "benchmark", "reproduce", "search-report"),
    )
    seed: int = option(
        0,
        "Seed of weights, order of images and every random draw.",
        minimum=0,
        maximum=2**31 - 1,
        # It has decided the order of the images so far.
        may_change="after training",
        commands=("make-tfrecords", "preview", "benchmark", "grid-search", "search"),
    )
    minutes_per_save: float = option(
        30.0,
        "Save after this many minutes too, not only with every evaluation; SIGTERM, SIGHUP, SIGUSR1 and Ctrl-C save "
        "as well.",
        above=0,
        commands=("grid-search", "scaling-study", "search", "paper-miniature"),
    )
    stop_at_step: int = option(
        0, "Save and stop at this step; the same command goes on from there. 0: train to the end.", minimum=0
    )


@dataclass(frozen=True)
class ModelConfig:
    """Model"""

    model: str = option(
        "efficientnet-b0",
        "Model name; `main.py models` lists them. Also efficientnet-phi<number>.",
        may_change="never",
        changes_step=True,
    )
    stage_table: str = option(
        "",
        "In place of --model: a network of your own, a table of stages in FILE.csv or FILE.json (docs/paper.md).",
        path=True,
        alias="baseline",
        may_change="never",
        changes_step=True,
    )
    width_coefficient: float | None = option(
        None,
        "Override the model's width coefficient.",
        above=0,
        maximum=20,
        may_change="never",
        changes_step=True,
        scaled=True,
    )
    depth_coefficient: float | None = option(
        None,
        "Override the model's depth coefficient.",
        above=0,
        maximum=20,
        may_change="never",
        changes_step=True,
        scaled=True,
    )
    resolution: int | None = option(
        None,
        "Override the model's image side, in pixels.",
        minimum=1,
        maximum=4096,
        may_change="after training",
        changes_step=True,
        scaled=True,
    )
    dropout_rate: float | None = option(
        None,
        "Override the dropout before the classifier.",
        minimum=0,
        below=1,
        may_change="after training",
        changes_step=True,
    )
    survival_prob: float | None = option(
        None,
        "Override the model's stochastic depth: probability that the last block survives; 1 disables. EfficientNets "
        "have 0.8, other models 1.",
        above=0,
        maximum=1,
        may_change="after training",
        changes_step=True,
    )
    normalization: str = option(
        "model",
        "How pixels are normalised. model: as the model is; imagenet: by ImageNet's mean and deviation; lite: "
        "(x - 127) / 128; advprop: x / 127.5 - 1, as AdvProp's weights want it; unit: x / 255, as keras.applications "
        "trains without its weights; imagenet-sqrt-std: (x / 255 - mean) / sqrt(std), as it does where they were "
        "loaded later. Left at model, import-weights and --init_from take over what the weights state.",
        choices=NORMALIZATIONS,
        may_change="never",
    )
    interpolation: str = option(
        "model",
        "How images are resized, by a kernel of TensorFlow 1. model: as the model is, Lite bilinear, others bicubic.",
        choices=INTERPOLATIONS,
        before=("bicubic",),
    )
    batch_norm_momentum: float | None = option(
        None,
        "Decay of batch norm's moving statistics. Left out: 0.99, and less in a run of under 2,500 steps, which they "
        "could not follow.",
        minimum=0,
        below=1,
        may_change="after training",
        before=(0.99,),
    )
    batch_norm_epsilon: float = option(1e-3, "Added to batch norm's variance.", above=0, may_change="never")


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
    precision: str = option(
        "auto",
        "auto: bfloat16 on TPU, float32 elsewhere. On a CPU without instructions for it bfloat16 is slower.",
        choices=PRECISIONS,
        changes_step=True,
        commands=("plan",),
    )
    steps_per_loop: int = option(
        1000, "Most training steps inside one compiled call; it is given about ten seconds' worth.", minimum=1
    )
    intra_op_threads: int = option(
        0,
        "CPU threads inside one operation. 0: all cores when training on the CPU, 1 beside a GPU or TPU, where the CPU "
        "prepares images, each on a thread of its own. Very small networks are faster with 1.",
        minimum=0,
        per_host=True,
    )
    cache: str = option(
        "",
        "Keep large photographs reduced to what the run's crops can use, so that each is decoded once: memory, in half "
        "of the memory that is left; or a directory of its own, for further runs too. Crops stay where they are; see "
        "docs/data.md. Image files in folders and lists, in training and evaluation.",
        path=True,
        per_host=True,
    )
    memory_check: bool = option(
        True,
        "Estimate the memory that training needs, and refuse before it starts what does not fit; --nomemory_check "
        "trains all the same.",
        per_host=True,
    )
    virtual_replicas: int = option(
        0, "Split the CPU into this many devices: rehearses a multi-device run without one.", minimum=0, maximum=512
    )


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation"""

    eval_batch_size: int = option(256, "Most images in an evaluation or prediction step, over all devices.", minimum=1)
    validation_scan: bool = option(
        True,
        "Before the first step, read the images that the run will be evaluated on, and refuse a set with one that "
        "cannot be read. What was found whole is not read again.",
    )
    epochs_per_eval: float | None = option(
        None,
        "Epochs between two evaluations and checkpoints. Left out: 1, and more where that is less than 20 steps and "
        "less than a tenth of the run.",
        above=0,
        before=(1.0,),
    )
    early_stopping_patience: int = option(
        0, "Stop when so many evaluations in a row have brought no higher top-1 accuracy; 0: never.", minimum=0
    )
    eval_split: str = option(
        "validation",
        "evaluate: which images. validation: those that the run was not trained on; of another data set without such a "
        "split, all. minival: see --minival_percent. test, train: as the data have them. all: every image.",
        choices=SPLITS,
    )
    eval_classes: str = option(
        "all",
        "evaluate: where the images have only some of the run's classes (matched by name), whether it is measured over "
        "all classes, or the others are left out of what the model may say.",
        choices=EVALUATED_CLASSES,
    )
    checkpoint: str = option(
        "auto",
        "Checkpoint that evaluate, export and predict take: best, of the highest top-1 accuracy in the run's "
        "evaluations; last; auto, the best, or the last where nothing was evaluated. ImageNet's recipes say last.",
        choices=CHECKPOINTS,
        before=("last",),
    )
