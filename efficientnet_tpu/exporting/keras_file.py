"""The inference model as a .keras file: pixels in, probabilities out; Keras' own layers, labels in the archive."""

import os
import tempfile

import keras
import tensorflow as tf

from efficientnet_tpu.exporting.metadata import Card, card_of, foreign, texts_in, with_texts
from efficientnet_tpu.exporting.runtime import PixelModel


def file_content(model: keras.Model, card: Card) -> bytes:
    """Keras writes local files only, and a whole file is written at once elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        with open(path, "rb") as file:
            return with_texts(file.read(), card.as_texts())


def load(content: bytes, path: str) -> PixelModel:
    """Runs no code that a file brings along (safe_mode)."""
    card = card_of(texts_in(content, path), path)
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, "model.keras")
        with open(local, "wb") as file:
            file.write(content)
        try:
            model = keras.models.load_model(local, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise foreign(path, f"Keras cannot load it: {str(error).partition(chr(10))[0]}") from error
    size = card.resolution
    call = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)],
        autograph=False,
    )
    return PixelModel(card, lambda images: call(tf.constant(images)).numpy())
