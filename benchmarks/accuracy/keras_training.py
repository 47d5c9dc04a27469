"""Keras' fit on the same networks, in Keras' own layers, as its guides train.

python -m accuracy.keras_training '{"data_dir": ..., ...}'   see contestants.py and time_to_accuracy.py for the keys
python -m accuracy.keras_training logits IMPORT              of same_weights.py's images
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from accuracy.same_weights import check_images
from accuracy.training import accuracy_line
from keras import layers

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run import run_record
from efficientnet_tpu.run.checkpoint import restore_average

_GUIDE_SHARE = 4 / 29  # of its epochs, for the last layers
_GUIDE_LAYERS = 20


def main() -> None:
    """Trains by the settings in the argument."""
    if sys.argv[1] == "logits":
        print(json.dumps(pretrained(sys.argv[2]).predict(check_images(), verbose=0).tolist()))
        return
    settings = json.loads(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    keras.utils.set_random_seed(settings["seed"])
    train, held_out = _batches(settings)
    num_classes = train.element_spec[1].shape[-1]
    if settings["weights"]:
        _fine_tune(settings, num_classes, train, held_out)
    else:
        model = in_stock_layers(_network(num_classes, stage_table=settings["stage_table"]))
        count = sum(weight.shape.num_elements() for weight in model.trainable_weights)
        assert count == settings["num_parameters"], f"{count} parameters, not {settings['num_parameters']}"
        _fit(model, settings["learning_rates"][0], train, held_out, (0, settings["epochs"]))


def pretrained(imported: str) -> keras.Model:
    """Returns the network of an import, with its weights, in Keras' own layers; its outputs are logits."""
    stored = run_record.load(imported).config
    model = build_model(configured_architecture(stored.model, NUM_IMAGENET_CLASSES))
    restore_average(model, imported, "last")
    return in_stock_layers(model)


def in_stock_layers(model: keras.Model) -> keras.Model:
    """Returns a network with the same weights, in which Keras' own batch norm and dropout stand for this project's."""

    def stock(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if type(layer).__name__ == "BatchNormalization":
            return layers.BatchNormalization(momentum=layer.momentum, epsilon=layer.epsilon, name=layer.name)
        if isinstance(layer, layers.Dropout):
            return layers.Dropout(layer.rate, layer.noise_shape, name=layer.name)
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=stock)
    for layer in copy.layers:
        own = {weight.name: weight for weight in model.get_layer(layer.name).weights}
        for weight in layer.weights:
            if weight.name in own:  # Keras' generators of dropout are new
                weight.assign(own[weight.name])
    return copy


def _network(num_classes: int, **options: Any) -> keras.Model:
    return build_model(configured_architecture(with_options(Config(), options).model, num_classes))


def _fine_tune(settings: dict[str, Any], num_classes: int, train: tf.data.Dataset, held_out: tf.data.Dataset) -> None:
    """The guide: a new top on the frozen network, then its last layers too; batch norm stays frozen."""
    network = pretrained(settings["imported"])
    network.trainable = False
    x = layers.GlobalAveragePooling2D(name="avg_pool")(network.get_layer("pool").input)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.2, name="top_dropout")(x)
    model = keras.Model(network.inputs, layers.Dense(num_classes, name="pred")(x))
    last = max(1, round(settings["epochs"] * _GUIDE_SHARE))
    first = settings["epochs"] - last
    if first:
        _fit(model, settings["learning_rates"][0], train, held_out, (0, first))
    for layer in model.layers[-_GUIDE_LAYERS:]:
        if not isinstance(layer, layers.BatchNormalization):
            layer.trainable = True
    _fit(model, settings["learning_rates"][1], train, held_out, (first, first + last))


def _fit(
    model: keras.Model, rate: float, train: tf.data.Dataset, held_out: tf.data.Dataset, epochs: tuple[int, int]
) -> None:
    """Trains from the first to the last epoch of `epochs`."""
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    report = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: print(accuracy_line(epoch + 1, logs["val_accuracy"]), flush=True)
    )
    start, end = epochs
    model.fit(train, epochs=end, initial_epoch=start, validation_data=held_out, callbacks=[report], verbose=0)


def _batches(settings: dict[str, Any]) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Returns the training images, augmented, and the held-out ones, as batches of images and one-hot labels."""
    read = {
        "label_mode": "categorical",
        "image_size": (settings["size"], settings["size"]),
        "batch_size": settings["batch_size"],
    }
    folder = settings["data_dir"]
    train = keras.utils.image_dataset_from_directory(f"{folder}/train", seed=settings["seed"], **read)
    held_out = keras.utils.image_dataset_from_directory(f"{folder}/validation", shuffle=False, **read)
    num_classes = train.element_spec[1].shape[-1]
    if not settings["weights"]:  # small images: they are decoded once
        train, held_out = train.unbatch().cache().shuffle(10_000).batch(settings["batch_size"]), held_out.cache()
        train = train.map(lambda images, labels: (images, tf.ensure_shape(labels, [None, num_classes])))
    augment = _augmentation(settings["augmentation"])
    train = train.map(lambda images, labels: (augment(images), labels), num_parallel_calls=tf.data.AUTOTUNE)
    return train.prefetch(tf.data.AUTOTUNE), held_out.prefetch(tf.data.AUTOTUNE)


def _augmentation(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of images, float32 [batch, height, width, 3]."""
    steps = {
        "guide": [
            layers.RandomRotation(0.15),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomFlip(),
            layers.RandomContrast(0.1),
        ],
        "flip, rotation": [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)],
    }[name]

    def augment(images: tf.Tensor) -> tf.Tensor:
        for step in steps:
            images = step(images, training=True)
        return images

    return augment


if __name__ == "__main__":
    main()
