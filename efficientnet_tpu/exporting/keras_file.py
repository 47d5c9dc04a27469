"""The inference model as a .keras file: pixels in, probabilities out; Keras' own layers, labels in the archive."""

import os

import keras
import tensorflow as tf

from efficientnet_tpu.exporting.classifier import ExportedModel, prepared_by_tensorflow
from efficientnet_tpu.exporting.metadata import ExportMetadata, foreign_file, read_metadata, texts_in, with_texts
from efficientnet_tpu.storage.temporary_directory import temporary_directory, users_temporary_place
from efficientnet_tpu.storage.write_errors import explained_write_errors

_REMEDY = "Set TMPDIR to another directory"


def file_content(model: keras.Model, metadata: ExportMetadata) -> bytes:
    """Returns the bytes of a .keras file. Keras writes local files only, so the file is made in a temporary folder."""
    with temporary_directory() as folder:
        path = os.path.join(folder, "model.keras")
        with explained_write_errors(f"TMPDIR={users_temporary_place()}", _REMEDY):
            model.save(path)
        with open(path, "rb") as file:
            return with_texts(file.read(), metadata.as_texts())


def load(content: bytes, path: str) -> ExportedModel:
    """Loads a .keras file without running code that it may contain (safe_mode). path: for messages."""
    metadata = read_metadata(texts_in(content, path), path)
    with temporary_directory() as folder:
        local = os.path.join(folder, "model.keras")
        with explained_write_errors(f"TMPDIR={users_temporary_place()}", _REMEDY), open(local, "wb") as file:
            file.write(content)
        try:
            model = keras.models.load_model(local, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise foreign_file(path, f"Keras cannot load it: {str(error).partition(chr(10))[0]}") from error
    size = metadata.resolution
    call = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)],
        autograph=False,
    )
    return prepared_by_tensorflow(metadata, lambda images: call(tf.constant(images)).numpy())
