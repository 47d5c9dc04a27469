"""Starts a training from existing weights: a run's, an import's, or those of another program's file."""

import os
from dataclasses import replace

import keras
import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.sources.imagenet_classes import are_imagenets, same_classes
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Architecture
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run import checkpoint, run_record
from efficientnet_tpu.training import ema
from efficientnet_tpu.weights.assign_weights import assign_weights, weights_by_name
from efficientnet_tpu.weights.name_mapping import CLASSIFIER, NameMapping, count_classes, match_names
from efficientnet_tpu.weights.weight_file import open_weight_file, stated_normalization


def with_normalization(config: Config) -> Config:
    """Returns the config with the --normalization of the weights that the run starts from, where none was given.

    A network must see images that are normalized as those it was trained on.
    """
    path = config.train.init_from
    if not path or config.model.normalization != "model":
        return config
    if tf.io.gfile.exists(os.path.join(path, run_record.RUN_JSON)):
        stated = run_record.load(path).config.model.normalization
    else:
        architecture = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
        stated = stated_normalization(path, architecture, config.weights.tf1_weights)
    return with_options(config, {"normalization": stated})


def start_from(
    path: str, model: keras.Model, average: keras.Model, config: Config, label_names: tuple[str, ...]
) -> str:
    """Assigns weights to `model` and its `average` before the first step; returns a line on what was assigned.

    path: the directory of a run (trained or imported), whose average is taken, or any file that `import-weights` reads.
    config, label_names: the new run's.
    If the classes are others, the classifier starts at zero. Must be called outside of a replica. Raises UserError for
    weights of another model.
    """
    architecture = configured_architecture(config.model, len(label_names))
    if tf.io.gfile.exists(os.path.join(path, run_record.RUN_JSON)):
        is_same, num_stored = _assign_from_run(path, model, architecture, label_names)
    else:
        is_same, num_stored = _assign_from_file(path, model, architecture, config, label_names)
    if is_same:
        head = f"the classifier of its {num_stored} classes too"
    else:
        # At zero the classifier sends no gradient into the trained layers before it has learned. The initialization of
        # training from scratch is uniform up to 1 / sqrt(number of classes), whatever the number of features. With
        # 1,280 features and 5 classes the first loss was 6 to 10, and its gradient spoiled what had been learned.
        # Kolesnikov et al. 2020 (Big Transfer) start at zero too.
        for name, weight in weights_by_name(model).items():
            if name.startswith(CLASSIFIER):
                weight.assign(tf.zeros_like(weight))
        theirs = f"those of the weights are {num_stored} others" if num_stored else "the weights have no classifier"
        head = f"the classifier of {len(label_names)} classes is new: {theirs}"
    ema.start(average, model)
    return f"starting from the weights in {path}; {head}"


def _assign_from_run(
    path: str, model: keras.Model, architecture: Architecture, label_names: tuple[str, ...]
) -> tuple[bool, int]:
    """Returns whether the classes are the same, and the number of classes of the weights."""
    record = run_record.load(path)
    stored = configured_architecture(record.config.model, len(record.label_names))
    if _without_free_options(stored) != _without_free_options(architecture):
        options = ("width_coefficient", "depth_coefficient", "normalization", "batch_norm_epsilon")
        described = ", ".join(f"{name}={getattr(record.config.model, name)}" for name in options)
        raise UserError(
            f"--init_from={path}: holds the weights of {stored.name} (options {described}), this run "
            f"trains {architecture.name}. Give the same --model and the same of these options, or other weights."
        )
    with distribution.precision("float32"):
        trained = build_model(stored)
    checkpoint.restore_average(trained, path, "last")
    is_same = same_classes(record.label_names, label_names)
    weights = weights_by_name(trained)
    for name, weight in weights_by_name(model).items():
        if is_same or not name.startswith(CLASSIFIER):
            weight.assign(weights[name].numpy())
    return is_same, len(record.label_names)


def _assign_from_file(
    path: str, model: keras.Model, architecture: Architecture, config: Config, label_names: tuple[str, ...]
) -> tuple[bool, int]:
    """Returns whether the classes are the same, and the number of classes of the weights, 0 without a classifier."""
    with open_weight_file(path, architecture, config.weights.tf1_weights) as weight_file:
        for note in weight_file.notes:
            print(note, flush=True)
        num_stored = count_classes(weight_file.tensors, weight_file.naming_scheme, architecture)
        stored = replace(architecture, num_classes=num_stored or architecture.num_classes)
        mapping = match_names(weight_file.path, weight_file.tensors, weight_file.naming_scheme, stored)
        # A file has no names of classes; 1000 of them are ImageNet's.
        is_same = num_stored == len(label_names) and (num_stored != NUM_IMAGENET_CLASSES or are_imagenets(label_names))
        pairs = {name: where for name, where in mapping.pairs.items() if is_same or not name.startswith(CLASSIFIER)}
        assign_weights(model, weight_file.path, weight_file.tensors, NameMapping(pairs, mapping.ignored))
    return is_same, num_stored or 0


def _without_free_options(architecture: Architecture) -> Architecture:
    """Returns the architecture without the options that may differ between two networks with the same weights."""
    blocks = tuple(replace(block, drop_rate=0.0) for block in architecture.blocks)
    return replace(
        architecture, name="", resolution=0, num_classes=0, dropout_rate=0.0, batch_norm_momentum=0.0, blocks=blocks
    )
