"""Starting a training from weights that are there: those of a run, of an import, or of a file of somebody else's."""

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
from efficientnet_tpu.weights.assign_weights import fill, weights_by_name
from efficientnet_tpu.weights.name_mapping import CLASSIFIER, Mapping, match, num_classes
from efficientnet_tpu.weights.weight_file import open_source, stated_normalization


def with_normalization(config: Config) -> Config:
    """The config of a run that starts from weights, with their --normalization where none was given: what they were
    trained with, they go on with.
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
    """Fills `model` and its `average`, before the first step; returns a line that says with what.

    path: a run's directory (trained or imported), of which the average is taken, or what `import-weights` reads.
    config and label_names are the new run's. Where the classes are others, the classifier starts at zero (see
    `_start_classifier`). To be called outside of a replica. Raises UserError for weights of another model.
    """
    architecture = configured_architecture(config.model, len(label_names))
    if tf.io.gfile.exists(os.path.join(path, run_record.RUN_JSON)):
        same, stored = _fill_from_run(path, model, architecture, label_names)
    else:
        same, stored = _fill_from_source(path, model, architecture, config, label_names)
    if not same:
        _start_classifier(model)
    ema.start(average, model)
    return f"starting from the weights in {path}; {_head(same, stored, len(label_names))}"


def _start_classifier(model: keras.Model) -> None:
    """Zeros: all classes alike, and no gradient into the trained layers before the classifier has learned something.

    The initialisation of training from scratch is uniform up to 1 / sqrt(number of classes), whatever the number of
    features: with 1,280 of them and 5 classes the first loss was 6 to 10, and its gradient spoiled what had been
    learned. Kolesnikov et al. 2020 (Big Transfer) start at zero too.
    """
    for name, weight in weights_by_name(model).items():
        if name.startswith(CLASSIFIER):
            weight.assign(tf.zeros_like(weight))


def _fill_from_run(
    path: str, model: keras.Model, architecture: Architecture, label_names: tuple[str, ...]
) -> tuple[bool, int]:
    """Returns whether the classes are the same, and how many the weights have."""
    record = run_record.load(path)
    stored = configured_architecture(record.config.model, len(record.label_names))
    if _what_weights_depend_on(stored) != _what_weights_depend_on(architecture):
        raise UserError(
            f"--init_from={path}: holds the weights of {stored.name} (options {_options(record.config)}), this run "
            f"trains {architecture.name}. Give the same --model and the same of these options, or other weights."
        )
    with distribution.precision("float32"):
        source = build_model(stored)
    checkpoint.restore_average(source, path, "last")
    same = same_classes(record.label_names, label_names)
    weights = weights_by_name(source)
    for name, weight in weights_by_name(model).items():
        if same or not name.startswith(CLASSIFIER):
            weight.assign(weights[name].numpy())
    return same, len(record.label_names)


def _fill_from_source(
    path: str, model: keras.Model, architecture: Architecture, config: Config, label_names: tuple[str, ...]
) -> tuple[bool, int]:
    """The same of a file; 0 classes where it has no classifier."""
    with open_source(path, architecture, config.weights.tf1_weights) as source:
        for note in source.notes:
            print(note, flush=True)
        classes = num_classes(source.tensors, source.naming, architecture)
        stored = replace(architecture, num_classes=classes or architecture.num_classes)
        mapping = match(source.path, source.tensors, source.naming, stored)
        # A file has no names of classes; 1000 of them are ImageNet's.
        same = classes == len(label_names) and (classes != NUM_IMAGENET_CLASSES or are_imagenets(label_names))
        pairs = {name: where for name, where in mapping.pairs.items() if same or not name.startswith(CLASSIFIER)}
        fill(model, source.path, source.tensors, Mapping(pairs, mapping.ignored))
    return same, classes or 0


def _head(same: bool, stored: int, ours: int) -> str:
    if same:
        return f"the classifier of its {stored} classes too"
    theirs = f"those of the weights are {stored} others" if stored else "the weights have no classifier"
    return f"the classifier of {ours} classes is new: {theirs}"


def _what_weights_depend_on(architecture: Architecture) -> Architecture:
    """The architecture with everything made equal that other weights are not needed for."""
    blocks = tuple(replace(block, drop_rate=0.0) for block in architecture.blocks)
    return replace(
        architecture, name="", resolution=0, num_classes=0, dropout_rate=0.0, batch_norm_momentum=0.0, blocks=blocks
    )


def _options(config: Config) -> str:
    model = config.model
    return (
        f"width_coefficient={model.width_coefficient}, depth_coefficient={model.depth_coefficient}, "
        f"normalization={model.normalization}, batch_norm_epsilon={model.batch_norm_epsilon}"
    )
