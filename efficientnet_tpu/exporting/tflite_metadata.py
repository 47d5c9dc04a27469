"""TensorFlow Lite's metadata in a .tflite file: they tell MediaPipe and Android's tools that the input is an image,
and where the names of the classes are.

The metadata are a flatbuffer (metadata_schema.fbs, identifier M001) in a buffer of the model. It is written here by the
slot numbers of the schema: the libraries that have the schema need a whole runtime, or are no longer maintained.
"""

from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np

from efficientnet_tpu.data.split import LABELS_TXT
from efficientnet_tpu.exporting.metadata import ExportMetadata

ENTRY = b"TFLITE_METADATA"
# Numbers of metadata_schema.fbs.
_RGB, _IMAGE_PROPERTIES, _TENSOR_AXIS_LABELS = 1, 2, 2
_PARSER = "1.0.0"  # the version of the schema that has all this


def with_metadata(content: bytes, metadata: ExportMetadata) -> bytes:
    """Adds the metadata to a .tflite file, as TensorFlow Lite's converter adds its own."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(_model_metadata(metadata), np.uint8)
    entry.name, entry.buffer = ENTRY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _model_metadata(metadata: ExportMetadata) -> bytes:
    """Builds the flatbuffer ModelMetadata."""
    builder = flatbuffers.Builder(1024)
    text = builder.CreateString
    image = _table(builder, {0: ("Int8", _RGB)})
    content = _table(builder, {0: ("Uint8", _IMAGE_PROPERTIES), 1: image})
    side = metadata.resolution
    description = (
        f"RGB, 0 to 255: the central square of {side} / {side + metadata.eval_crop_padding} of the shorter side, "
        f"resized to {side} x {side} by {metadata.interpolation} interpolation"
    )
    given = _table(builder, {0: text("image"), 1: text(description), 3: content})
    labels = _table(builder, {0: text(LABELS_TXT), 2: ("Int8", _TENSOR_AXIS_LABELS)})
    files = _vector(builder, labels)
    wanted = _table(builder, {0: text("probability"), 6: files})
    graph = _table(builder, {2: _vector(builder, given), 3: _vector(builder, wanted)})
    fields = {
        0: text(metadata.model),
        2: text(f"step {metadata.step}"),
        3: _vector(builder, graph),
        7: text(_PARSER),
    }
    builder.Finish(_table(builder, fields), b"M001")
    return bytes(builder.Output())


def _vector(builder: Any, element: int) -> int:
    """Adds a vector of one table, and returns where it is."""
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(element)
    return builder.EndVector()


def _table(builder: Any, fields: Mapping[int, int | tuple[str, int]]) -> int:
    """Adds a table, and returns where it is.

    fields: by the number of the slot, where the value is, or the value with its kind: ("Int8", 2).
    """
    builder.StartObject(max(fields) + 1)
    for slot, value in fields.items():
        if isinstance(value, tuple):
            kind, number = value
            getattr(builder, f"Prepend{kind}Slot")(slot, number, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()
