"""Starts a training from existing weights: a run's, an import's, or those of another program's file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.class_matching import are_numbers, match_classes
from efficientnet_tpu.data.sources.imagenet_classes import imagenet_names
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Architecture
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run import checkpoint, run_record
from efficientnet_tpu.run.chosen_checkpoint import choose_checkpoint
from efficientnet_tpu.training import ema
from efficientnet_tpu.weights.assign_weights import assign_weights, read_weights, weights_by_name
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
        stated = stated_normalization(path, architecture, config.weights.tf1_weights, config.weights.source_model)
    return with_options(config, {"normalization": stated})


def start_from(
    path: str, model: keras.Model, average: keras.Model, config: Config, label_names: tuple[str, ...]
) -> str:
    """Assigns weights to `model` and its `average` before the first step; returns a line on what was assigned.

    path: the directory of a run (trained or imported), whose average is taken, of the checkpoint that its record says,
    the best as a rule; or any file that `import-weights` reads.
    config, label_names: the new run's.
    Classes are matched by name, see `_rows_to_keep`; what is new in the classifier starts at zero. Must be called
    outside of a replica. Raises UserError for weights of another model.
    """
    architecture = configured_architecture(config.model, len(label_names))
    if tf.io.gfile.exists(os.path.join(path, run_record.RUN_JSON)):
        rows, num_stored, taken = _assign_from_run(path, model, architecture, label_names)
    else:
        taken = ""
        rows, num_stored = _assign_from_file(path, model, architecture, config, label_names)
    ema.start(average, model)
    parts = (f"starting from the weights in {path}", taken, _describe(rows, num_stored))
    return "; ".join(filter(None, parts))


def _rows_to_keep(label_names: Sequence[str], stored_names: Sequence[str]) -> tuple[int | None, ...]:
    """Returns for each class its row in the classifier of the weights, None where it is new.

    Rows are kept where one list of classes has all of the other's: the same in any order, some of them, or more. A few
    names that happen to be in both make no such list, and neither do numbers, which every set has: the whole classifier
    is new.
    """
    rows = match_classes(label_names, stored_names)
    num_known = len(rows) - rows.count(None)
    one_holds_the_other = num_known == min(len(rows), len(stored_names))
    if one_holds_the_other and (len(rows) == len(stored_names) or not are_numbers(label_names)):
        return rows
    return (None,) * len(rows)


def _describe(rows: Sequence[int | None], num_stored: int) -> str:
    """Returns what the classifier is made of, in words."""
    num_known = len(rows) - rows.count(None)
    if not num_known:
        theirs = f"those of the weights are {num_stored} others" if num_stored else "the weights have no classifier"
        return f"the classifier of {len(rows)} classes is new: {theirs}"
    if num_known == len(rows) == num_stored:
        return f"the classifier of its {num_stored} classes too"
    if num_known == len(rows):
        return f"the classifier of {num_known} of its {num_stored} classes too"
    return f"the classifier of its {num_stored} classes too, and {len(rows) - num_known} new classes"


def _assign_rows(model: keras.Model, stored: Mapping[str, np.ndarray], rows: Sequence[int | None]) -> None:
    """Makes the classifier of rows of another one, [..., classes]; those of new classes are zero.

    At zero they send no gradient into the trained layers before they have learned. The initialization of training from
    scratch is uniform up to 1 / sqrt(number of classes), whatever the number of features. With 1,280 features and 5
    classes the first loss was 6 to 10, and its gradient spoiled what had been learned. Kolesnikov et al. 2020 (Big
    Transfer) start at zero too.
    """
    known = [label for label, row in enumerate(rows) if row is not None]
    for name, weight in weights_by_name(model).items():
        if name.startswith(CLASSIFIER):
            value = np.zeros(weight.shape, np.float32)
            if known:
                value[..., known] = stored[name][..., [rows[label] for label in known]]
            weight.assign(value)


def _assign_from_run(
    path: str, model: keras.Model, architecture: Architecture, label_names: tuple[str, ...]
) -> tuple[tuple[int | None, ...], int, str]:
    """Returns the classifier's rows of `_rows_to_keep`, the number of classes of the weights, and which checkpoint they
    are of.
    """
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
    chosen = choose_checkpoint(record.config, record.config.eval.checkpoint)
    checkpoint.restore_average(trained, path, chosen.which)
    rows = _rows_to_keep(label_names, record.label_names)
    weights = {name: weight.numpy() for name, weight in weights_by_name(trained).items()}
    for name, weight in weights_by_name(model).items():
        if not name.startswith(CLASSIFIER):
            weight.assign(weights[name])
    _assign_rows(model, weights, rows)
    return rows, len(record.label_names), chosen.description


def _assign_from_file(
    path: str, model: keras.Model, architecture: Architecture, config: Config, label_names: tuple[str, ...]
) -> tuple[tuple[int | None, ...], int]:
    """Returns the classifier's rows of `_rows_to_keep`, and the number of classes of the weights, 0 without any."""
    with open_weight_file(path, architecture, config.weights.tf1_weights, config.weights.source_model) as weight_file:
        for note in weight_file.notes:
            print(note, flush=True)
        num_stored = count_classes(weight_file.tensors, weight_file.naming_scheme, architecture)
        stored = replace(architecture, num_classes=num_stored or architecture.num_classes)
        mapping = match_names(weight_file.path, weight_file.tensors, weight_file.naming_scheme, stored)
        # A file has no names of classes. 1000 of them are ImageNet's; as many others as the run has are the run's.
        stored_names = imagenet_names() if num_stored == NUM_IMAGENET_CLASSES else label_names
        rows: tuple[int | None, ...] = (None,) * len(label_names)
        if num_stored == len(stored_names):
            rows = _rows_to_keep(label_names, stored_names)
        pairs = {name: where for name, where in mapping.pairs.items() if not name.startswith(CLASSIFIER)}
        assign_weights(model, weight_file.path, weight_file.tensors, NameMapping(pairs, mapping.ignored))
        classifier = {name: where for name, where in mapping.pairs.items() if name.startswith(CLASSIFIER)}
        arrays = read_weights(weight_file.path, weight_file.tensors, NameMapping(classifier, ()))
        _assign_rows(model, dict(arrays), rows)
    return rows, num_stored or 0


def _without_free_options(architecture: Architecture) -> Architecture:
    """Returns the architecture without the options that may differ between two networks with the same weights."""
    blocks = tuple(replace(block, drop_rate=0.0) for block in architecture.blocks)
    return replace(
        architecture, name="", resolution=0, num_classes=0, dropout_rate=0.0, batch_norm_momentum=0.0, blocks=blocks
    )
