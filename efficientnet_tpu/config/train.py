"""The section of how a run is trained. run.json stores it."""

from dataclasses import dataclass

from efficientnet_tpu.config.option import option

OPTIMIZERS = ("rmsprop", "momentum", "sgd", "lars", "adamw")
LEARNING_RATE_SCHEDULES = ("exponential", "cosine", "constant", "poly")
REMATERIALIZATIONS = ("none", "blocks")
FUSED_GRADIENTS = ("auto", "off")
DEFAULT_BATCH_SIZE = 256
BN_MODES = ("auto", "train", "frozen", "recalibrate")


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
    lr_warmup_epochs: float | None = option(
        None,
        "Epochs of linear warm-up from zero. Left out: 5, and a quarter of a run of fewer than 20 epochs.",
        minimum=0,
        before=(5.0,),
    )
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
        "that import-weights reads. Of a run its best checkpoint, unless its own --checkpoint says last. Classes are "
        "matched by name; where they are others, the classifier is new.",
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
