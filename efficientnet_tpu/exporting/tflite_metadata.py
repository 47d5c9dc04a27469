"""TensorFlow Lite's metadata in a .tflite file: by it MediaPipe and Android's tools know that the input is an image,
and where the names of the classes are.

The metadata are a flatbuffer of their own (metadata_schema.fbs, identifier M001) in a buffer of the model. Written here
by the numbers of the schema, because the libraries that know it bring a whole runtime with them, or are given up.
"""

from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np

from efficientnet_tpu.exporting.metadata import LABELS_TXT, Card

ENTRY = b"TFLITE_METADATA"
# Numbers of metadata_schema.fbs.
_RGB, _IMAGE_PROPERTIES, _TENSOR_AXIS_LABELS = 1, 2, 2
_PARSER = "1.0.0"  # the version of the schema that has all this


def with_metadata(content: bytes, card: Card) -> bytes:
    """The model with metadata, written anew as the converter itself does when it adds its own."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(metadata(card), np.uint8)
    entry.name, entry.buffer = ENTRY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def metadata(card: Card) -> bytes:
    """The flatbuffer ModelMetadata."""
    builder = flatbuffers.Builder(1024)
    image = _table(builder, {0: ("Int8", _RGB)})
    content = _table(builder, {0: ("Uint8", _IMAGE_PROPERTIES), 1: image})
    said = (
        f"RGB, 0 to 255: the central square of {card.resolution} / {card.resolution + card.eval_crop_padding} of the "
        f"shorter side, resized to {card.resolution} x {card.resolution} by bicubic interpolation"
    )
    given = _table(builder, {0: _text(builder, "image"), 1: _text(builder, said), 3: content})
    labels = _table(builder, {0: _text(builder, LABELS_TXT), 2: ("Int8", _TENSOR_AXIS_LABELS)})
    files = _vector(builder, labels)
    wanted = _table(builder, {0: _text(builder, "probability"), 6: files})
    graph = _table(builder, {2: _vector(builder, given), 3: _vector(builder, wanted)})
    fields = {
        0: _text(builder, card.model),
        2: _text(builder, f"step {card.step}"),
        3: _vector(builder, graph),
        7: _text(builder, _PARSER),
    }
    builder.Finish(_table(builder, fields), b"M001")
    return bytes(builder.Output())


def _text(builder: Any, text: str) -> int:
    return builder.CreateString(text)


def _vector(builder: Any, element: int) -> int:
    """Of one table."""
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(element)
    return builder.EndVector()


def _table(builder: Any, fields: Mapping[int, int | tuple[str, int]]) -> int:
    """fields: by the number of the slot, what was made before, or a kind of number and the number."""
    builder.StartObject(max(fields) + 1)
    for slot, value in fields.items():
        if isinstance(value, tuple):
            kind, number = value
            getattr(builder, f"Prepend{kind}Slot")(slot, number, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()
