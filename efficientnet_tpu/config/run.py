"""The sections that define a run. run.json stores them."""

from dataclasses import dataclass

from efficientnet_tpu.config.color import WORDS, read_color
from efficientnet_tpu.config.option import option

PRECISIONS = ("auto", "float32", "bfloat16")
OPTIMIZERS = ("rmsprop", "momentum", "sgd", "lars", "adamw")
LEARNING_RATE_SCHEDULES = ("exponential", "cosine", "constant", "poly")
CHECKPOINTS = ("auto", "best", "last")
SPLITS = ("validation", "minival", "test", "train", "all")
EVALUATED_CLASSES = ("all", "present")
AUGMENTATIONS = ("none", "autoaugment", "autoaugment-cifar10", "autoaugment-svhn", "randaugment")
AUGMENT_SEMANTICS = ("reference", "pil")
REMATERIALIZATIONS = ("none", "blocks")
FUSED_GRADIENTS = ("auto", "off")
NORMALIZATIONS = ("model", "imagenet", "lite", "advprop", "unit", "imagenet-sqrt-std")
INTERPOLATIONS = ("model", "bicubic", "bilinear")
DEFAULT_BATCH_SIZE = 256
HOLD_OUTS = ("class", "name")
BN_MODES = ("auto", "train", "frozen", "recalibrate")


@dataclass(frozen=True)
class RunConfig:
    """Run"""

    model_dir: str = option(
        "",
        "Directory of the run: configuration, checkpoints, logs. Local or gs://.",
        path=True,
        per_host=True,
        commands=("evaluate", "export", "predict", "reproduce"),
    )
    seed: int = option(
        0,
        "Seed of weights, order of images and every random draw.",
        minimum=0,
        maximum=2**31 - 1,
        # It has decided the order of the images so far.
        may_change="after training",
        commands=("make-tfrecords", "preview", "benchmark", "grid-search"),
    )
    minutes_per_save: float = option(
        30.0,
        "Save after this many minutes too, not only with every evaluation; SIGTERM, SIGHUP, SIGUSR1 and Ctrl-C save "
        "as well.",
        above=0,
        commands=("grid-search", "scaling-study"),
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


# What --dataset may be. The rows of data.datasets.SOURCES have these names, up to the colon.
DATASETS = {
    "auto": "look at data_dir",
    "sample": "the embedded Fashion-MNIST",
    "tfds:NAME": "TensorFlow Datasets",
    "fake or fake:CLASSES:TRAIN:VALIDATION": "made-up images for dry runs, as many as ImageNet has or as said",
}
DATASETS_WITHOUT_A_PLACE = ("sample", "fake")  # --data_dir is nothing to them


@dataclass(frozen=True)
class DataConfig:
    """Data"""

    data_dir: str = option(
        "",
        "Images: a folder root/<class>/*.jpg or root/{train,validation,test}/<class>/*.jpg; a manifest, FILE.csv, "
        "FILE.tsv or FILE.jsonl, with the columns path, label, perhaps split; a directory of TFRecord shards (train-*, "
        "validation-*, or train/*.tfrec ...), compressed or not; what TFDS has prepared; or the TFDS data directory. "
        "Local or gs://.",
        path=True,
        per_host=True,
    )
    dataset: str = option(
        "auto",
        " ".join(f"{form}: {meaning}." for form, meaning in DATASETS.items()),
    )
    tfrecord_keys: str = option(
        "",
        "TFRecords of others: what they call image and label, as image=KEY,label=KEY; a label is a number or the name "
        "of a class. Numbers count from 0, with first_label=1 from 1. Left out: the reference's image/encoded and "
        "image/class/label, from 1.",
    )
    validation_percent: int | None = option(
        None,
        "Folder, manifest or TFDS set without a validation split: hold out this share. Left out: 10, and 20 of fewer "
        "than 1,000 images.",
        minimum=1,
        maximum=50,
        before=(10,),
    )
    minival_percent: float = option(
        0.0,
        "Hold out this share of the training images, to choose by, so that the validation images stay unseen: whole "
        "shards of TFRecords, one at least. The paper used 20 of ImageNet's 1024 shards, which is 2.",
        minimum=0,
        maximum=50,
    )
    hold_out_by: str = option(
        "class",
        "Folders and manifests: class, the share of every class, those of its images whose names have the lowest "
        "hashes; name, all images whose names have low hashes, as runs of earlier versions did.",
        choices=HOLD_OUTS,
        before=("name",),
    )
    exif_orientation: bool = option(
        True,
        "Turn pictures as their EXIF data say, which cameras and telephones write; --noexif_orientation takes them as "
        "they are stored, as the reference does.",
        before=(False,),
        commands=("predict",),
    )
    background: str = option(
        "white",
        f"What transparent pictures are laid on: {WORDS}, which drops the opacities and shows whatever is stored below "
        "them.",
        parse=read_color,
        before=("none",),
        commands=("predict",),
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
        commands=("predict", "import-weights"),
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
    precision: str = option(
        "auto", "auto: bfloat16 on TPU, float32 elsewhere.", choices=PRECISIONS, changes_step=True, commands=("plan",)
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
class TrainConfig:
    """Training"""

    train_batch_size: int | None = option(
        None,
        f"Images in a step, over all devices. Left out, or auto: {DEFAULT_BATCH_SIZE}, or the largest power of two "
        "that the training images fill and the memory holds.",
        none_word="auto",
        minimum=1,
        # The step counts batches, and a run's position in its epoch follows from them.
        may_change="after training",
        changes_step=True,
    )
    gradient_accumulation_steps: int = option(
        1,
        "Take each device's part of the batch in so many micro-batches, one after the other, and add up their "
        "gradients for the one update of the step: for batches that do not fit into memory. Batch norm sees "
        "micro-batches, and its moving statistics move with each.",
        minimum=1,
        changes_step=True,
    )
    rematerialize: str = option(
        "none",
        "What the backward pass computes again instead of remembering it: none; blocks, everything within a block of "
        "the network. Larger batches fit, steps take longer, and are otherwise the same.",
        choices=REMATERIALIZATIONS,
        changes_step=True,
    )
    fused_gradients: str = option(
        "auto",
        "auto: train by the faster gradients that TPUs and CPUs have for some layers. off: by TensorFlow's own "
        "everywhere, should a TPU refuse the others; the results differ by rounding only.",
        choices=FUSED_GRADIENTS,
        changes_step=True,
    )
    train_epochs: float = option(350.0, "Passes over the training images.", above=0)
    optimizer: str = option("rmsprop", "Optimizer.", choices=OPTIMIZERS, may_change="after training", changes_step=True)
    base_learning_rate: float = option(0.016, "Learning rate per 256 images of the batch.", above=0)
    learning_rate_schedule: str = option("exponential", "Shape of the decay.", choices=LEARNING_RATE_SCHEDULES)
    lr_decay_factor: float = option(0.97, "Exponential: factor of each step down.", above=0, maximum=1)
    lr_decay_epochs: float = option(2.4, "Exponential: epochs between two steps down.", above=0)
    lr_warmup_epochs: float = option(5.0, "Epochs of linear warm-up from zero.", minimum=0)
    lr_end: float = option(
        0.1, "Poly: the learning rate at the end; absolute, as in the reference, not per 256 images.", minimum=0
    )
    momentum: float = option(0.9, "Momentum of rmsprop, momentum and lars.", minimum=0, below=1, changes_step=True)
    rmsprop_decay: float = option(0.9, "Decay of rmsprop's mean square.", minimum=0, below=1)
    rmsprop_epsilon: float = option(1e-3, "Added to rmsprop's mean square, inside the root.", above=0)
    moving_average_decay: float = option(
        0.9999,
        "Decay of the average of the weights (EMA) that is evaluated and exported; 0: the weights themselves.",
        minimum=0,
        below=1,
        changes_step=True,
    )
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
        0.0,
        "Scale the gradient, all of it, summed over the devices, down to this norm; 0: never.",
        minimum=0,
        changes_step=True,
    )
    label_smoothing: float = option(0.1, "Share of the target spread over all classes.", minimum=0, below=1)
    mixup_alpha: float = option(
        0.0,
        "Mixup: every training image is the weighted mean of two, by a weight of Beta(alpha, alpha); 0.2 is usual on "
        "ImageNet, 0: off.",
        minimum=0,
        maximum=100,
        changes_step=True,
    )
    cutmix_alpha: float = option(
        0.0,
        "Cutmix: a box of another image is pasted in, of a share of the area of Beta(alpha, alpha); 1 is usual, 0: "
        "off. With --mixup_alpha: that for one half of each device's batch, this for the other.",
        minimum=0,
        maximum=100,
        changes_step=True,
    )
    random_erasing: float = option(
        0.0,
        "Probability that a box of 2 to 33 per cent of a training image is filled with noise; 0.25 is usual.",
        minimum=0,
        maximum=1,
        changes_step=True,
    )
    init_from: str = option(
        "",
        "Weights to start from in a model_dir without a checkpoint: the directory of a run or of an import, or a file "
        "that import-weights reads. Classes are matched by name; where they are others, the "
        "classifier is new.",
        path=True,
    )
    freeze: str = option(
        "none",
        "What is not trained, and computes as in evaluation: none; backbone, all but the classifier; stages:K, the "
        "stem and the first K stages; blocks:N, the stem and the first N blocks.",
        # What is frozen has no slots in the optimizer.
        may_change="after training",
        changes_step=True,
    )
    layer_lr_decay: float = option(
        1.0,
        "Fine-tuning: the learning rate falls by this factor from the classifier to the head, and with every block "
        "below it; 0.9 is usual. 1: the same rate everywhere.",
        above=0,
        maximum=1,
        changes_step=True,
    )
    bn_mode: str = option(
        "auto",
        "Batch norm. train: by the batch's statistics. frozen: by its moving statistics, which stay as they are, "
        "scale and offset too, as with trainable=False in Keras; for weights that have been trained before. "
        "recalibrate: as train, and the statistics that are evaluated are measured anew on training images before "
        "every evaluation. auto: train, and with --init_from by the number of images, which is said with the reason.",
        choices=BN_MODES,
        may_change="after training",
        changes_step=True,
    )
    class_weights: str = option(
        "none",
        "Weight of each class in the loss. none: all alike. balanced: by the inverse of its number of training images, "
        "1 on average over them; for sets of files. Or FILE.json, an object of names and weights, or FILE.csv, with "
        "the columns label and weight: taken as they are.",
        path=True,
        changes_step=True,
    )
    keep_checkpoints: int = option(5, "Newest checkpoints kept besides the best.", minimum=1)

    @property
    def batch_size(self) -> int:
        """The images of a step: of a run that has begun, its own number."""
        return self.train_batch_size or DEFAULT_BATCH_SIZE


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
