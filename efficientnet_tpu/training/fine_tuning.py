"""The trained part of a model, and its learning rates: --freeze, --bn_mode and --layer_lr_decay.

Frozen layers are Keras' own `layer.trainable = False`: no gradient, no slot in the optimizer, no L2. They compute as in
evaluation: batch norm uses its moving statistics and keeps them, and no block is dropped. The dropout before the
classifier belongs to the classifier.
"""

import math

import keras

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import BATCH_NORM_MOMENTUM, Architecture
from efficientnet_tpu.models.layer_costs import frozen_parts
from efficientnet_tpu.models.layers import BatchNormalization
from efficientnet_tpu.training.learning_rate import make_schedule

# Sets of 100 to 2,982 images did better with batch norm frozen (docs/fine_tuning.md); larger sets were not measured.
FEW_IMAGES = 5000
# With rmsprop at the rate of training from scratch a network with frozen batch norm fell to chance; lars and adamw were
# not measured.
GENTLE_OPTIMIZERS = ("momentum", "sgd")


def freeze(model: keras.Model, architecture: Architecture, train_config: TrainConfig) -> None:
    """Sets `trainable` of the frozen layers to False. Call it before the optimizer is built."""
    parts = tuple(f"{part}_" for part in frozen_parts(train_config.freeze, architecture))
    # Keras then runs a frozen batch norm in inference mode, with gamma and beta fixed too.
    for layer in model.layers:
        is_frozen_statistic = train_config.bn_mode == "frozen" and isinstance(layer, BatchNormalization)
        if layer.name.startswith(parts) or is_frozen_statistic:
            layer.trainable = False


def choose_batch_norm(config: Config, num_images: int) -> tuple[str, str]:
    """Returns the --bn_mode that auto stands for, and a line with the reason; "" where there is no choice.

    Pretrained batch norm stays frozen for a small set (measured in docs/fine_tuning.md), and in a run too short to
    renew the moving statistics, which evaluation uses.
    """
    if not config.train.init_from:
        return "train", ""
    steps = make_schedule(config.train, num_images).total_steps
    given = config.model.batch_norm_momentum
    momentum = BATCH_NORM_MOMENTUM if given is None else given
    needed = steps_to_renew_statistics(momentum)
    if config.train.optimizer not in GENTLE_OPTIMIZERS:
        why = f"frozen ones were better with --optimizer=momentum only, not with {config.train.optimizer}"
        return "train", f"batch norm: trained statistics, because {why}; --bn_mode=frozen to change"
    if num_images < FEW_IMAGES:
        why = f"{num_images:,} training images are fewer than {FEW_IMAGES:,}"
    elif steps < needed:
        why = f"{steps:,} steps are fewer than the {needed:,} that renew them (--batch_norm_momentum={momentum:g})"
    else:
        why = f"{num_images:,} training images and {steps:,} steps are enough for new ones"
        return "train", f"batch norm: trained statistics, because {why}; --bn_mode=frozen to change"
    return "frozen", f"batch norm: frozen statistics, because {why}; --bn_mode=train to change"


def steps_to_renew_statistics(momentum: float) -> int:
    """Returns the steps after which 1% of batch norm's initial statistics is left: 459 with momentum 0.99."""
    return math.ceil(math.log(0.01) / math.log(momentum)) if momentum else 1


def learning_rate_factors(model: keras.Model, architecture: Architecture, decay: float) -> list[float]:
    """Returns the factor of the learning rate for each trainable weight.

    It is 1 for the classifier, `decay` for the head, decay^2 for the last block, and so on down to the stem. Lower
    layers are more general and need to change less (Howard & Ruder 2018, arXiv:1801.06146, discriminative fine-tuning).
    """
    parts = ["stem", *(f"block_{index}" for index in range(len(architecture.blocks))), "head", "classifier"]
    part_of = {
        id(weight): next(part for part in parts if layer.name.startswith(f"{part}_") or layer.name == part)
        for layer in model.layers
        for weight in layer.trainable_weights
    }
    factors = {part: decay ** (len(parts) - 1 - depth) for depth, part in enumerate(parts)}
    return [factors[part_of[id(weight)]] for weight in model.trainable_weights]


def require_weights(train_config: TrainConfig, has_weights: bool) -> None:
    """Raises UserError where weights are to be frozen that are random."""
    if has_weights or (train_config.freeze == "none" and train_config.bn_mode != "frozen"):
        return
    flag = f"--freeze={train_config.freeze}" if train_config.freeze != "none" else "--bn_mode=frozen"
    raise UserError(f"{flag}: there are no trained weights to keep. Name some: --init_from=RUN_OR_IMPORT_OR_FILE.")


def parameter_counts(model: keras.Model) -> tuple[int, int]:
    """Returns the number of trained and of frozen parameters. Moving statistics are neither."""
    # A frozen weight is in `weights`, not in `trainable_weights`.
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    total = sum(math.prod(weight.shape) for weight in model.weights if not weight.name.startswith("moving_"))
    return trained, total - trained


def describe_frozen(model: keras.Model, train_config: TrainConfig) -> str:
    """Returns a line that says what is frozen; empty when nothing is."""
    trained, frozen = parameter_counts(model)
    if not frozen:
        return ""
    flags = [f"--freeze={train_config.freeze}"] if train_config.freeze != "none" else []
    flags += ["--bn_mode=frozen"] if train_config.bn_mode == "frozen" else []
    return f"trained are {trained:,} parameters, frozen {frozen:,} ({', '.join(flags)})"
